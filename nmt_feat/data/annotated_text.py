"""Combine texts with the annotation of their words: CoNLL-U, factors in files, raw text.

Each function works on a part of a table (see `sentence_tables.merge`) and returns its sentences and
what it counted; `row` is the number of the part's first sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import Sentence, align_words
from nmt_feat.text.factored import parse_parallel
from nmt_feat.text.merging import TEXT, Annotation, Conflicts, merge_annotations
from nmt_feat.text.projection import project_annotation
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.units import visible_characters

FACTOR = "factors."
"""The prefix of the role of a file with the values of a factor."""
LABELS = "labels."
"""The prefix of the role of a file with a value for each sentence."""


def align_annotation(
    columns: tuple[str, ...], path: Path, parts: list[Sentences], row: int
) -> tuple[Sentences, int]:
    """Give the texts the words of their annotation, which is from the file `path`."""
    annotated, texts = parts[0], parts[1].texts
    if annotated.texts == texts:
        return annotated, 0
    sentences = []
    for number, (text, sentence) in enumerate(zip(texts, annotated, strict=True), row + 1):
        if not text.strip():  # a blank line has no words, whatever its annotation says
            sentences.append(Sentence(text))
            continue
        bare = not sentence.words and "".join(text.split()) == "".join(sentence.text.split())
        words = () if bare else align_words(text, sentence.words, f"{path}: sentence {number}")
        sentences.append(Sentence(text, words))
    return Sentences.of(sentences, columns), 0


def attach_factors(
    columns: tuple[str, ...],
    factors: dict[str, str],
    path: Path,
    parts: list[Sentences],
    row: int,
) -> tuple[Sentences, int]:
    """Give each token of `path` its values from the files of factors."""
    *values, tokens = (part.texts for part in parts)
    sides = {
        role.removeprefix(FACTOR): (file, lines)
        for (role, file), lines in zip(factors.items(), values, strict=True)
    }
    sentences = parse_parallel(tokens, str(path), sides, row + 1)
    return Sentences.of(sentences, columns), 0


def project_words(
    columns: tuple[str, ...], path: str, train: bool, parts: list[Sentences], row: int
) -> tuple[Sentences, int]:
    """Give tokens the annotation of their raw texts; counts the tokens that match nothing.

    In `train`, a line whose raw text is blank becomes blank too, so the pair is left out.
    """
    annotated, texts = parts[0], parts[1].texts
    projections = []
    for number, (raw, text) in enumerate(zip(annotated, texts, strict=True), row + 1):
        if train and not raw.text.strip():
            text = ""
        if text.strip():
            projections.append(project_annotation(raw, text, f"{path}:{number}"))
        else:
            projections.append((Sentence(text), 0))
    missed_count = sum(missed for _, missed in projections)
    return Sentences.of([sentence for sentence, _ in projections], columns), missed_count


def merge_sources(
    columns: tuple[str, ...],
    names: Sequence[tuple[str, bool]],
    owners: Mapping[str, Sequence[str]],
    required: Mapping[str, str],
    path: str,
    parts: list[Sentences],
    row: int,
) -> tuple[Sentences, Conflicts]:
    """Merge the annotations of several sources; counts where they divide the text differently.

    Args:
        columns: the columns of the annotation that are needed.
        names: for each part, its source and whether its words are morphemes; the text is last.
        owners: the sources of each column.
        required: by feature that needs a value in every sentence, its column; only columns that
            the text alone gives.
        path: the file of the text, for messages.
        parts: the sentences of each source.
        row: the number of the first sentence.
    """
    conflicts, sentences = Conflicts(), []
    ordered = [*zip(names[-1:], parts[-1:], strict=True), *zip(names, parts[:-1], strict=False)]
    for number, rows in enumerate(zip(*(part for _, part in ordered), strict=True), row + 1):
        annotations = [
            Annotation(name, sentence, joins)
            for ((name, joins), _), sentence in zip(ordered, rows, strict=True)
        ]
        refuse_lacking(annotations, required, f"{path}: sentence {number}")
        sentences.append(merge_annotations(annotations, owners, conflicts))
    return Sentences.of(sentences, columns), conflicts


def refuse_lacking(
    annotations: Sequence[Annotation], required: Mapping[str, str], where: str
) -> None:
    """Refuse a sentence that the text does not annotate, if features need its annotation."""
    text = annotations[0]
    if text.source != TEXT or text.sentence.words or not required:
        return
    if visible_characters(text.sentence.text):
        feature, column = next(iter(required.items()))
        raise UserError(
            f"{where}: the text gives no words for {short_repr(text.sentence.text)}, but in train "
            f"the {column} of features.{feature} comes from the text; give them, or set "
            f"features.{feature}.missing=unknown"
        )
