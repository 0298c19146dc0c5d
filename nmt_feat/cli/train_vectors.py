"""Two sets of word vectors from the training text, for experiment=meta_embedding.

    nmt-feat train-vectors vectors
    nmt-feat train-vectors vectors --source my/train.en --dim 100

Both are counts that are weighted, then reduced by a truncated singular value decomposition. In
`window.txt` the weights are the positive pointwise mutual information of words at most two words
apart (Levy & Goldberg 2014), in `sentence.txt` tf-idf of words in sentences (latent semantic
analysis, Deerwester et al. 1990). The format is GloVe's. The same text gives the same vectors, up
to the last digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.outputs import refuse_inputs, write_to
from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import add_text_options, choose_input_text, make_parser
from nmt_feat.errors import UserError, writing_to
from nmt_feat.extras import import_optional
from nmt_feat.runs.trained.inputs import Reader, Text
from nmt_feat.text.units import visible_characters
from nmt_feat.text.word_values import whitespace_words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WINDOW = 2


def read_words(text: Text) -> list[list[str]]:
    """The words of each sentence as in the column `form`: annotated, or between spaces."""
    sentences = Reader(text).read_sentences()
    words = (sentence.words or whitespace_words(sentence.text) for sentence in sentences)
    return [[visible_characters(word.form) for word in sentence] for sentence in words]


def weigh_windows(sentences: Sequence[Sequence[int]], size: int) -> csr_matrix:
    """Positive pointwise mutual information of words at most `WINDOW` apart, `(size, size)`."""
    from scipy.sparse import csr_matrix

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


def weigh_sentences(sentences: Sequence[Sequence[int]], size: int) -> csr_matrix:
    """tf-idf of words in sentences, `(size, sentences)`."""
    from scipy.sparse import csr_matrix

    counts = Counter((w, i) for i, sentence in enumerate(sentences) for w in sentence)
    rows, columns = np.array(list(counts)).T
    rarity = np.log(len(sentences) / np.bincount(rows, minlength=size))
    values = np.array(list(counts.values())) * rarity[rows]
    return csr_matrix((values, (rows, columns)), (size, len(sentences)))


WEIGHTS = {"window": weigh_windows, "sentence": weigh_sentences}
"""By the name of a file of vectors, the function that makes its matrix from sentences of ids."""


def reduce_dimensions(matrix: csr_matrix, dim: int) -> NDArray[np.float64]:
    """`(rows, dim)`: left singular vectors times the square roots of the singular values.

    The largest value comes first. The largest entry of each column is positive: the decomposition
    leaves signs free, and the same text has to give the same vectors.
    """
    from scipy.sparse.linalg import svds

    if not matrix.count_nonzero():
        raise UserError("all words of the text occur in the same contexts; give more text")
    start = np.random.default_rng(1).normal(size=min(matrix.shape))
    left_vectors, values, _ = svds(matrix, k=dim, v0=start)
    order = np.argsort(-values)
    vectors = left_vectors[:, order] * np.sqrt(values[order])
    largest = np.abs(vectors).argmax(0), np.arange(dim)
    signed: NDArray[np.float64] = vectors * np.where(vectors[largest] < 0, -1, 1)
    return signed


def write_vectors(path: Path, names: Sequence[str], vectors: NDArray[np.float64]) -> None:
    """Write a word and its vector in each line."""
    rows = zip(names, vectors.tolist(), strict=True)
    with write_to(path) as file:
        file.writelines(
            f"{' '.join([name, *(f'{x:.6f}' for x in vector)])}\n" for name, vector in rows
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both sets of vectors, and write them."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where the two files go")
    source = find_resource("data/embedded") / "train.conllu"
    parser.add_argument("--source", type=Path, default=source, help="text, CoNLL-U or JSON lines")
    add_text_options(parser, raw=False)
    parser.add_argument("--dim", type=int, default=64, help="width of the vectors")
    options = parser.parse_args(arguments)
    import_optional("scipy", "train-vectors", "analysis")
    for kind in WEIGHTS:
        refuse_inputs(options.out / f"{kind}.txt", "", [options.source])
    sentences = read_words(choose_input_text(options.source, options))
    names = sorted({word for sentence in sentences for word in sentence if word})
    largest = min(len(names), len(sentences)) - 1
    if not 1 <= options.dim <= largest:
        raise UserError(
            f"--dim {options.dim}: {options.source} has {len(names)} words in {len(sentences)} "
            f"sentences; give 1 to {max(largest, 1)}, or more text"
        )
    id_of = {name: i for i, name in enumerate(names)}
    ids = [[id_of[word] for word in sentence if word] for sentence in sentences]
    with writing_to(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    for kind, weigh in WEIGHTS.items():
        vectors = reduce_dimensions(weigh(ids, len(names)), options.dim)
        path = options.out / f"{kind}.txt"
        write_vectors(path, names, vectors)
        say(f"{path}: {len(names):,} words, {options.dim} numbers each")
