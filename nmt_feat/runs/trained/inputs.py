"""Texts that programs read: their format, and the files beside them.

All programs take the same settings: `format`, `factors`, `raw`. If they are not set, the name of
the file decides, then the format of the run's training text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NoReturn

from nmt_feat.base.outputs import STANDARD
from nmt_feat.base.terminal import say
from nmt_feat.config.data_schema import DataConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.text import formats
from nmt_feat.text.conllu import Findings, Sentence, replace_labels
from nmt_feat.text.factored import SEPARATORS, parse_parallel
from nmt_feat.text.factors import check_factors
from nmt_feat.text.files import read_lines
from nmt_feat.text.normalization import normalize_line

PARALLEL = "parallel"
"""A file of words, and beside it a file of values for each factor."""
KINDS = ("auto", *formats.FORMATS, PARALLEL)
SAMPLE_SIZE = 10
"""How many first lines of a text decide whether it looks factored."""
_NBEST = re.compile(r"(\d+) \|\|\| (.*) \|\|\| -?(?:\d+\.\d+|inf)")


@dataclass
class Text:
    """A text and how to read it."""

    name: str
    format: str = "auto"
    factors: list[str] = field(default_factory=list)
    raw: str | None = None
    option: str = ""
    """How messages write settings: empty for `format=pipe`, `--` for `--format pipe`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values of all sentences by key, such as `formality`."""
    label_files: dict[str, str] = field(default_factory=dict)
    """By key, the file with a value in each line."""

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "standard input" if self.name == STANDARD else self.name

    def as_setting(self, name: str, value: str) -> str:
        """A setting as the user writes it."""
        return f"--{name} {value}" if self.option else f"{name}={value}"


class Reader:
    """Reads a text in the format of its settings, of its name, or of a run's training text.

    Args:
        text: the text to read.
        data: the corpus of the run, if there is one.
        annotates: whether plain text suffices: the run has an annotator, or needs no annotation.
    """

    def __init__(self, text: Text, data: DataConfig | None = None, annotates: bool = True) -> None:
        self.text, self.label = text, text.label
        if text.format not in KINDS:
            raise UserError(
                f"{text.as_setting('format', text.format)}: unknown; {suggest(text.format, KINDS)}"
            )
        check_factors(text.factors, "--factors" if text.option else "factors")
        self.kind = formats.kind_of(text.name) if text.format == "auto" else text.format
        self.as_in_training = False
        training = training_format(data) if data else "text"
        if text.format == "auto" and self.kind == "text":
            self.as_in_training = training in SEPARATORS or (training == PARALLEL and not annotates)
            self.kind = training if self.as_in_training else self.kind
        refuse_raw(text, self.kind)
        if text.factors and self.kind in ("text", "conllu"):
            raise UserError(
                f"{text.as_setting('factors', ','.join(text.factors))}: {text.name} is read as "
                f"{self.kind}, whose tokens have none; set {text.as_setting('format', 'pipe')}, "
                "ffe8 or jsonl, or leave them out"
            )
        factors_of_training = [] if data is None else data.factors or list(data.train.factors)
        self.factors = text.factors or factors_of_training
        if self.kind in (*SEPARATORS, PARALLEL) and not self.factors:
            names = text.as_setting("factors", "upos,lemma" if text.option else "[upos,lemma]")
            raise UserError(
                f"{text.as_setting('format', self.kind)}: name its factors, such as {names}"
            )
        self.unit = ": sentence " if self.kind == "conllu" else ":"
        if self.as_in_training:
            kind = "files of factors" if self.kind == PARALLEL else f"{self.kind} text"
            setting = text.as_setting("format", self.kind)
            say(
                f"the run was trained on {kind}: {self.label} is read so ({setting})",
                file=sys.stderr,
            )

    def read_sentences(self, findings: Findings | None = None) -> Iterator[Sentence]:
        """The sentences, read one by one, with their labels as comments.

        `findings` counts oddities of their annotation.
        """
        files = {key: iter(read_lines(name)) for key, name in self.text.label_files.items()}
        for sentence in self._read_text(findings):
            labels = dict(self.text.labels)
            for key, lines in files.items():
                if (line := next(lines, None)) is None:
                    self._refuse_label_file(key, f"has fewer lines than {self.label}")
                labels[key] = normalize_line(line)  # as files of labels are read in training
            yield sentence._replace(comments=replace_labels(sentence.comments, labels))
        for key, lines in files.items():
            if next(lines, None) is not None:
                self._refuse_label_file(key, f"has more lines than {self.label}")

    def _refuse_label_file(self, key: str, problem: str) -> NoReturn:
        name = self.text.label_files[key]
        raise UserError(f"label_files.{key}={name}: {problem}; give a value for each sentence")

    def _read_text(self, findings: Findings | None) -> Iterator[Sentence]:
        standard = self.text.name == STANDARD
        lines = _read_standard_input() if standard else iter(read_lines(self.text.name))
        if self.kind == PARALLEL:
            sides = _factor_files(self.text.name, self.factors)
            self._check_factor_files(sides)
            columns = {column: (name, read_lines(name)) for column, name in sides.items()}
            yield from parse_parallel(lines, self.label, columns)
            return
        if self.text.format == "auto" and self.kind == "text":
            # Standard input line by line: its writer may wait for each translation.
            lines = self._check_first_lines(lines, 1 if standard else SAMPLE_SIZE)
        try:
            yield from formats.parse_lines(
                lines, self.label, self.kind, self.factors, findings=findings
            )
        except UserError as error:
            if not self.as_in_training:
                raise
            plain = self.text.as_setting("format", "text")
            raise UserError(f"{error}; for plain text set {plain}") from None

    def _check_first_lines(self, lines: Iterator[str], at_once: int) -> Iterator[str]:
        """The lines; a `UserError` if the first ones look factored."""
        sample: list[str] = []
        while len(sample) < SAMPLE_SIZE and (next_lines := list(islice(lines, at_once))):
            sample += next_lines
            refuse_factored(sample, self.text)
            yield from next_lines
        yield from lines

    def list_files(self) -> list[str]:
        """The files that the text is read from."""
        beside = _factor_files(self.text.name, self.factors) if self.kind == PARALLEL else {}
        labels = self.text.label_files.values()
        return [name for name in (self.text.name, self.text.raw, *beside.values(), *labels) if name]

    def name_sentences(self, count: int, first: int = 1) -> list[str]:
        """Names for messages of so many sentences, the first of which has this number."""
        return [f"{self.label}{self.unit}{first + i}" for i in range(count)]

    def _check_factor_files(self, sides: dict[str, str]) -> None:
        """Refuse a text without a file of each factor beside it."""
        if self.text.name == STANDARD:
            raise UserError(
                "standard input has no files of factors beside it; give the words as a file, or "
                f"{self.text.as_setting('format', 'pipe')}"
            )
        for column in self.factors:
            if column not in sides:
                names = " or ".join(dict.fromkeys(_factor_file_names(self.text.name, column)))
                raise UserError(
                    f"{self.label}: its {column} is in no file {names}; put it there, a value for "
                    f"each token, or give CoNLL-U ({self.text.as_setting('format', 'conllu')})"
                )


def training_format(data: DataConfig) -> str:
    """The format of a run's training text."""
    if data.train.factors:
        return PARALLEL
    return formats.kind_of(data.train.source) if data.format == "auto" else data.format


def refuse_raw(text: Text, kind: str) -> None:
    """Refuse a raw counterpart of annotated text, which has no use for it."""
    if text.raw and kind != "text":
        raise UserError(
            f"{text.as_setting('raw', text.raw)}: goes with plain text, not with {kind}; "
            "leave it out"
        )


def refuse_factored(lines: Sequence[str], text: Text) -> None:
    """Refuse plain text that looks annotated: with factors, as CoNLL-U or as JSON lines."""
    if kind := formats.guess_format(lines):
        annotated, plain = text.as_setting("format", kind), text.as_setting("format", "text")
        factors = " and factors" if kind in SEPARATORS else ""
        raise UserError(
            f"{text.label}: {formats.describe_look(kind)}; set {annotated}{factors}, or {plain} if "
            "it is plain"
        )


def parse_nbest(lines: Sequence[str], name: str, count: int) -> tuple[list[int], list[str]] | None:
    """The sentence number and the text of each line of an n-best list; None for other text."""
    rows = [_NBEST.fullmatch(line) for line in lines]
    if not rows or None in rows:
        return None
    numbers = [int(row[1]) for row in rows if row]
    for line, number in enumerate(numbers, 1):
        if number >= count:
            raise UserError(
                f"{name}:{line}: sentence {number} of an n-best list, but the source has {count} "
                "(the first is 0); give the source that was translated"
            )
    return numbers, [row[2] for row in rows if row]


def _factor_files(name: str, columns: Sequence[str]) -> dict[str, str]:
    """By column, the file of factors beside a file of words, for those columns that have one."""
    if name == STANDARD:
        return {}
    paths = {c: [p for p in _factor_file_names(name, c) if Path(p).is_file()] for c in columns}
    return {column: names[0] for column, names in paths.items() if names}


def _factor_file_names(name: str, column: str) -> list[str]:
    """Possible names of a factor's file beside a file of words: `test.en.upos`, or `test.upos`."""
    return [f"{name}.{column}", str(Path(name).with_suffix(f".{column}"))]


def _read_standard_input() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().rstrip("\r\n")
            yield text.removeprefix("\ufeff") if number == 1 else text
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input:{number}: invalid UTF-8 at byte {error.start} of the line; "
                "convert it: iconv -f ENCODING -t UTF-8"
            ) from None
