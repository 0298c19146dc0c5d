"""Annotators: raw lines of text to sentences of annotated words, in parallel and once only."""

import gzip
import hashlib
import logging
import shutil
import sys
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import is_normalized, normalize

from rich.markup import escape
from rich.progress import Progress

from nmt_feat.base.files import hold_lock, refuse_links, sync_to_disk
from nmt_feat.base.outputs import open_packed, replace_when_complete
from nmt_feat.base.pool import Pool, count_cores
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.config.data_schema import AnnotatorConfig, AnnotatorPart
from nmt_feat.config.instantiate import build_object, locate_class, naming_failures
from nmt_feat.errors import UserError, escape_controls, short_repr
from nmt_feat.extras import optional
from nmt_feat.text.conllu import Sentence, Word, write_conllu
from nmt_feat.text.sentences import ANNOTATION
from nmt_feat.text.subwords import Lines
from nmt_feat.text.units import visible_characters

log = logging.getLogger(__name__)

_CHUNK = 100  # lines
_EVERY = 10.0  # seconds between lines that say how far it is
_FORMAT = "nmt_feat annotation 1"


class Annotator(ABC):
    """Turns lines of raw text into annotated sentences, each line on its own."""

    name: ClassVar[str]
    """In settings, messages and records."""
    languages: ClassVar[Sequence[str] | None] = None
    """Source languages that it reads (ISO 639-1); none where that is not certain beforehand."""
    columns: ClassVar[Sequence[str] | None] = None
    """Columns that it gives (`lemma`, `upos` ...); none where that depends on its model."""
    morphemes: ClassVar[bool] = False
    """Whether words are often smaller than what stands between spaces, so that a piece covers
    several of them; features then have `cover=join` if that is not set."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What determines its output: package, version, sum of the model."""

    @abstractmethod
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line, its words with spans in that line; no words in a blank one."""

    def package(self, module: str) -> Any:
        """The package that it needs, an extra of the annotator's name."""
        return optional(module, f"annotator={self.name}", self.name)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was loaded: each process loads its own."""
        return {k: v for k, v in self.__dict__.items() if k != "_tagger"}


def read_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """upos by an annotator's own tag, from a file that lists the tags of each upos."""
    return {tag: upos for upos, tag_names in tags.items() for tag in tag_names.split()}


def make_annotators(config: AnnotatorConfig) -> dict[str, Annotator]:
    """The annotators that a config describes, by name: none, one, or several in order."""
    parts = {name: make_annotator(part) for name, part in config.parts.items()}
    if not parts and (annotator := make_annotator(config)):
        return {annotator.name: annotator}
    return {name: annotator for name, annotator in parts.items() if annotator}


def make_annotator(config: AnnotatorConfig | AnnotatorPart) -> Annotator | None:
    """The one annotator that settings describe, if any."""
    if config._target_ is None:
        return None
    model = {} if config.model is None else {"model": config.model}
    annotator: Annotator = build_object(config._target_, Annotator, config.args, **model)
    if not isinstance(getattr(annotator, "name", None), str):
        raise UserError(f'{config._target_}: has no name; give the class one: name = "mine"')
    return annotator


def fingerprint_of(annotator: Annotator) -> str:
    """Its fingerprint; what it raises, and anything but text, is a `UserError`."""
    with naming_failures(type(annotator), Annotator):
        fingerprint = annotator.fingerprint()
    if not isinstance(fingerprint, str):
        raise UserError(
            f"annotator={annotator.name}: its fingerprint is {short_repr(fingerprint)}; return "
            "text with package, version and model"
        )
    return fingerprint


def of_morphemes(config: AnnotatorConfig) -> bool:
    """Whether the words of an annotator are such, as its class says; it is not made."""
    return any(getattr(locate_class(target), "morphemes", False) for target in config.targets)


def annotate_texts(annotator: Annotator, texts: Sequence[str]) -> list[Sentence]:
    """What it makes of lines of text; whatever it raises, and any other lines, are `UserError`s.

    It reads composed characters (NFC), as its model was trained on: of a decomposed text (NFD) it
    would know few words. Words stand in the text as it is.
    """
    visible_texts = [text for text in texts if text.strip()]
    if len(visible_texts) < len(texts):  # blank lines have no words, whatever the annotator
        annotated = iter(annotate_texts(annotator, visible_texts) if visible_texts else ())
        return [next(annotated) if text.strip() else Sentence(text) for text in texts]
    places = [[] if is_normalized("NFC", text) else _map_composed(text) for text in texts]
    composed = [normalize("NFC", t) if at else t for t, at in zip(texts, places, strict=True)]
    with naming_failures(type(annotator), Annotator):
        sentences = annotator.annotate(composed)
        if not isinstance(sentences, list):
            raise TypeError(f"annotate returns {short_repr(sentences)}, not a list of sentences")
        annotated_texts = [sentence.text for sentence in sentences]
    if not type(annotator).__module__.startswith("nmt_feat."):
        _check_words(annotator, sentences)
    if annotated_texts == composed:
        rows = zip(sentences, texts, places, strict=True)
        return [
            _move_to_text(sentence, text, at) if at else sentence for sentence, text, at in rows
        ]
    if len(sentences) != len(texts):
        problem = f"{len(sentences)} sentences of {len(texts)} lines"
    else:
        pairs = zip(annotated_texts, composed, strict=True)
        problem = next(
            f"{annotated_text!r} of the line {text!r}"
            for annotated_text, text in pairs
            if annotated_text != text
        )
    raise UserError(
        f"annotator={annotator.name} makes {problem}; it must give one sentence for each line, its "
        "text the line"
    )


def lemmatize_texts(annotator: Annotator, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The lemmas of each text, in lower case."""
    sentences = annotate_texts(annotator, texts)
    return [tuple(word.lemma.lower() for word in sentence.words) for sentence in sentences]


def _check_words(annotator: Annotator, sentences: Sequence[Sentence]) -> None:
    """Refuse words of a user's annotator that are no words, or do not stand in their text."""
    for sentence in sentences:
        end = 0
        for word in sentence.words:
            if not isinstance(word, Word):
                raise UserError(
                    f"annotator={annotator.name}: {short_repr(word)} of "
                    f"{short_repr(sentence.text)} is no word; make it a nmt_feat.text.conllu.Word"
                )
            values = [getattr(word, column) for column in ("form", *ANNOTATION)]
            if not all(isinstance(value, str) and value for value in values):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} has a value that is no text, or empty; give "
                    "text, and _ for no value"
                )
            if not end <= word.start <= word.end <= len(sentence.text):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} stands at "
                    f"{word.start} to {word.end} of {short_repr(sentence.text)}; words are in the "
                    "order of the text, with places inside of it"
                )
            if not (hasattr(word.head, "__index__") and -1 <= word.head <= len(sentence.words)):
                raise UserError(
                    f"annotator={annotator.name}: the head of {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} is {short_repr(word.head)}; give the number of "
                    f"one of its {len(sentence.words)} words, 0 for the root, -1 for none"
                )
            end = word.start


def _map_composed(text: str) -> list[int]:
    """Where in the text each place of its composed form is; empty where one is nowhere."""
    composed, at = normalize("NFC", text), {}
    for position in range(len(text) + 1):
        before = normalize("NFC", text[:position])
        if composed.startswith(before):  # else the next character belongs to the last one
            at[len(before)] = position
    return list(at.values()) if list(at) == list(range(len(composed) + 1)) else []


def _move_to_text(sentence: Sentence, text: str, at: Sequence[int]) -> Sentence:
    """A sentence of a composed text, in the text itself."""
    spans = [(at[word.start], at[word.end]) for word in sentence.words]
    words = [
        word._replace(form=text[start:end], start=start, end=end)
        for word, (start, end) in zip(sentence.words, spans, strict=True)
    ]
    return Sentence(text, tuple(words))


_worker: Annotator


def _start_worker(annotator: Annotator) -> None:
    global _worker
    _worker = annotator


def _annotate_chunk(annotator: Annotator | None, task: tuple[Path, int, list[str]]) -> None:
    """Leave in a file the annotation of lines of text, the first of which has this number."""
    path, first, texts = task
    annotator = annotator or _worker
    for number, sentence in enumerate(sentences := annotate_texts(annotator, texts), first):
        if not sentence.words and visible_characters(sentence.text):
            raise UserError(
                f"annotator={annotator.name} finds no word in line {number}: "
                f"{sentence.text!r}; remove the line"
            )
    body = write_conllu(sentences).encode()
    _write_file(path, [_head_line(hashlib.sha256(body).hexdigest()), body])


def write_annotation(annotator: Annotator, texts: Lines, path: Path, processes: int = 0) -> None:
    """Write as CoNLL-U what `annotator.annotate(texts)` gives, its checksum in the first line.

    By several processes (0: one per core), with a progress bar on standard error, if that is a
    terminal, else a line now and then. What was annotated before an interruption is kept beside
    `path` and not made again; nor is `path` itself, where it is whole and of the same text by the
    same annotator.
    """
    key = annotation_key(annotator, texts)
    if is_sound(path, key):
        return
    parts = path.with_name(f"{path.name}.{key}.parts")
    refuse_links(parts)
    parts.mkdir(parents=True, exist_ok=True)
    files = [parts / f"{first:09}" for first in range(0, len(texts), _CHUNK)]

    def tasks() -> Iterator[tuple[Path, int, list[str]]]:
        lines = iter(texts)
        for number, file in enumerate(files):
            chunk = list(islice(lines, _CHUNK))
            if not is_sound(file):
                yield file, number * _CHUNK + 1, chunk

    console = TextConsole(stderr=True)
    done = sum(map(is_sound, files))
    processes = min(processes or count_cores(), max(1, (len(files) - done) // 2))
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    setting = f"annotator={annotator.name}", "annotator.processes"
    with bar, Pool(processes, *setting, _start_worker, (annotator,)) as pool:
        work = partial(_annotate_chunk, annotator if processes == 1 else None)
        title = escape(escape_controls(f"annotating with {annotator.name}"))
        task = bar.add_task(title, total=len(files), completed=done)
        begun = time.monotonic()
        for _ in pool.map(work, tasks()):
            bar.advance(task)
            done += 1
            if bar.disable and time.monotonic() - begun > _EVERY and done < len(files):
                begun = time.monotonic()
                line = f"annotated with {annotator.name}: {done * _CHUNK:,} of {len(texts):,} lines"
                say(line, file=sys.stderr)
    write_bodies(path, key, files, _skip_first_line)
    shutil.rmtree(parts)


def annotate_cached(annotator: Annotator, texts: Lines, cache: Path, processes: int = 0) -> Path:
    """What `annotate` writes, kept in the folder `cache` for the next time.

    The file is named by a hash of annotator and text; one whose checksum is wrong is said and made
    again. Of several runs at once, one annotates, others wait.
    """
    path = cache / f"annotation-{annotation_key(annotator, texts)}.conllu"
    cache.mkdir(parents=True, exist_ok=True)
    with hold_lock(path, "annotates this text"):
        if not is_sound(path):
            if path.exists():
                log.warning("%s is corrupt (its checksum differs): annotating again", path)
            write_annotation(annotator, texts, path, processes)
    return path


def annotation_key(annotator: Annotator, texts: Iterable[str]) -> str:
    """A hash of a text and of what determines its annotation."""
    key = hashlib.sha256(f"{_FORMAT}\n{fingerprint_of(annotator)}".encode())
    for text in texts:
        key.update(f"\n{text}".encode())
        if not is_normalized("NFC", text):
            key.update(b"composed")  # it was not once
    return key.hexdigest()[:16]


def _head_line(digest: str) -> bytes:
    return f"# sha256 = {digest}\n".encode()


def _source_line(key: str) -> bytes:
    """The line that says which text and annotator a file is of."""
    return f"# annotation = {key}\n".encode()


def is_sound(path: Path, key: str = "") -> bool:
    """Whether a file is there and has its checksum, and is the annotation `key`, if given."""
    if not path.is_file():
        return False
    try:
        with open_packed(path) as file:
            head, begin = file.readline(), file.tell()
            if key and file.readline() != _source_line(key):
                return False
            file.seek(begin)
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            return head == _head_line(digest)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False


def _skip_first_line(file: Path) -> bytes:
    return file.read_bytes().partition(b"\n")[2]


def write_bodies(
    path: Path, key: str, files: Sequence[Path], read_body: Callable[[Path], bytes]
) -> None:
    """Write the bodies of files as one annotation of a text, its checksum in the first line."""
    whole = hashlib.sha256(_source_line(key))
    for file in files:
        whole.update(read_body(file))
    head = [_head_line(whole.hexdigest()), _source_line(key)]
    _write_file(path, chain(head, map(read_body, files)))


def _write_file(path: Path, content: Iterable[bytes]) -> None:
    with replace_when_complete(path) as file:
        file.writelines(content)
    sync_to_disk(path.parent)
