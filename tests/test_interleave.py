"""Interleaved tags: the tokens by hand, prepared and translated text, the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.api import LoadedRun
from nmt_feat.cli.export import export_run
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import END, EOS, FIRST, UNK
from nmt_feat.errors import UserError
from nmt_feat.methods import Interleave
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.build_model import build_model
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from tests.support.applied import plain
from tests.support.entry import call
from tests.support.small import ROOT, Small
from tests.support.small_methods import DIM, settings


class Wrong(Interleave):
    """Writes an id of which there is none, or forgets where its tokens stand."""

    wrong = "id"

    def insert_tokens(self, *args: Any) -> Any:
        """A mistake."""
        tokens, places = super().insert_tokens(*args)
        if self.wrong == "id":
            return tokens + 1000, places
        return (tokens, places[1:]) if self.wrong == "places" else tokens[0].missing


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            "id",
            r"Wrong: insert_tokens gives the id 1,\d+; ids go up to \d+, of 200 pieces and \d+ ",
        ),
        ("places", r"Wrong: insert_tokens gives [\d,]+ ids at [\d,]+ pieces; give each id a piece"),
        ("bug", r"Wrong, line \d+: AttributeError: "),
    ],
)
def test_mistakes_of_a_method(
    small: Small, wrong: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a user's class, which writes tokens while data is prepared, are one sentence."""
    monkeypatch.setattr(
        "nmt_feat.data.interleaving.build_method", lambda *args: Wrong(DIM, args[2])
    )
    monkeypatch.setattr(Wrong, "wrong", wrong)
    with pytest.raises(UserError, match=message):
        prepare_run(small.config("combiner=none", "method=interleave", "features=[upos]"))


BEGINS = [True, True, False, True, True, True, False, False]
SIZES = {"a": 8, "b": 5}


@pytest.mark.parametrize("side", ["before", "after"])
def test_interleave_by_hand(side: str) -> None:
    """The mon-key eats a ban-ana, and a sentence of one word, `eat`, whose first tag is unknown."""
    a = [4, 5, FIRST, 6, 7, 4, FIRST, END, UNK, END]
    b = [3, 4, 4, 3, 3, 4, 4, END, 3, END]
    pieces = [10, 11, 12, 13, 14, 15, 16, EOS, 17, EOS]
    ids = {name: np.array(row, np.int32) for name, row in (("a", a), ("b", b))}
    begins = np.array([*BEGINS, True, False])
    method = Interleave(DIM, SIZES, side=side, order=["b", "a"])
    tokens, places = method.insert_tokens(np.array(pieces, np.int32), ids, begins, 100)
    # b: unknown 100, values 101 and 102; a: unknown 103, values 104 to 108
    the, monkey, eats, banana = [101, 105], [102, 106], [101, 107], [102, 105]
    words = [(the, [10]), (monkey, [11, 12]), (eats, [13]), ([101, 108], [14]), (banana, [15, 16])]
    expected, of = [], []
    for tags, word in (*words, ([], [EOS]), ([101, 103], [17]), ([], [EOS])):
        expected += [*tags, *word] if side == "before" else [*word, *tags]
        first, last = (pieces.index(word[0]), pieces.index(word[-1])) if tags else (0, 0)
        at, rows = (first, range(first, last + 1)) if side == "before" else (last, [])
        of += [*[at] * len(tags), *rows] if side == "before" else [*range(first, last), at]
        of += [at] * len(tags) if side == "after" else []
    assert tokens.tolist() == expected
    ends = [i for i, token in enumerate(expected) if token == EOS]
    real = [position for i, position in enumerate(places.tolist()) if i not in ends]
    assert real == [position for i, position in enumerate(of) if i not in ends]
    assert places[ends].tolist() == [7, 9]
    assert Interleave.count_tokens(SIZES) == 9


@pytest.mark.thorough
def test_interleaved_corpus(small: Small) -> None:
    """Prepared splits and texts that are translated are the same tokens; words start as ever."""
    cfg = settings(small, "interleave")
    cfg.method.args["side"] = "after"
    prepared, plain = prepare_run(cfg), prepare(cfg, cfg.features)
    words = sum(len(sentence.words) for sentence in read_conllu(small.corpus / "train.conllu"))
    train = prepared.train
    assert train.source_lengths.sum() == plain.train.source_lengths.sum() + 2 * words
    assert prepared.report.splits["train"]["source"]["pieces"] == train.source_lengths.sum() - len(
        train
    )
    run = run_training(cfg)
    model = TrainedModel(run.folder)
    split = model.encode_pairs(*model.read_test_set())
    (tested,) = prepared.tests.values()
    assert split.source.values.tolist() == tested.source.values.tolist()
    assert split.source.offsets.tolist() == tested.source.offsets.tolist()
    pieces = prepared.encoder.subwords.size
    sizes = prepared.encoder.id_counts, pieces, 9
    tagged = build_model(TrainConfig(model=cfg.model, method=cfg.method), *sizes)
    words_only = build_model(TrainConfig(model=cfg.model), *sizes)
    assert tagged.source.words is not None
    assert words_only.source.words is not None
    tags = Interleave.count_tokens(prepared.encoder.id_counts)
    assert len(tagged.source.words.weight) == pieces + tags
    assert tagged.source.words.weight[:pieces].equal(words_only.source.words.weight)
    assert LoadedRun(run.folder).inspect(next(iter(read_conllu(small.corpus / "dev.conllu"))))
    pytest.importorskip("ctranslate2")
    export_run(run.folder, None, None, 64)
    text = f"input={small.corpus / 'test.conllu'}"
    done = call("translate", f"run={run.folder}", text, "beam=1")
    exported = call("translate", f"run={run.folder}", text, "beam=1", "engine=ctranslate2")
    assert (done.code, exported.out) == (0, done.out)


def test_tags_have_all_values_that_are_joined(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also those that only the last piece of a word has; translated text has the same tokens."""
    monkeypatch.chdir(ROOT / "tests" / "support")  # the annotator is a module there
    monkeypatch.syspath_prepend(".")
    plain(small.corpus, tmp_path / "plain")
    files = [
        f"data.{key}.{side}={key.rpartition('.')[2]}.{end}"
        for key in ("train", "dev", "tests.test")
        for side, end in (("source", "en"), ("target", "de"))
    ]
    tags = {}
    for policy in ("copy", "first"):
        cfg = Small(tmp_path / "plain", tmp_path / "cache", tmp_path).config(
            *("data=files", "data.source_lang=en", "data.target_lang=de", *files),
            *("annotator._target_=halving.Halves", "annotator.processes=1"),
            *("combiner=none", "method=interleave", "features=[upos]", "trainer.max_steps=2"),
            f"features.upos.policy={policy}",
        )
        prepared = prepare_run(cfg)
        (tested,) = prepared.tests.values()
        ids = tested.source.values - prepared.encoder.subwords.size
        names = ["<unk>", *prepared.encoder.features["upos"].values]
        tags[policy] = [names[i] for i in ids[ids >= 0].tolist()]
        tokens = [token for text in tested.source_texts for token in text.split()]
        joined = "+".join(tags[policy]).split("+")
        assert joined.count("FRONT") == len(tokens)
        assert joined.count("BACK") >= sum(len(token) > 1 for token in tokens)
        model = TrainedModel(run_training(cfg).folder)
        split = model.encode_pairs(*model.read_test_set())
        assert split.source.values.tolist() == tested.source.values.tolist()
    assert tags["copy"] == tags["first"]  # where the first piece has all of them anyway
