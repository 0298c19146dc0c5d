"""Printing for people: text from data and users unchanged, in UTF-8, without terminal escapes.

A value, a file name or a hypothesis may hold anything: Rich's markup (`[/b]`), an escape sequence
that rewrites the screen, a mark that turns the direction of writing. Consoles and tables of this
module print all of it as text.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from nmt_feat.errors import escape_controls


def use_utf8() -> None:
    """Write UTF-8 to standard output and error whatever the locale, here and in child processes."""
    os.environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # a test's stream may have none
            # File names that are not UTF-8 are lone surrogates, which UTF-8 cannot hold.
            reconfigure(encoding="utf-8", errors="backslashreplace")


def say(*parts: object, file: TextIO | None = None) -> None:
    """Print a line for people, now; `file` is standard output if not given."""
    print(escape_controls(" ".join(map(str, parts))), file=file or sys.stdout, flush=True)


def format_duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@contextlib.contextmanager
def silence_logger(name: str) -> Iterator[None]:
    """Within, a package's logger says nothing, where it would explain a failure in many lines."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def literal(content: RenderableType) -> RenderableType:
    """A string as a text without markup or escapes; anything else as it is."""
    return Text(escape_controls(content)) if isinstance(content, str) else content


class TextConsole(Console):
    """A console to which a string is text: no markup, no emoji codes, no highlighting."""

    def __init__(
        self, file: IO[str] | None = None, stderr: bool = False, width: int | None = None
    ) -> None:
        super().__init__(
            file=file, stderr=stderr, width=width, markup=False, emoji=False, highlight=False
        )

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's, of strings as they are."""
        super().print(*map(literal, objects), **options)


class TextTable(Table):
    """A table whose strings are texts, whatever console prints it."""

    def __init__(self, *headers: str, **options: Any) -> None:
        super().__init__(**options)
        for header in headers:
            self.add_column(header)

    def add_column(self, header: RenderableType = "", *arguments: Any, **options: Any) -> None:
        """As Rich's."""
        super().add_column(literal(header), *arguments, **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As Rich's."""
        super().add_row(*(cell if cell is None else literal(cell) for cell in cells), **options)
