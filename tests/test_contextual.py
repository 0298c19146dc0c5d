"""Vectors of an encoder made on the spot: values, mapping to our pieces, whole runs."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmt_feat.cli.main import run_subcommand
from nmt_feat.data.batches import collate
from nmt_feat.data.overlaps import find_overlaps
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import UNITS
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.encoders.stored_states import open_states, root_mean_square, store_states
from nmt_feat.features import Contextual
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.subwords import Pieces
from tests.support.applied import said
from tests.support.encoders import (  # type: ignore[attr-defined]
    LAYERS,
    WIDTH,
    byte_pairs,
    corpus_texts,
    save,
    settings,
    transformers,
    word_piece,
)
from tests.support.entry import call
from tests.support.small import Small, outcome, record

TEXTS = [
    "I saw her duck.",
    "  Naïve ducks\tsaw   a saw ",
    "Schön, schöner: e\u0301t\u0301e\u0301 \u200b!",
    "",
    "학교에서 duck 123",
]


@pytest.fixture(scope="session")
def bytewise(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "bytes"
    return save(folder, byte_pairs(corpus_texts(corpus)), longest=12, seed=1)


def loaded(folder: Path) -> tuple[Any, Any]:
    """Tokeniser and model by nothing but `transformers`."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, transformers.AutoModel.from_pretrained(folder).eval()


# ---- values


@pytest.mark.parametrize("layer", [0, 1, -1, -2, -LAYERS - 1])
def test_states(encoder: Path, layer: int) -> None:
    """Those of each text alone, without special pieces."""
    result = LanguageModel("bert", str(encoder), layer, "float32").encode_texts(TEXTS)
    tokenizer, model = loaded(encoder)
    start = 0
    for text, count in zip(TEXTS, result.counts.tolist(), strict=True):
        coded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = coded.pop("offset_mapping")[0, 1:-1].tolist()
        with torch.no_grad():
            states = model(**coded, output_hidden_states=True).hidden_states[layer][0, 1:-1]
        assert result.spans[start : start + count].tolist() == offsets
        np.testing.assert_allclose(result.vectors[start : start + count], states, atol=1e-5)
        start += count
    assert start == len(result.vectors)


def test_windows(bytewise: Path) -> None:
    """A text that is too long: each piece's state is that in the window that knows most of it."""
    text = "I saw her duck and the ducks saw me, and then we saw what she saw in the morning."
    language_model = LanguageModel("bert", str(bytewise), -1, "float32")
    result = language_model.encode_texts(["short", text, "I"])
    tokenizer, model = loaded(bytewise)
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, room = whole["input_ids"], 10
    assert len(ids) > 3 * room
    overlap = room // 4
    step, expected = room - overlap, []
    starts = [0]
    while starts[-1] + room < len(ids):
        starts.append(starts[-1] + step)
    for position in range(len(ids)):
        holding = [s for s in starts if s <= position < s + room]
        # In an overlap of 2, its first piece belongs to the window before, the second to the next.
        start = (
            holding[0] if len(holding) == 1 or position - holding[1] < overlap / 2 else holding[1]
        )
        window = [2, *ids[start : start + room], 3]
        with torch.no_grad():
            states = model(torch.tensor([window])).last_hidden_state[0]
        expected.append(states[1 + position - start].numpy())
    first = int(result.counts[0])
    assert result.counts[1] == len(ids)
    window_slice = slice(first, first + len(ids))
    assert result.spans[window_slice].tolist() == [list(span) for span in whole["offset_mapping"]]
    np.testing.assert_allclose(result.vectors[window_slice], np.array(expected), atol=1e-5)


def test_precision(encoder: Path) -> None:
    exact, rounded = (
        LanguageModel("bert", str(encoder), -2, precision).encode_texts(TEXTS).vectors
        for precision in ("float32", "float16")
    )
    assert rounded.dtype == np.float16
    np.testing.assert_array_equal(exact.astype(np.float16), rounded)
    assert root_mean_square(exact) == pytest.approx(
        float(np.sqrt((exact.astype(float) ** 2).mean()))
    )


# ---- mapping

SIGNS = "ab1é \u0301\u200b▁학"


@st.composite
def segmented(draw: st.DrawFn) -> tuple[str, list[tuple[int, int]], list[tuple[int, int]]]:
    """A text and two segmentations, ours whole, the encoder's with gaps and repeated spans."""
    text = draw(st.text(SIGNS, max_size=12))

    def cut() -> list[tuple[int, int]]:
        at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
        bounds = [0, *at, len(text)]
        return [*pairwise(bounds)]

    theirs = [span for span in cut() for _ in range(draw(st.integers(0, 2)))]
    return text, cut(), theirs


def by_loops(text: str, start: int, end: int, theirs: list[tuple[int, int]]) -> list[int] | None:
    """The encoder's pieces for one of ours; None if letters or digits are in none of them."""

    def visible(a: int, b: int) -> list[int]:
        return [i for i in range(a, b) if text[i] not in " \u200b▁"]

    real = [(n, visible(*span)) for n, span in enumerate(theirs) if visible(*span)]
    visible_span = visible(start, end)
    if visible_span:
        result = [n for n, at in real if at[0] <= visible_span[-1] and at[-1] >= visible_span[0]]
        if result:
            return result
        if any(text[i].isalnum() for i in visible_span):
            return None
    position = visible_span[0] if visible_span else start
    later = [n for n, at in real if at[-1] >= position]
    return later[:1] or [n for n, _ in real][-1:]


@pytest.mark.thorough
@given(st.lists(segmented(), min_size=1, max_size=4))
def test_overlaps(
    sentences: list[tuple[str, list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    texts = [text for text, _, _ in sentences]
    ours = np.array([span for _, spans, _ in sentences for span in spans]).reshape(-1, 2)
    theirs = np.array([s for _, _, spans in sentences for s in spans], np.int64).reshape(-1, 2)
    counts = np.array([len(spans) for _, spans, _ in sentences])
    pieces = Pieces(np.zeros(len(ours), np.int32), counts, ours[:, 0], ours[:, 1])
    result = find_overlaps(texts, pieces, np.array([len(s) for _, _, s in sentences]), theirs)
    rows, position, before = result.rows.tolist(), 0, 0
    number = 0
    for text, spans, others in sentences:
        for span in spans:
            expected = by_loops(text, *span, others)
            assert result.gaps[number] == (expected is None)
            count = int(result.counts[number])
            got = [row - before for row in rows[position : position + count]]
            assert got == (expected or []), (text, span, others)
            position, number = position + count, number + 1
        before += len(others)
    assert position == len(rows)


@pytest.mark.parametrize("kind", ["encoder", "bytewise"])
def test_vectors_of_a_batch(kind: str, small: Small, request: pytest.FixtureRequest) -> None:
    """The mean over the encoder's pieces that have a letter in common with ours, by loops."""
    folder = request.getfixturevalue(kind)
    cfg = small.config("combiner=add", *settings(folder, "features.contextual.precision=float32"))
    prepared = prepare(cfg, cfg.features)
    indices = np.array([5, 0, 17])
    batch = collate(prepared.train, indices, ["contextual"])
    vectors = batch.features["contextual" + UNITS].numpy()
    assert vectors.dtype == np.float32
    assert not vectors[:3].any()
    model = LanguageModel("bert", str(folder), -2, "float32")
    for row, i in enumerate(indices.tolist()):
        text = prepared.train.texts("source")[i]
        states = model.encode_texts([text])
        pieces = prepared.encoder.subwords.encode(text)
        ids = batch.features["contextual"][row].tolist()
        for piece, id in zip(pieces, ids, strict=False):
            letters = {j for j in range(piece.start, piece.end) if not text[j].isspace()}
            spans = [{j for j in range(*s) if not text[j].isspace()} for s in states.spans.tolist()]
            inside = [n for n, span in enumerate(spans) if letters & span]
            if not letters:  # a lone word mark goes with what follows
                inside = [
                    n for n, span in enumerate(spans) if max(span, default=-1) >= piece.start
                ][:1]
            assert inside
            mean = sum(states.vectors[n].astype(np.float64) for n in inside) / len(inside)
            np.testing.assert_allclose(vectors[id], mean, atol=1e-5)
        assert ids[len(pieces)] == 2  # the end symbol
        assert not any(ids[len(pieces) + 1 :])


def test_module() -> None:
    torch.manual_seed(0)
    feature = Contextual(3, 4, 0.5, width=2)
    feature.scale = 2.0
    vectors = torch.tensor([[0.0, 0], [0, 0], [0, 0], [1, 2], [-3, 4]])
    out = feature(vectors).detach().numpy()
    p, b = feature.projection.weight.detach().numpy(), feature.projection.bias.detach().numpy()
    for result, vector in zip(out[3:], vectors[3:].numpy(), strict=True):
        np.testing.assert_allclose(
            result, [sum(r * vector / 2) + c for r, c in zip(p, b, strict=True)], rtol=1e-5
        )
    special = feature.special.weight.detach().numpy()
    np.testing.assert_array_equal(out[:3], special)
    assert not out[0].any()
    feature(vectors)[0].sum().backward()
    assert feature.special.weight.grad is not None
    assert not feature.special.weight.grad.any()  # padding is not trained


# ---- whole runs


@pytest.mark.parametrize("combiner", ["dynamic_switch"])
def test_whole_path(combiner: str, small: Small, encoder: Path, tmp_path: Path) -> None:
    """Raw text gives the run's own hypotheses; the encoder is named by path and hash."""
    folder = small.train(f"combiner={combiner}", *settings(encoder))
    run_record = record(folder)
    assert run_record["config"]["features"]["contextual"]["layer"] == LAYERS - 1
    assert run_record["config"]["features"]["contextual"]["args"] == {"width": WIDTH}
    trained = run_record["parameters"]["features"]
    dim = 8 if combiner == "concat" else 32
    assert trained == (3 + WIDTH + 1) * dim
    feature_content = json.loads((folder / "encoder" / "features.json").read_bytes())["contextual"]
    assert feature_content["encoder"] == str(encoder)
    text = tmp_path / "text"
    sentences = [sentence.text for sentence in read_conllu(small.corpus / "test.conllu")]
    text.write_text("".join(f"{sentence}\n" for sentence in sentences))
    done = call("translate", f"run={folder}", f"input={text}", "chunk=3")
    assert (done.code, said(done)) == (0, "")
    assert done.out == (folder / "test.hyp").read_text()
    done = call("score", f"run={folder}", f"source={text}", f"target={folder / 'test.hyp'}")
    assert (done.code, len(done.out.splitlines())) == (0, len(sentences)), done.err


@pytest.mark.thorough
def test_states_are_made_once(small: Small, encoder: Path, tmp_path: Path) -> None:
    """Whatever the subwords, the seed and the other features are; and gone ones again."""
    small.cache = tmp_path / "cache"
    first = small.train("combiner=add", *settings(encoder))
    paths = sorted(small.cache.glob("contextual-*/vectors"))
    times = [path.stat().st_mtime_ns for path in paths]
    assert len(paths) == 3
    more = ("subword.vocab_size=150", "features=[contextual,upos]", "seed=2")
    small.train("combiner=add", *settings(encoder, *more))
    assert sorted(small.cache.glob("contextual-*/vectors")) == paths
    assert [path.stat().st_mtime_ns for path in paths] == times
    content = paths[0].read_bytes()
    before = outcome(first)
    for harm in (lambda: paths[0].write_bytes(b"\0" + content[1:]), lambda: paths[0].unlink()):
        harm()
        shutil.rmtree(first)
        assert small.train("combiner=add", *settings(encoder)) == first
        assert paths[0].read_bytes() == content
        assert outcome(first) == before


def test_several_at_once(encoder: Path, tmp_path: Path) -> None:
    """One makes the states, the others wait for them."""
    begin, folders, texts = threading.Barrier(3), [], ["I saw her duck."] * 2100

    def work() -> None:
        model = LanguageModel("bert", str(encoder), -2, "float16")
        begin.wait()
        folders.append(store_states(model, texts, tmp_path, messages.append))  # type: ignore[attr-defined]

    messages: list[str] = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert messages == [
        "vectors of tiny: 2,000 of 2,100 sentences",
        "vectors of tiny: 2,100 of 2,100 sentences",
    ]
    states = open_states(folders[0])
    assert len(states.counts) == 2100
    assert states.vectors.shape == (states.counts.sum(), WIDTH)


@pytest.mark.thorough
def test_a_sweep_is_no_other_run(small: Small, encoder: Path, tmp_path: Path) -> None:
    """Same bits from a cache of its own, and with another name of the encoder's folder."""
    folder = small.train("combiner=gate", *settings(encoder), sweep=True)
    encoder_copy = shutil.copytree(encoder, tmp_path / "other")
    alone = Small(small.corpus, tmp_path / "cache", tmp_path / "alone")
    again = alone.train("combiner=gate", *settings(encoder_copy))
    assert again.name == folder.name
    assert outcome(again) == outcome(folder)


@pytest.mark.thorough
def test_what_changes_the_run(small: Small, encoder: Path) -> None:
    base = ("combiner=add", *settings(encoder, "trainer.max_steps=2"))
    names = {
        small.train(*base, *more).name
        for more in (
            (),
            ("features.contextual.layer=1",),
            ("features.contextual.precision=float32",),
        )
    }
    assert len(names) == 3
    assert small.train(*base, f"features.contextual.layer={LAYERS - 1}").name in names


@pytest.mark.slow
def test_masked_controlled_and_beside_others(small: Small, encoder: Path) -> None:
    shared = ("combiner=mixed", "features=[contextual,upos,char]", "trainer.max_steps=2")
    dropped = ("features.contextual.dropout=0.5", "features.contextual.sentence_dropout=0.2")
    for more in (dropped, ("control=shuffled",), ("control=by_type",)):
        shared_settings = [
            o for o in settings(encoder) if not o.startswith(("features=", "trainer"))
        ]
        assert record(small.train(*shared, *shared_settings, *more))["updates"] == 2


def test_inspected_beside_others(small: Small, encoder: Path) -> None:
    """Vectors have no values to show; the other features are shown as ever."""
    command = small.overrides(
        "features=[upos,contextual]", f"features.contextual.encoder={encoder}"
    )
    done = call("inspect", *command, "--examples", "1")
    assert done.code == 0, done.err
    header = next(line for line in done.out.splitlines() if line.startswith("piece "))
    assert header.split() == ["piece", "upos"]


@pytest.mark.slow
def test_moved(small: Small, encoder: Path, tmp_path: Path) -> None:
    """What training used is looked for where it was and in the run's folder, and is checked."""
    mine = shutil.copytree(encoder, tmp_path / "mine")
    folder = small.train("combiner=add", *settings(mine))
    (tmp_path / "text").write_text("I saw her duck.\n")
    command = (f"run={folder}", f"input={tmp_path / 'text'}")
    right = call("translate", *command)
    assert right.code == 0
    moved = mine.rename(tmp_path / "moved")
    encoder_folder = folder / "encoder" / "contextual"
    done = call("translate", *command)
    assert (done.code, done.err) == (
        2,
        f"error: features.contextual.encoder={mine}: no such folder; give the folder of an "
        "encoder, as hf download NAME --local-dir FOLDER makes it\n",
    )
    encoder_folder.symlink_to(moved)
    assert call("translate", *command) == right
    encoder_folder.unlink()
    save(mine, word_piece(["I saw her duck."]), seed=5)
    done = call("translate", *command)
    assert (done.code, done.err) == (
        2,
        f"error: features.contextual: {mine} is not the encoder of training any more, its "
        f"files have changed; put the one of training there, or into {encoder_folder}\n",
    )


@pytest.mark.thorough
@pytest.mark.parametrize("live", ["false", "true"])
def test_export_is_refused(
    live: str,
    small: Small,
    encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip("ctranslate2")
    folder = small.train("combiner=concat", *settings(encoder, f"features.contextual.live={live}"))
    monkeypatch.setattr(sys, "argv", ["export.py", str(folder)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_subcommand("export")
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: features.contextual: an encoder's vectors differ from sentence to sentence and "
        "cannot be exported; use engine=native\n"
    )
