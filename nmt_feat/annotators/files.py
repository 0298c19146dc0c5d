"""The annotation of a text in a file: written in parallel, continued when interrupted, cached."""

import gzip
import hashlib
import logging
import math
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from unicodedata import is_normalized

from rich.markup import escape
from rich.progress import Progress

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import annotate_texts, fingerprint_of
from nmt_feat.base.files import hold_lock, refuse_links, sync_to_disk
from nmt_feat.base.outputs import open_packed, replace_when_complete
from nmt_feat.base.pool import Pool, count_cores
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.errors import UserError, escape_controls
from nmt_feat.text.conllu import find_control, write_conllu
from nmt_feat.text.subwords import Lines
from nmt_feat.text.units import visible_characters

log = logging.getLogger(__name__)

_CHUNK = 100  # lines in a file of work in progress
_REPORT_SECONDS = 10.0  # between lines that report progress
_FORMAT = "nmt_feat annotation 1"
Chunk = tuple[Path, int, list[str]]
"""Lines of a text: the file for their annotation, the number of the first line, the lines."""


class LineRefused(UserError):
    """A line of a text cannot be annotated; the message has its number, but not its file."""


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
    done = sum(map(is_sound, files))
    processes = min(processes or count_cores(), max(1, (len(files) - done) // 2))
    name = f"annotator={annotator.name}"
    with Pool(processes, name, "annotator.processes", _start_worker, (annotator,)) as pool:
        # One process is this one, where two annotations at a time would share `_worker`.
        work = partial(_annotate_chunk, annotator if processes == 1 else None)
        _show_progress(pool.map(work, _list_chunks(texts, files)), done, len(texts), annotator.name)
    write_bodies(path, key, files, _skip_first_line)
    shutil.rmtree(parts)


def _list_chunks(texts: Lines, files: Sequence[Path]) -> Iterator[Chunk]:
    """The chunks of a text that have no sound file yet."""
    lines = iter(texts)
    for number, file in enumerate(files):
        chunk = list(islice(lines, _CHUNK))
        if not is_sound(file):
            yield file, number * _CHUNK + 1, chunk


_worker: Annotator
"""The annotator of a worker process, with its loaded model: it serves all chunks."""


def _start_worker(annotator: Annotator) -> None:
    global _worker
    _worker = annotator


def _annotate_chunk(annotator: Annotator | None, chunk: Chunk) -> None:
    """Write the annotation of a chunk into its file; without an annotator, by `_worker`."""
    path, first, texts = chunk
    annotator = annotator or _worker
    sentences = annotate_texts(annotator, texts)
    for number, sentence in enumerate(sentences, first):
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


def _show_progress(finished: Iterable[None], done: int, line_count: int, name: str) -> None:
    """Show how many chunks are annotated, on a terminal as a bar.

    Args:
        finished: an element for each chunk, when it is annotated.
        done: how many chunks were annotated before.
        line_count: the number of lines of the whole text.
        name: the annotator's name.
    """
    console = TextConsole(stderr=True)
    chunk_count = math.ceil(line_count / _CHUNK)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        title = escape(escape_controls(f"annotating with {name}"))
        task = bar.add_task(title, total=chunk_count, completed=done)
        reported, has_reported = time.monotonic(), False
        for _ in finished:
            bar.advance(task)
            done += 1
            is_due = time.monotonic() - reported > _REPORT_SECONDS
            # Whoever has read of the progress should also read of its end.
            if bar.disable and (is_due if done < chunk_count else has_reported):
                reported, has_reported = time.monotonic(), True
                count = f"{min(done * _CHUNK, line_count):,} of {line_count:,} lines"
                say(f"annotated with {name}: {count}", file=sys.stderr)


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
