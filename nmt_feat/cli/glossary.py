"""A glossary from text and its translation: `nmt-feat glossary SOURCE TARGET --out FILE`.

    nmt-feat glossary train.en train.de --out glossary.tsv
    nmt-feat glossary train.en train.de --out glossary.tsv --agreement 0.7 --longest 1

For trying terminology without a dictionary. Dinu et al. (2019) look up the terms of two
dictionaries in their training text, without the 500 most frequent words. Here terms are words that
occur together in that text: each sequence s of up to `--longest` source words that is in at least
`--min-count` sentences is compared with each such sequence t of target words, by the Dice
coefficient 2 n(s, t) / (n(s) + n(t)), where n counts sentences. The t with the largest coefficient
is the translation of s, if the coefficient is at least `--agreement`. The `--skip` most frequent
source words are in no term. Source terms are in lower case, so that they match text in any case.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmt_feat.base.outputs import refuse_inputs, write_to
from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import make_parser
from nmt_feat.errors import UserError
from nmt_feat.extras import import_optional
from nmt_feat.text.files import read_lines
from nmt_feat.text.glossary import Term, join_tokens, split_tokens
from nmt_feat.text.normalization import normalize_lines

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

NGram = tuple[str, ...]
"""Consecutive words."""


def list_ngrams(tokens: Sequence[str], longest: int) -> set[NGram]:
    """The sequences of up to `longest` words of a sentence; each word begins with a letter."""
    ngrams = {
        tuple(tokens[i : i + length])
        for length in range(1, min(longest, len(tokens)) + 1)
        for i in range(len(tokens) - length + 1)
    }
    return {ngram for ngram in ngrams if all(token[0].isalpha() for token in ngram)}


def count_ngrams(sentences: Sequence[set[NGram]], min_count: int) -> tuple[list[NGram], csc_matrix]:
    """The sequences that are in at least `min_count` sentences, sorted; and where they are.

    The matrix `(sentences, sequences)` has 1 if the sentence has the sequence.
    """
    from scipy.sparse import csc_matrix

    counts = Counter(ngram for ngrams in sentences for ngram in ngrams)
    names = sorted(ngram for ngram, count in counts.items() if count >= min_count)
    numbers = {ngram: number for number, ngram in enumerate(names)}
    cells = [
        (row, numbers[ngram])
        for row, ngrams in enumerate(sentences)
        for ngram in ngrams
        if ngram in numbers
    ]
    rows, columns = np.array(cells, np.int64).reshape(-1, 2).T
    shape = len(sentences), len(names)
    return names, csc_matrix((np.ones(len(cells), np.int64), (rows, columns)), shape)


def extract_terms(
    sources: Sequence[str],
    targets: Sequence[str],
    min_count: int,
    agreement: float,
    skip: int,
    longest: int,
) -> list[Term]:
    """The terms of a text and its translation, in the order of their sources; see the module."""
    source_tokens = [split_tokens(text.lower()) for text in sources]
    frequencies = Counter(token for tokens in source_tokens for token in tokens)
    frequent = {token for token, _ in frequencies.most_common(skip)}
    source_ngrams = [
        {ngram for ngram in list_ngrams(tokens, longest) if frequent.isdisjoint(ngram)}
        for tokens in source_tokens
    ]
    target_ngrams = [list_ngrams(split_tokens(text), longest) for text in targets]
    source_names, in_source = count_ngrams(source_ngrams, min_count)
    target_names, in_target = count_ngrams(target_ngrams, min_count)
    source_counts, target_counts = (np.diff(counts.indptr) for counts in (in_source, in_target))
    # Row s, column t: how many sentences have s, and t in their translation; zeros are not stored.
    shared_counts = (in_source.T @ in_target).tocsr()
    terms = []
    for row, name in enumerate(source_names):
        stored = slice(shared_counts.indptr[row], shared_counts.indptr[row + 1])
        columns, shared = shared_counts.indices[stored], shared_counts.data[stored]
        if not len(columns):
            continue
        dice = 2 * shared / (source_counts[row] + target_counts[columns])
        names = [target_names[column] for column in columns]
        # Of equal coefficients the shorter ngram, then the last by the alphabet: a fixed choice.
        best = max(range(len(names)), key=lambda i: (dice[i], -len(names[i]), names[i]))
        if dice[best] >= agreement and shared[best] >= min_count:
            terms.append(Term(join_tokens(name), join_tokens(names[best])))
    return sorted(terms)


def main() -> None:
    """Read the text, write the glossary."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="text, a sentence a line")
    parser.add_argument("target", type=Path, metavar="TARGET", help="its translation")
    parser.add_argument("--out", required=True, metavar="FILE", help="the glossary")
    parser.add_argument("--min-count", type=int, default=3, help="sentences that have a term")
    parser.add_argument("--agreement", type=float, default=0.6, help="smallest Dice coefficient")
    parser.add_argument("--skip", type=int, default=500, help="most frequent words, no terms")
    parser.add_argument("--longest", type=int, default=2, help="words of a term at most")
    options = parser.parse_args()
    import_optional("scipy", "glossary", "analysis")
    refuse_inputs(options.out, "--out=", [options.source, options.target])
    check_options(options)
    sources, targets = (normalize_lines(read_lines(p)) for p in (options.source, options.target))
    if len(sources) != len(targets):
        raise UserError(
            f"{options.source} has {len(sources)} lines, {options.target} has {len(targets)}; "
            "line n has to translate line n"
        )
    terms = extract_terms(
        sources, targets, options.min_count, options.agreement, options.skip, options.longest
    )
    if not terms:
        raise UserError(
            f"{options.source}: no term is in {options.min_count} sentences and agrees by "
            f"{options.agreement}; lower --min-count, --agreement or --skip"
        )
    with write_to(options.out) as file:
        file.writelines(f"{term.source}\t{term.target}\n" for term in terms)
    say(f"{options.out}: {len(terms):,} terms")


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers with which no term can be found."""
    for name, least in (("min_count", 1), ("skip", 0), ("longest", 1)):
        if (value := getattr(options, name)) < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
    if not 0 < options.agreement <= 1:
        raise UserError(f"--agreement {options.agreement}: must be above 0, at most 1")
