"""The annotation of several annotators in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.files import annotation_key, is_sound, write_annotation, write_bodies
from nmt_feat.text.conllu import read_conllu, write_conllu
from nmt_feat.text.merging import Annotation, Conflicts, choose_owners, merge_annotations
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Lines

CHUNK = 1000  # sentences


def write_annotations(
    annotators: Mapping[str, Annotator], texts: Lines, path: Path, processes: int = 0
) -> list[str]:
    """Write one annotation of texts by several annotators.

    Words are those of the first annotator, and so are the values of columns that several give. What
    was annotated before an interruption is not annotated again.

    Returns:
        Sentences for the user about words that annotators divide differently.
    """
    if len(annotators) == 1:
        (annotator,) = annotators.values()
        write_annotation(annotator, texts, path, processes)
        return []
    keys = [annotation_key(annotator, texts) for annotator in annotators.values()]
    key = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]
    if is_sound(path, key):
        return []
    parts = {name: path.with_name(f"{path.name}.{name}") for name in annotators}
    for name, annotator in annotators.items():
        write_annotation(annotator, texts, parts[name], processes)
    sources = choose_owners({name: read_in_chunks(part) for name, part in parts.items()})
    conflicts, merged = Conflicts(), path.with_name(f"{path.name}.merged")
    with merged.open("w", encoding="utf-8", newline="") as file:
        for sentences in zip(*map(read_conllu, parts.values()), strict=True):
            annotations = [
                Annotation(name, sentence, annotators[name].morphemes)
                for name, sentence in zip(parts, sentences, strict=True)
            ]
            file.write(write_conllu([merge_annotations(annotations, sources, conflicts)]))
    write_bodies(path, key, [merged], Path.read_bytes)
    for part in (*parts.values(), merged):
        part.unlink()
    return conflicts.describe(next(iter(parts)))


def read_in_chunks(path: Path) -> Iterator[Sentences]:
    """Read CoNLL-U, `CHUNK` sentences at a time."""
    sentences = read_conllu(path)
    while chunk := list(islice(sentences, CHUNK)):
        yield Sentences.of(chunk)
