"""The base class of annotators, and what several of them share."""

import hashlib
import importlib.metadata
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nmt_feat.extras import import_optional
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.files import hash_content


class Annotator(ABC):
    """Base class of annotators. They annotate each line of raw text by itself."""

    name: ClassVar[str]
    """The name in settings, messages and records."""
    languages: ClassVar[Sequence[str] | None] = None
    """The languages that it reads (ISO 639-1); None if that is not certain beforehand."""
    columns: ClassVar[Sequence[str] | None] = None
    """The columns that it gives (`lemma`, `upos` ...); None if that depends on its model."""
    morphemes: ClassVar[bool] = False
    """Whether its words are often smaller than words between spaces, so that a piece covers
    several of them. Then features have `cover=join` by default."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A text with everything that determines its output: package, version, sum of the model."""

    @abstractmethod
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """Annotate lines: a sentence for each line, whose words have spans in that line."""

    def package(self, module: str) -> Any:
        """Import a package that belongs to the extra with the annotator's name."""
        return import_optional(module, f"annotator={self.name}", self.name)

    def __getstate__(self) -> dict[str, Any]:
        """The state for other processes, without `_tagger`: each process loads its own model."""
        return {name: value for name, value in self.__dict__.items() if name != "_tagger"}


def read_tags(file: str, language: str | None = None) -> dict[str, str]:
    """By an annotator's tag, the upos. A file beside this one has the tags of each upos."""
    content = json.loads(Path(__file__).with_name(file).read_bytes())
    tags: dict[str, str] = content[language] if language else content
    return {tag: upos for upos, tag_names in tags.items() for tag in tag_names.split()}


def choose_upos(upos_by_tag: Mapping[str, str], tags: Iterable[str]) -> str:
    """The upos of the first of these tags, from fine to coarse, that has one; else X."""
    return next((upos_by_tag[tag] for tag in tags if tag in upos_by_tag), "X")


def list_versions(*packages: str) -> str:
    """The versions of packages, for a fingerprint: `spacy=3.8.2 thinc=8.3.2`."""
    return " ".join(f"{name}={importlib.metadata.version(name)}" for name in packages)


def hash_model(folder: Path, files: Iterable[Path]) -> str:
    """The SHA-256 of a model's files and of their names in its folder, for a fingerprint."""
    lines = [f"{path.relative_to(folder).as_posix()} {hash_content(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def join_sentences(sentences: Iterable[Sentence]) -> list[Word]:
    """The words of several sentences of one line; heads count from the line's first word."""
    words: list[Word] = []
    for sentence in sentences:
        before = len(words)
        words += [
            word._replace(head=word.head + before) if word.head > 0 else word
            for word in sentence.words
        ]
    return words
