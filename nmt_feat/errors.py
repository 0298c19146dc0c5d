"""The one exception that users see, and how the process ends then."""

import contextlib
import difflib
import os
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn


class UserError(Exception):
    """Something that the user can mend; its message says in one line what, where and how.

    The entry points print the message alone, without a traceback, and exit with code 2.
    """


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


def short_repr(value: object) -> str:
    """A value of a file for a message: its `repr`, without the middle if that is long."""
    return _SHORT.repr(value)


_CONTROLS = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that act on a terminal: C0 and C1 (but tab and line end), marks of direction and
separators of lines, lone surrogates."""


def escape_controls(text: str) -> str:
    """The text with characters that act on a terminal, such as ESC, as escapes of Python."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, PyTorch or CTranslate2 means that memory is exhausted."""
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError, too; the CPU's allocator has no type of its own.
    phrases = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


def fail(message: str) -> NoReturn:
    """Print a message in one line and end the process with exit code 2."""
    print(f"error: {escape_controls(' '.join(message.splitlines()))}", file=sys.stderr)
    sys.exit(2)


def discard_output() -> None:
    """Send standard output nowhere, after the reader of a pipe (`| head`) has closed it.

    Otherwise Python fails once more when it flushes the stream at its end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def writing_to(path: object, setting: str = "") -> Iterator[None]:
    """Turn an error of the system while a file or folder is written into a `UserError`.

    `setting`, such as `output=`, begins the message if a setting names the file.
    """
    try:
        yield
    except BrokenPipeError:  # of standard output, not of the file
        raise
    except OSError as error:
        reason = error.strerror if setting else f"cannot be written ({error.strerror})"
        raise UserError(f"{setting}{path}: {reason}") from None


def suggest(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: similar names if there are any, else all."""
    names = sorted(choices)
    close = len(name) < 100 and difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"known: {', '.join(names) if names else 'none'}"
