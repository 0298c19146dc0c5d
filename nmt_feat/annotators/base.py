"""Annotators: from raw lines of text to sentences of annotated words, in parallel, with a cache."""

import gzip
import hashlib
import importlib.metadata
import json
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
from nmt_feat.text.conllu import Sentence, Word, find_control, write_conllu
from nmt_feat.text.files import hash_content
from nmt_feat.text.sentences import ANNOTATION
from nmt_feat.text.subwords import Lines
from nmt_feat.text.units import visible_characters

log = logging.getLogger(__name__)

_CHUNK = 100  # lines in a file of work in progress
_REPORT_SECONDS = 10.0  # between lines that report progress
_FORMAT = "nmt_feat annotation 1"


class LineRefused(UserError):
    """A line of a text cannot be annotated; the message has its number, but not its file."""


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
        return optional(module, f"annotator={self.name}", self.name)

    def __getstate__(self) -> dict[str, Any]:
        """The state for other processes, without the loaded model: each process loads its own."""
        return {k: v for k, v in self.__dict__.items() if k != "_tagger"}


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


def make_annotators(config: AnnotatorConfig) -> dict[str, Annotator]:
    """Make the annotators that a config describes, by name, in order."""
    parts = {name: make_annotator(part) for name, part in config.parts.items()}
    if not parts and (annotator := make_annotator(config)):
        return {annotator.name: annotator}
    return {name: annotator for name, annotator in parts.items() if annotator}


def make_annotator(config: AnnotatorConfig | AnnotatorPart) -> Annotator | None:
    """Make the annotator that settings describe; None if they describe none."""
    if config._target_ is None:
        return None
    model = {} if config.model is None else {"model": config.model}
    annotator: Annotator = build_object(config._target_, Annotator, config.args, **model)
    if not isinstance(getattr(annotator, "name", None), str):
        raise UserError(f'{config._target_}: has no name; give the class one: name = "mine"')
    return annotator


def fingerprint_of(annotator: Annotator) -> str:
    """The annotator's fingerprint; a failure, or anything but text, is a `UserError`."""
    with naming_failures(type(annotator), Annotator):
        fingerprint = annotator.fingerprint()
    if not isinstance(fingerprint, str):
        raise UserError(
            f"annotator={annotator.name}: its fingerprint is {short_repr(fingerprint)}; return "
            "text with package, version and model"
        )
    return fingerprint


def of_morphemes(config: AnnotatorConfig) -> bool:
    """Whether an annotator's words are morphemes. Only its class is looked at."""
    return any(getattr(locate_class(target), "morphemes", False) for target in config.targets)


def annotate_texts(annotator: Annotator, texts: Sequence[str]) -> list[Sentence]:
    """Annotate lines of text; whatever the annotator raises is a `UserError`.

    The annotator reads composed characters (NFC), as its model did in training: in a decomposed
    text (NFD) it would know few words. The words' spans are those in the original text.
    """
    visible_texts = [text for text in texts if text.strip()]
    if len(visible_texts) < len(texts):  # annotators do not get blank lines
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
    """Refuse words of a user's annotator that are not words, or do not stand in their text."""
    for sentence in sentences:
        end = 0
        for word in sentence.words:
            if not isinstance(word, Word):
                raise UserError(
                    f"annotator={annotator.name}: {short_repr(word)} of "
                    f"{short_repr(sentence.text)} is not a nmt_feat.text.conllu.Word; make it one"
                )
            values = [getattr(word, column) for column in ("form", *ANNOTATION)]
            if not all(isinstance(value, str) and value for value in values):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} has a value that is not text, or is empty; give "
                    "text, and _ for no value"
                )
            if not end <= word.start <= word.end <= len(sentence.text):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} stands at "
                    f"{word.start} to {word.end} of {short_repr(sentence.text)}; give words in the "
                    "order of the text, with spans inside of it"
                )
            if not (hasattr(word.head, "__index__") and -1 <= word.head <= len(sentence.words)):
                raise UserError(
                    f"annotator={annotator.name}: the head of {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} is {short_repr(word.head)}; give the number of "
                    f"one of its {len(sentence.words)} words, 0 for the root, -1 for none"
                )
            end = word.start


def _map_composed(text: str) -> list[int]:
    """For each position in the composed text, that in the text; empty if a position has none."""
    composed, places = normalize("NFC", text), {}
    for position in range(len(text) + 1):
        before = normalize("NFC", text[:position])
        if composed.startswith(before):  # if not, the next character is composed with the last
            places[len(before)] = position
    is_complete = list(places) == list(range(len(composed) + 1))
    return list(places.values()) if is_complete else []


def _move_to_text(sentence: Sentence, text: str, places: Sequence[int]) -> Sentence:
    """From a sentence of a composed text to one of the text itself; see `_map_composed`."""
    spans = [(places[word.start], places[word.end]) for word in sentence.words]
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
    """Write the annotation of lines of text into a file; `task`: file, number of the first line."""
    path, first, texts = task
    annotator = annotator or _worker
    for number, sentence in enumerate(sentences := annotate_texts(annotator, texts), first):
        if not sentence.words and visible_characters(sentence.text):
            raise LineRefused(
                f"annotator={annotator.name} finds no word in line {number}: "
                f"{sentence.text!r}; remove the line"
            )
        # Here the text's line is at hand; CoNLL-U, which cannot have them, is in a file of ours.
        if control := next(filter(None, (find_control(w.form) for w in sentence.words)), None):
            raise LineRefused(f"annotator={annotator.name}: line {number}: the word {control}")
    body = write_conllu(sentences).encode()
    _write_file(path, [_head_line(hashlib.sha256(body).hexdigest()), body])


def write_annotation(annotator: Annotator, texts: Lines, path: Path, processes: int = 0) -> None:
    """Annotate texts, and write CoNLL-U with its checksum in the first line.

    Nothing happens if `path` is the whole annotation of this text by this annotator already. What
    was annotated before an interruption is beside `path`, and is used again. A progress bar is
    shown on standard error; if that is not a terminal, a line now and then.

    Args:
        annotator: annotates the texts.
        texts: lines.
        path: the file to write.
        processes: how many processes to use; 0 for one per core.
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
        reported, has_reported = time.monotonic(), False
        for _ in pool.map(work, tasks()):
            bar.advance(task)
            done += 1
            is_due = time.monotonic() - reported > _REPORT_SECONDS
            # Whoever has read of the progress should also read of its end.
            if bar.disable and (is_due if done < len(files) else has_reported):
                reported, has_reported = time.monotonic(), True
                count = f"{min(done * _CHUNK, len(texts)):,} of {len(texts):,} lines"
                say(f"annotated with {annotator.name}: {count}", file=sys.stderr)
    write_bodies(path, key, files, _skip_first_line)
    shutil.rmtree(parts)


def annotate_cached(annotator: Annotator, texts: Lines, cache: Path, processes: int = 0) -> Path:
    """Annotate texts as `write_annotation` does, into a file in the folder `cache`.

    The file's name is a hash of annotator and text. If its checksum is wrong, it is reported and
    written again. If several runs call this, one annotates and the others wait.
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
    """A hash of a text and of everything that determines its annotation."""
    key = hashlib.sha256(f"{_FORMAT}\n{fingerprint_of(annotator)}".encode())
    for text in texts:
        key.update(f"\n{text}".encode())
        if not is_normalized("NFC", text):
            key.update(b"composed")  # early versions annotated decomposed text as it is
    return key.hexdigest()[:16]


def _head_line(digest: str) -> bytes:
    return f"# sha256 = {digest}\n".encode()


def _source_line(key: str) -> bytes:
    """The line that says which text and annotator a file belongs to."""
    return f"# annotation = {key}\n".encode()


def is_sound(path: Path, key: str = "") -> bool:
    """Whether a file exists, has its checksum, and (with `key`) is that annotation."""
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
    """Join the bodies of files to one annotation of a text, with its checksum in the first line."""
    whole = hashlib.sha256(_source_line(key))
    for file in files:
        whole.update(read_body(file))
    head = [_head_line(whole.hexdigest()), _source_line(key)]
    _write_file(path, chain(head, map(read_body, files)))


def _write_file(path: Path, content: Iterable[bytes]) -> None:
    with replace_when_complete(path) as file:
        file.writelines(content)
    sync_to_disk(path.parent)
