"""Two sets of word vectors from a corpus, and the experiment that merges them, reduced."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.cli.train_vectors import main
from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from nmt_feat.text.word_vectors import read_vectors
from tests.support.small import Small, record

TEXT = "a b c\na b\nc d a\nb d\n"
WORDS = [line.split() for line in TEXT.splitlines()]


def matrices() -> dict[str, np.ndarray]:
    """What is decomposed, from the definitions."""
    names = sorted({word for sentence in WORDS for word in sentence})
    near = np.zeros((4, 4))
    inside = np.zeros((4, len(WORDS)))
    for s, sentence in enumerate(WORDS):
        for i, a in enumerate(sentence):
            inside[names.index(a), s] += 1
            for j, b in enumerate(sentence):
                if 0 < abs(i - j) <= 2:
                    near[names.index(a), names.index(b)] += 1
    window = np.zeros_like(near)
    for i, j in np.argwhere(near):
        odds = near[i, j] * near.sum() / (near[i].sum() * near[:, j].sum())
        window[i, j] = max(0.0, np.log(odds))
    rarity = np.log(len(WORDS) / (inside > 0).sum(1))
    return {"window": window, "sentence": inside * rarity[:, None]}


def test_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """V V' is U S U' of NumPy's decomposition, whatever the signs."""
    (tmp_path / "text").write_text(TEXT)
    main([str(tmp_path / "v"), "--source", str(tmp_path / "text"), "--dim", "3"])
    for kind, matrix in matrices().items():
        words, vectors = read_vectors(tmp_path / "v" / f"{kind}.txt")
        assert words == ["a", "b", "c", "d"]
        left_vectors, values, _ = np.linalg.svd(matrix)
        expected = left_vectors[:, :3] * values[:3] @ left_vectors[:, :3].T
        np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)
    jsonl = tmp_path / "text.jsonl"
    jsonl.write_text("".join(f'{{"text": "{line}"}}\n' for line in TEXT.splitlines()))
    main([str(tmp_path / "w"), "--source", str(jsonl), "--dim", "3"])
    for kind in matrices():
        one, second = (tmp_path / folder / f"{kind}.txt" for folder in "vw")
        assert read_vectors(one)[0] == read_vectors(second)[0]
        np.testing.assert_allclose(read_vectors(one)[1], read_vectors(second)[1], atol=1e-5)
    capsys.readouterr()
    (tmp_path / "alone").write_text("a\nb\nc\n")
    for name, dim, message in (
        ("alone", 1, "all words of the text occur in the same contexts; give more text"),
        ("text", 9, f"--dim 9: {tmp_path / 'text'} has 4 words in 4 sentences; give 1 to 3, or "),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            main([str(tmp_path / "v"), "--source", str(tmp_path / name), "--dim", str(dim)])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "window.txt").mkdir()
    for out, message in (
        ("text", f"{tmp_path / 'text'}: cannot be written (File exists)"),
        ("taken", f"{tmp_path / 'taken' / 'window.txt'}: cannot be written (Is a directory)"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            main([str(tmp_path / out), "--source", str(tmp_path / "text"), "--dim", "3"])
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["window.txt"]


@pytest.mark.parametrize("features", ["vectors", "vectors,upos"])
def test_each_word_of_train_has_a_vector(features: str, small: Small, tmp_path: Path) -> None:
    source = small.corpus / "train.conllu"
    main([str(tmp_path), "--source", str(source), "--dim", "12"])
    file = f"features.vectors.file={tmp_path / 'window.txt'}"
    cfg = small.config("combiner=add", f"features=[{features}]", file)
    (note,) = prepare(cfg, cfg.features).notes
    assert note.endswith("different words of train have a vector (100.0%), 100.0% of all")


@pytest.mark.thorough
def test_meta_embedding(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment's two steps; without the words' table, only the sets differ."""
    monkeypatch.chdir(tmp_path)
    source = str(small.corpus / "train.conllu")
    main(["vectors", "--source", source, "--dim", "12"])
    sizes = {}
    for row in ("none", "meta_window", "meta_sentence", "meta_concat", "meta_average"):
        folder = small.train("experiment=meta_embedding", f"row={row}", "trainer.max_steps=2")
        run_record = record(folder)
        assert run_record["updates"] == 2
        assert (folder / "test.hyp").is_file()
        sizes[row] = run_record["parameters"]
    width, dim, special = 12, 16, 3
    alone = (special + 1 + width) * dim  # tables of special values, projection with bias
    both = {"meta_window": alone, "meta_sentence": alone, "meta_concat": alone}
    for row, features in (both | {"meta_average": 2 * alone}).items():
        assert sizes[row]["features"] == features
        assert sizes["none"]["total"] - sizes[row]["total"] == 200 * dim - features
