"""Ready-made vectors as the start of the source's word table, through whole runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from nmt_feat.data.prepare import prepare
from nmt_feat.runs.setup.artifacts import build_run_model
from nmt_feat.runs.setup.initial_vectors import set_initial_vectors
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.word_vectors import read_vectors
from tests.support.applied import said
from tests.support.entry import call
from tests.support.small import Small, record

WIDTH = 16
BASE = ("subword=none", "combiner=add", "features=[upos]", "model.dim=16", "trainer.max_steps=4")
TABLE = "source.words.weight"


@pytest.fixture(scope="module")
def words(corpus: Path) -> list[str]:
    """Most words of the small corpus's sources."""
    sentences = read_conllu(corpus / "train.conllu")
    every = sorted({word for sentence in sentences for word in sentence.text.split()})
    return [word for i, word in enumerate(every) if i % 4]


def write(path: Path, words: list[str], width: int = WIDTH, seed: int = 1) -> Path:
    rows = np.random.default_rng(seed).normal(3, 2, (len(words), width))
    lines = [f"{w} {' '.join(f'{x:.4f}' for x in r)}" for w, r in zip(words, rows, strict=True)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def file(words: list[str], tmp_path: Path) -> Path:
    return write(tmp_path / "mine.txt", [*words, "unheard"])


def expected(file: Path, names: list[str], std: float) -> dict[int, np.ndarray]:
    """By id the row of each piece, by the file's lines alone."""
    lines = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()]
    vectors = {fields[0]: np.array(fields[1:], np.float64) for fields in lines}
    rows = {}
    for id, name in enumerate(names):
        for spelled in (name, name.removeprefix("▁")):
            if id > 3 and spelled in vectors:
                rows[id] = vectors[spelled]
                break
    size = np.sqrt(np.mean([row**2 for row in rows.values()]))
    return {id: row * std / size for id, row in rows.items()}


@pytest.mark.parametrize("subword", ["none", "bpe"])
def test_the_start(subword: str, small: Small, file: Path) -> None:
    """Rows that have a vector have it at the scale of all tables; all else is as without."""
    cfg = small.config(*BASE, f"subword={subword}", f"model.source_vectors={file}")
    prepared = prepare(cfg, cfg.features)
    plain, model = (build_run_model(cfg, prepared.encoder, prepared.target) for _ in range(2))
    set_initial_vectors(model, cfg, prepared)
    rows = expected(file, prepared.encoder.subwords.names, 16**-0.5)
    assert len(rows) > 10
    assert len(rows) < prepared.encoder.subwords.size - 10
    before, after = dict(plain.named_parameters()), dict(model.named_parameters())
    for name in before:
        initial, trained_rows = before[name].detach().numpy(), after[name].detach().numpy()
        if name == TABLE:
            for id, row in rows.items():
                np.testing.assert_allclose(trained_rows[id], row, rtol=1e-4)
            rest = [id for id in range(len(initial)) if id not in rows]
            initial, trained_rows = initial[rest], trained_rows[rest]
        np.testing.assert_array_equal(initial, trained_rows)


def test_a_piece_as_it_is_written_comes_first(small: Small, tmp_path: Path) -> None:
    cfg = small.config(*BASE, "subword=bpe")
    names = prepare(cfg, cfg.features).encoder.subwords.names
    piece = next(name for name in names[4:] if name.startswith("▁") and len(name) > 2)
    file = write(tmp_path / "pieces.txt", [piece[1:], piece, "x" * 30])
    cfg.model.source_vectors = str(file)
    prepared = prepare(cfg, cfg.features)
    model = build_run_model(cfg, prepared.encoder, prepared.target)
    set_initial_vectors(model, cfg, prepared)
    row = model.source.words.weight[names.index(piece)].detach().numpy()
    _, vectors = read_vectors(file)
    assert np.corrcoef(row, vectors[1])[0, 1] > 0.999


@pytest.mark.thorough
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_or_trained(frozen: bool, small: Small, file: Path) -> None:
    more = (f"model.source_vectors={file}", f"model.source_frozen={frozen}")
    folder = small.train(*BASE, *more)
    table = load_file(folder / "model.safetensors")[TABLE]
    cfg = small.config(*BASE, *more)
    names = prepare(cfg, cfg.features).encoder.subwords.names
    rows = expected(file, names, 16**-0.5)
    close = [np.allclose(table[id], row, rtol=1e-4) for id, row in rows.items()]
    assert all(close) == frozen
    assert (sum(close) > len(close) / 2) == frozen  # rare words were not in the few updates
    plain = small.train(*BASE)
    fewer = record(plain)["parameters"]["total"] - record(folder)["parameters"]["total"]
    assert fewer == frozen * len(rows) * WIDTH
    trained_rows = load_file(plain / "model.safetensors")[TABLE]
    rest = [id for id in range(4, len(names)) if id not in rows]
    assert not np.array_equal(table[rest], trained_rows[rest])  # trained, beside other rows


@pytest.mark.thorough
def test_coverage_translation_and_names(
    small: Small, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The folder's name follows the content, not the place; translation needs no file."""
    arguments = (*BASE, f"model.source_vectors={file}")
    folder = small.train(*arguments)
    out = " ".join(capsys.readouterr().out.split())
    cfg = small.config(*arguments)
    prepared = prepare(cfg, cfg.features)
    names = prepared.encoder.subwords.names
    in_file = expected(file, names, 1.0)
    ids = prepared.train.source.values
    share = sum(int(id) in in_file for id in ids) / sum(int(id) > 3 for id in ids)
    assert (
        f"model.source_vectors: {len(in_file):,} of {len(names) - 4:,} source pieces have a vector "
        f"({len(in_file) / (len(names) - 4):.1%}), {share:.1%} of those in train"
    ) in out
    moved = shutil.move(file, tmp_path / "moved.txt")
    assert small.train(*BASE, f"model.source_vectors={moved}") == folder
    trained_rows = write(file, ["I", "saw"], seed=2)
    assert small.train(*BASE, f"model.source_vectors={trained_rows}") != folder
    assert small.train(*BASE) != folder
    file.unlink()
    done = call("translate", f"run={folder}", f"input={small.corpus / 'test.conllu'}")
    assert (done.code, said(done)) == (0, "")
    assert done.out == (folder / "test.hyp").read_text()


@pytest.mark.parametrize(
    ("width", "overrides", "message"),
    [
        (
            12,
            (),
            "model.source_vectors=FILE: its vectors have 12 numbers, the word has 16 (16 word, 16 "
            "upos to 16); change model.dim, the combiner or a feature's dim",
        ),
        (
            12,
            ("combiner=concat", "features.upos.dim=3"),
            "model.source_vectors=FILE: its vectors have 12 numbers, the word has 13 (16 = 13 word "
            "+ 3 upos); change model.dim, the combiner or a feature's dim",
        ),
        (
            16,
            ("combiner=concat",),
            "model.source_vectors=FILE: its vectors have 16 numbers, the word has 14 (16 = 14 word "
            "+ 2 upos); change model.dim, the combiner or a feature's dim",
        ),
        (
            16,
            ("model.tie=all",),
            "model.source_vectors=FILE: with model.tie=all the table is the target's as well; set "
            "model.tie=target",
        ),
        (
            16,
            ("model.source_frozen=true", "optimizer.weight_decay=0.1"),
            "optimizer.weight_decay=0.1: frozen rows would decay; set it to 0, or "
            "model.source_frozen=false",
        ),
        (
            16,
            ("model.source_frozen=true", "model.source_vectors=null"),
            "model.source_frozen=true: set model.source_vectors=FILE, or leave it",
        ),
    ],
)
def test_bad_settings(
    width: int, overrides: tuple[str, ...], message: str, small: Small, tmp_path: Path
) -> None:
    file = write(tmp_path / "mine.txt", ["I", "saw"], width)
    arguments = [*BASE, f"model.source_vectors={file}"]
    changed = {override.partition("=")[0] for override in overrides}
    arguments = [o for o in arguments if o.partition("=")[0] not in changed]
    done = call("train", *small.overrides(*arguments, *overrides))
    assert done.code == 2
    assert done.err.replace(str(file), "FILE") == f"error: {message}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "자 " + "1 " * 15 + "1\n",
            "model.source_vectors=FILE: has no vector for any source piece; "
            "give vectors of the source language",
        ),
        ("I " + "1 " * 15 + "nan\n", "FILE:1: the vector of 'I' has nan; remove the line"),
        (
            "I " + "1 " * 15 + "1\nsaw 1\n",
            "FILE:2: 1 numbers behind 'saw', the file's width is 16; "
            "correct the line or get the file again",
        ),
        (None, "FILE: no such file; check the path"),
    ],
)
def test_bad_files(content: str | None, message: str, small: Small, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    done = call("train", *small.overrides(*BASE, f"model.source_vectors={file}"))
    assert done.code == 2
    assert done.err.replace(str(file), "FILE") == f"error: {message}\n"


def test_wanted_words(tmp_path: Path) -> None:
    """All lines are checked, those of wanted words given."""
    file = write(tmp_path / "v", ["a", "b", "c"], 2)
    every = read_vectors(file)[1]
    names, vectors = read_vectors(file, wanted={"c", "a", "x"})
    assert names == ["a", "c"]
    np.testing.assert_array_equal(vectors, every[[0, 2]])
    assert read_vectors(file, wanted=set())[1].shape == (0, 2)
