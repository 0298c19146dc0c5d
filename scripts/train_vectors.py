"""Two sets of word vectors from the training text, for experiment=meta_embedding.

    python scripts/train_vectors.py vectors
    python scripts/train_vectors.py vectors --source my/train.en --dim 100

Counts, reweighted and reduced by a truncated singular value decomposition, in two ways:
`window.txt` by positive pointwise mutual information of words at most two words apart (Levy &
Goldberg 2014), `sentence.txt` by tf-idf of words in sentences (latent semantic analysis, Deerwester
et al. 1990). The format is GloVe's. The same text gives the same vectors, but for the last digits.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from nmt_feat.base.outputs import refuse_inputs, write_to
from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.errors import UserError, fail, writing_to
from nmt_feat.runs.inputs import Text, add_options, read_all, text_of
from nmt_feat.text.units import visible_characters
from nmt_feat.text.word_values import whitespace_words

WINDOW = 2


def words_of(text: Text) -> list[list[str]]:
    """The words of each sentence as the column `form` has them: annotated, or between spaces."""
    words = (sentence.words or whitespace_words(sentence.text) for sentence in read_all(text))
    return [[visible_characters(word.form) for word in each] for each in words]


def window_counts(sentences: Sequence[Sequence[int]], size: int) -> csr_matrix:
    """Positive pointwise mutual information of words at most `WINDOW` apart, `(size, size)`."""
    pairs = Counter(
        pair
        for sentence in sentences
        for i, a in enumerate(sentence)
        for b in sentence[i + 1 : i + 1 + WINDOW]
        for pair in ((a, b), (b, a))
    )
    rows, columns = np.array(list(pairs), int).reshape(-1, 2).T
    counts = np.array(list(pairs.values()), float)
    sums = np.bincount(rows, counts, size)
    information = np.log(counts * counts.sum() / (sums[rows] * sums[columns]))
    return csr_matrix((np.maximum(information, 0), (rows, columns)), (size, size))


def sentence_counts(sentences: Sequence[Sequence[int]], size: int) -> csr_matrix:
    """tf-idf of words in sentences, `(size, sentences)`."""
    counts = Counter((w, i) for i, sentence in enumerate(sentences) for w in sentence)
    rows, columns = np.array(list(counts)).T
    rarity = np.log(len(sentences) / np.bincount(rows, minlength=size))
    values = np.array(list(counts.values())) * rarity[rows]
    return csr_matrix((values, (rows, columns)), (size, len(sentences)))


def reduced(matrix: csr_matrix, dim: int) -> NDArray[np.float64]:
    """`(rows, dim)`: left singular vectors times the roots of their values, the largest first."""
    if not matrix.count_nonzero():
        raise UserError("the text's words do not differ in where they stand; give more text")
    start = np.random.default_rng(1).normal(size=min(matrix.shape))
    left, values, _ = svds(matrix, k=dim, v0=start)
    order = np.argsort(-values)
    vectors = left[:, order] * np.sqrt(values[order])
    largest = np.abs(vectors).argmax(0), np.arange(dim)
    found: NDArray[np.float64] = vectors * np.where(vectors[largest] < 0, -1, 1)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, reduce, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where the two files go")
    source = find_resource("data/embedded") / "train.conllu"
    parser.add_argument("--source", type=Path, default=source, help="text, CoNLL-U or JSON lines")
    add_options(parser, raw=False)
    parser.add_argument("--dim", type=int, default=64, help="width of the vectors")
    given = parser.parse_args(arguments)
    use_utf8()
    try:
        for kind in ("window", "sentence"):
            refuse_inputs(given.out / f"{kind}.txt", "", [given.source])
        sentences = words_of(text_of(given.source, given))
        names = sorted({word for sentence in sentences for word in sentence if word})
        most = min(len(names), len(sentences)) - 1
        if not 1 <= given.dim <= most:
            raise UserError(
                f"--dim {given.dim}: {given.source} has {len(names)} words in {len(sentences)} "
                f"sentences; give 1 to {max(most, 1)}, or more text"
            )
        place = {name: i for i, name in enumerate(names)}
        ids = [[place[word] for word in sentence if word] for sentence in sentences]
        with writing_to(given.out):
            given.out.mkdir(parents=True, exist_ok=True)
        for kind, count in (("window", window_counts), ("sentence", sentence_counts)):
            vectors = reduced(count(ids, len(names)), given.dim)
            rows = zip(names, vectors.tolist(), strict=True)
            lines = [" ".join([name, *(f"{x:.6f}" for x in vector)]) for name, vector in rows]
            path = given.out / f"{kind}.txt"
            with write_to(path) as file:
                file.writelines(f"{line}\n" for line in lines)
            say(f"{path}: {len(names):,} words, {given.dim} numbers each")
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
