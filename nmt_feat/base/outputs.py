"""Files that programs write: whole or not at all, never over what the program reads.

A file is written under a temporary name in the same folder and renamed when it is whole, so an
interrupted program leaves an earlier file as it was. Names that end in `.gz` are compressed.
Devices and pipes are written to directly.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TextIO, cast

from nmt_feat.errors import UserError, escape_controls, writing_to

STANDARD = "-"
"""The name of standard input or output."""
_STREAMS = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
"""Names of open files, to which a shell may have written already."""


def refuse_inputs(output: Path | str, setting: str, inputs: Iterable[Path | str | None]) -> None:
    """Refuse an output that is a file, or link to a file, that the command reads.

    `setting` begins the message, such as `output=`; inputs may be `-`, or missing files.
    """
    for name in inputs:
        if name is not None and same_file(output, name):
            label = "the standard input" if str(name) == STANDARD else str(name)
            raise UserError(
                f"{setting}{output}: is {label}, which the command reads; give another file"
            )


def same_file(output: Path | str, source: Path | str) -> bool:
    """Whether output and source are one file, under whatever names; devices and pipes are not."""
    output_state, source_state = _state_of(output, sys.stdout), _state_of(source, sys.stdin)
    if output_state is None or source_state is None:
        return False
    return os.path.samestat(output_state, source_state) and stat.S_ISREG(output_state.st_mode)


def check_output(output: Path | str, setting: str, inputs: Iterable[Path | str | None]) -> None:
    """Refuse, before anything is computed, an output that is an input or cannot be written."""
    refuse_inputs(output, setting, inputs)
    if str(output) == STANDARD:
        return
    path = Path(output)
    if path.is_dir():
        raise UserError(f"{setting}{output}: is a folder; give a file")
    if not _is_special(path):
        with writing_to(output, setting):
            os.scandir(os.path.dirname(os.path.realpath(path))).close()


def _state_of(name: Path | str, standard: TextIO) -> os.stat_result | None:
    """The state of a file, or of a standard stream's file; None if there is none."""
    try:
        return os.fstat(standard.fileno()) if str(name) == STANDARD else os.stat(name)
    except (OSError, ValueError):  # a stream without a file, as in tests
        return None


def _is_special(path: Path) -> bool:
    """Whether it is a device, a pipe or an open file, which cannot be replaced."""
    if _STREAMS.fullmatch(str(path)):
        return True
    state = _state_of(path, sys.stdout)
    return state is not None and not stat.S_ISREG(state.st_mode)


@contextlib.contextmanager
def replace_when_complete(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when the block ends without an error, synced.

    It is compressed if the name ends in `.gz`; the same content gives the same bytes.
    """
    target = Path(os.path.realpath(path))  # a link stays
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # A part of the name, which may be as long as the system allows.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            with _compress_gz(path, file) as content:
                yield content
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _compress_gz(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    if path.suffix != ".gz":
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield cast(IO[bytes], packed)


def open_packed(path: Path) -> IO[bytes]:
    """A file that `replace_when_complete` wrote, decompressed if its name ends in `.gz`."""
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


@contextlib.contextmanager
def _open_output(path: Path) -> Iterator[IO[bytes]]:
    """The output as a stream of bytes: a file that is replaced at the end, or a device or pipe."""
    if not _is_special(path):
        with replace_when_complete(path) as file:
            yield file
        return
    with path.open("wb", buffering=0) as file, _compress_gz(path, cast(IO[bytes], file)) as content:
        yield content


class _EscapedOutput(io.TextIOBase):
    """Standard output on a terminal, with characters that act on it escaped."""

    def write(self, text: str) -> int:
        return sys.stdout.write(escape_controls(text))

    def flush(self) -> None:
        sys.stdout.flush()


@contextlib.contextmanager
def write_to(output: Path | str, setting: str = "", errors: str = "strict") -> Iterator[TextIO]:
    """An output of UTF-8 text: `-` is standard output; `setting` begins the message of an error."""
    if str(output) == STANDARD:
        yield cast(TextIO, _EscapedOutput()) if sys.stdout.isatty() else sys.stdout
        return
    with writing_to(output, setting), _open_output(Path(output)) as file:
        text = io.TextIOWrapper(file, "utf-8", errors, newline="\n")
        # `detach` writes what is buffered, and leaves the file open: it is synced and renamed next.
        try:
            yield text
        except BaseException:
            with contextlib.suppress(OSError, ValueError):  # the first error is the cause
                text.detach()
            raise
        text.detach()
