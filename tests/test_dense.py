"""Ready-made word vectors as a second embedding, trained on the spot, through whole runs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from nmt_feat.embedders.ids import END, UNK
from nmt_feat.features import Vectors
from nmt_feat.text.conllu import read_conllu
from tests.support.entry import call
from tests.support.small import Small, record

WIDTH = 6


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of the words of the small corpus: a singular value decomposition of its bigrams."""
    sentences = [[w.form for w in s.words] for s in read_conllu(corpus / "train.conllu")]
    words = sorted({word for sentence in sentences for word in sentence} - {"."})
    index_of_word = {word: i for i, word in enumerate(words)}
    counts = np.zeros((len(words), len(words)))
    for (a, b), n in Counter(p for s in sentences for p in pairwise(s)).items():
        if a in index_of_word and b in index_of_word:
            counts[index_of_word[a], index_of_word[b]] += n
            counts[index_of_word[b], index_of_word[a]] += n
    left_vectors, sizes, _ = np.linalg.svd(np.log1p(counts))
    vectors = left_vectors[:, :WIDTH] * np.sqrt(sizes[:WIDTH])
    lines = [f"{w} {' '.join(f'{x:.6f}' for x in v)}" for w, v in zip(words, vectors, strict=True)]
    lines.append("unheard " + " ".join(["1"] * WIDTH))
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "glove.txt").write_text("".join(f"{line}\n" for line in lines))
    header = f"{len(lines)} {WIDTH}\n"
    (folder / "word2vec.txt").write_text(header + "".join(f"{line}\n" for line in lines))
    return folder


def settings(file: Path, *more: str) -> tuple[str, ...]:
    shared = ("features=[vectors]", f"features.vectors.file={file}", "trainer.max_steps=4")
    return (*shared, "model.dim=32", *more)


@pytest.mark.thorough
@pytest.mark.parametrize("combiner", ["average"])
def test_whole_path(combiner: str, small: Small, trained: Path, tmp_path: Path) -> None:
    """The run needs the file no more, and knows words of it that training did not have."""
    file = tmp_path / "mine.txt"
    file.write_bytes((trained / "glove.txt").read_bytes())
    folder = small.train(f"combiner={combiner}", *settings(file))
    file.unlink()
    assert record(folder)["config"]["features"]["vectors"]["args"] == {"width": WIDTH}
    (tmp_path / "text").write_text("I saw her duck.\nunheard\n")
    done = call("translate", f"run={folder}", f"input={tmp_path / 'text'}")
    assert (done.code, len(done.out.splitlines())) == (0, 2), done.err
    (tmp_path / "de").write_text("Ente\nEnte\n")
    (tmp_path / "pair").write_text("unheard\nunknown\n")
    done = call(
        "score", f"run={folder}", f"source={tmp_path / 'pair'}", f"target={tmp_path / 'de'}"
    )
    assert done.code == 0, done.err


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_or_trained(frozen: bool, small: Small, trained: Path) -> None:
    args = f"+features.vectors.args.frozen={str(frozen).lower()}"
    folder = small.train("combiner=add", *settings(trained / "glove.txt", args))
    weights = load_file(folder / "model.safetensors")["source.features.vectors.table.weight"]
    lines = (trained / "glove.txt").read_text().splitlines()
    vectors = np.array([line.split()[1:] for line in lines], np.float32)
    scaled = vectors / np.sqrt((vectors.astype(np.float64) ** 2).mean())
    close = np.allclose(weights, scaled, rtol=1e-5, atol=1e-7)
    assert close == frozen
    run_record = record(folder)
    assert (run_record["parameters"]["features"] > vectors.size) == (not frozen)


@pytest.mark.thorough
def test_the_format_changes_nothing(small: Small, trained: Path) -> None:
    glove = small.train("combiner=add", *settings(trained / "glove.txt"))
    word2vec = small.train("combiner=add", *settings(trained / "word2vec.txt"))
    assert record(glove)["curve"] == record(word2vec)["curve"]


@pytest.mark.thorough
def test_words_with_joiners_are_found(small: Small, trained: Path, tmp_path: Path) -> None:
    """Text is looked up by its visible characters; of words alike in these the first counts."""
    text = (trained / "glove.txt").read_text()
    nines = " 9" * WIDTH
    again = "".join(f"{line.split()[0]}{nines}\n" for line in text.splitlines())
    plain, file = tmp_path / "plain.txt", tmp_path / "joined.txt"
    plain.write_text(text)
    joined = "".join(line.replace(" ", "\u200c\u00ad ", 1) for line in text.splitlines(True))
    file.write_text(f"{joined}\u200d{nines}\n{again}")
    tables = [
        load_file(small.train("combiner=add", *settings(path)) / "model.safetensors")[
            "source.features.vectors.table.weight"
        ]
        for path in (plain, file)
    ]
    np.testing.assert_array_equal(*tables)


def test_coverage_is_reported(small: Small, trained: Path, capsys: pytest.CaptureFixture) -> None:
    small.train("combiner=add", *settings(trained / "glove.txt"))
    sentences = read_conllu(small.corpus / "train.conllu")
    counts = Counter(word.form for s in sentences for word in s.words)
    words_with_vectors = {
        line.split()[0] for line in (trained / "glove.txt").read_text().splitlines()
    }
    types = sum(word in words_with_vectors for word in counts)
    tokens = sum(n for word, n in counts.items() if word in words_with_vectors) / counts.total()
    out = " ".join(capsys.readouterr().out.split())
    assert (
        f"features.vectors: {types:,} of {len(counts):,} different words of train have a vector "
        f"({types / len(counts):.1%}), {tokens:.1%} of all"
    ) in out


def test_values() -> None:
    torch.manual_seed(0)
    feature = Vectors(6, 4, 0.5, width=2)
    vectors = np.array([[1, 2], [3, 4], [0, -1]], np.float32)
    feature.load_vectors(vectors)
    out = feature(torch.tensor([[3, 5, UNK, END, 0]]))[0].detach().numpy()
    scaled = vectors / np.sqrt((vectors**2).sum() / 6)
    p = feature.projection.weight.detach().numpy()
    for result, vector in ((out[0], scaled[0]), (out[1], scaled[2])):
        np.testing.assert_allclose(result, [sum(row * vector) for row in p], rtol=1e-5)
    special = feature.special.weight.detach().numpy()
    np.testing.assert_array_equal(out[2:], special[[UNK, END, 0]])
    assert not out[4].any()
    assert not np.array_equal(out[2], out[3])
    feature(torch.tensor([[3, UNK, END, 0]])).sum().backward()
    assert feature.table.weight.grad is None
    assert feature.special.weight.grad is not None
    assert feature.special.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [UNK, END]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (
            "a 1 2\nb 1\n",
            (),
            "FILE:2: 1 numbers behind 'b', the file's width is 2; correct the "
            "line or get the file again",
        ),
        (
            "3 2\na 1 2\nb 1 2\n",
            (),
            "FILE:3: the file ends after 2 words, its first line promises 3; get it again",
        ),
        ("a 1 2\nb nan 2\n", (), "FILE:2: the vector of 'b' has nan; remove the line"),
        ("a 1 2\na 1 2\n", (), "FILE:2: the word 'a' is in line 1 already; remove one of them"),
        (
            "자 1 2\n",
            (),
            "features.vectors.file=FILE: has no vector for any word of train; give "
            "vectors of its language, or set column=lower",
        ),
        (
            "a 1 2\n",
            ("features.vectors._target_=nmt_feat.features.Categorical",),
            "features.vectors.file=FILE: goes with _target_=nmt_feat.features.Vectors, not "
            "nmt_feat.features.Categorical",
        ),
        (
            "a 1 2\n",
            ("features.vectors.file=window.txt",),
            "features.vectors.file=window.txt: no such file; correct the path (those of "
            "experiment=meta_embedding are made by: nmt-feat train-vectors vectors)",
        ),
        (
            "a 1 2\n",
            ("features.vectors.file=null",),
            "features.vectors: nmt_feat.features.Vectors "
            "needs word vectors; set features.vectors.file=FILE",
        ),
        (
            "a 1 2\n",
            ("features.vectors.column=upos", "features.vectors.of=piece"),
            "features.vectors.file=FILE: needs column=form or column=lower, policy=copy",
        ),
    ],
)
def test_bad_input(
    content: str, overrides: tuple[str, ...], message: str, small: Small, tmp_path: Path
) -> None:
    file = tmp_path / "v.txt"
    file.write_text(content, encoding="utf-8")
    arguments = [*settings(file), "combiner=add", *overrides]
    done = call("train", *small.overrides(*arguments))
    assert done.code == 2
    assert done.err.replace(str(file), "FILE") == f"error: {message}\n"
