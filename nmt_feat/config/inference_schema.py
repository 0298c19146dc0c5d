"""The settings of the commands that use a trained run; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from omegaconf import MISSING

from nmt_feat.config.bounds import AtLeast1, Beam, NotNegative, Threads, one_of


@dataclass
class TranslateConfig:
    """`translate.py`: translate with a trained run."""

    run: str = MISSING
    """Folder of the run. Several runs, with commas between them or by `*`, translate together, by
    the mean of their probabilities."""
    input: str = "-"
    """File of sentences: text, CoNLL-U (`.conllu`) or JSON lines (`.jsonl`); `-` is standard
    input."""
    output: str = "-"
    """File of translations; `-` is standard output."""
    raw: str | None = None
    """Raw text of a tokenised input, line by line; for runs whose training text has one."""
    format: str = "auto"
    """Form of the input: `text`, `conllu`, `jsonl`, `pipe` (`word|f1|f2`), `ffe8` (the same with
    U+FFE8), or `parallel` (words in `test.en`, each factor in `test.en.upos` or `test.upos`).
    `auto` decides by the ending of the name; another ending is read as in training, if that was
    `pipe`, `ffe8` or `parallel`, else as text."""
    factors: list[str] = field(default_factory=list)
    """Columns of the factors in `pipe`, `ffe8` or Sockeye's JSON lines, in order; by default those
    of training."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values for all sentences, for features of whole sentences: `+labels.formality=informal`. They
    replace those of the text."""
    label_files: dict[str, str] = field(default_factory=dict)
    """Files with a value for each line: `+label_files.formality=test.formality`."""
    glossary: str | None = None
    """File of terms with their translations, which are written into the text as in training; for
    runs with `data.terminology`."""
    nbest: Beam = 1
    """How many hypotheses of each sentence are written. If there are several, lines are
    `number ||| hypothesis ||| score`, and the beam is at least as large."""
    beam: Beam | None = None
    """Size of the beam; by default as in the run."""
    length_penalty: NotNegative | None = None
    """Length penalty; by default as in the run."""
    stop: Annotated[str, one_of("proven", "likely")] | None = None
    """When the search of a sentence ends, see `decoding.stop`; by default as in the run."""
    refill: bool | None = None
    """Whether the beam stays as wide when hypotheses end; by default as in the run."""
    engine: Annotated[str, one_of("native", "ctranslate2")] = "native"
    """`ctranslate2` uses the export that `scripts/export.py` has made."""
    fallback: Annotated[str, one_of("native", "nearest")] = "native"
    """What an export does with a combination of piece and features that it does not have. `native`:
    the sentence is translated without it. `nearest`: the piece's most frequent combination is
    taken, if there is one."""
    chunk: AtLeast1 = 200
    """How many sentences are read and translated together."""
    unknown: Annotated[str, one_of("warn", "error")] = "warn"
    """What happens if the text has pieces or values of features that the run does not know, or a
    line longer than any of training: a line with counts at the end (`warn`), or an `error`."""
    max_pieces: AtLeast1 = 1024
    """Largest number of pieces in a line; see `too_long`."""
    too_long: Annotated[str, one_of("split", "empty", "refuse")] = "split"
    """What happens to a line with more pieces, or too long for the memory. `split`: it is
    translated in parts, if possible at the ends of sentences. `empty`: its translation is empty.
    `refuse`: an error, before the start if `input` is a file."""
    threads: Threads = 0
    """CPU threads; 0 is PyTorch's choice."""


@dataclass
class ScoreConfig:
    """`score.py`: log-probabilities of translations that exist already."""

    run: str = MISSING
    """Folder of the run."""
    source: str = MISSING
    """Source sentences: text, CoNLL-U (`.conllu`) or JSON lines (`.jsonl`)."""
    target: str = MISSING
    """Their translations, line by line, or an n-best list of `translate.py`."""
    raw: str | None = None
    """Raw text of a tokenised source, line by line; for runs whose training text has one."""
    format: str = "auto"
    """Form of the source, as of `translate.py`."""
    factors: list[str] = field(default_factory=list)
    """Columns of the factors of the source, as of `translate.py`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values for all sentences, for features of whole sentences: `+labels.formality=informal`. They
    replace those of the text."""
    label_files: dict[str, str] = field(default_factory=dict)
    """Files with a value for each line: `+label_files.formality=test.formality`."""
    glossary: str | None = None
    """File of terms with their translations, which are written into the text as in training; for
    runs with `data.terminology`."""
    unknown: Annotated[str, one_of("warn", "error")] = "warn"
    """What happens if the text has pieces or values of features that the run does not know, or a
    line longer than any of training: a line with counts at the end (`warn`), or an `error`."""
    max_pieces: AtLeast1 = 4096
    """Largest number of pieces in a line of either side. A longer line is refused before the
    start."""
    output: str = "-"
    """File of scores, in each line log-probability, tab, number of tokens; `-` is standard
    output."""
    threads: Threads = 0
    """CPU threads; 0 is PyTorch's choice."""
