"""The settings of the commands that use a trained run; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from omegaconf import MISSING

from nmt_feat.config.bounds import AtLeast0, AtLeast1, Beam, NotNegative, one_of


@dataclass
class TranslateConfig:
    """`translate.py`: translate with a trained run."""

    run: str = MISSING
    """Folder of the run. Several, with commas between or by `*`, translate together: the mean of
    their probabilities."""
    input: str = "-"
    """File of sentences, one a line, or CoNLL-U (`.conllu`); `-` is standard input."""
    output: str = "-"
    """File of translations; `-` is standard output."""
    raw: str | None = None
    """Raw counterpart of the text, line by line; for runs whose training text has one."""
    format: str = "auto"
    """`text`, `conllu`, `jsonl`, `pipe` (`word|f1|f2`), `ffe8` (the same with U+FFE8), `parallel`
    (the words; beside `test.en` each factor in `test.en.upos` or `test.upos`), or `auto`: by the
    name, else the run's own where that is `pipe`, `ffe8` or `parallel`, else text."""
    factors: list[str] = field(default_factory=list)
    """Columns that the factors of `pipe`, `ffe8` or Sockeye's JSON lines are, in order; default
    those of training."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values of all sentences, for features of whole sentences: `+labels.formality=informal`. They
    take the place of those that the text has."""
    label_files: dict[str, str] = field(default_factory=dict)
    """The same with a value a line: `+label_files.formality=test.formality`."""
    glossary: str | None = None
    """File of terms with their translations, written into the text as in training; for runs with
    `data.terminology`."""
    nbest: Beam = 1
    """Hypotheses per sentence; the run's beam is widened to as many. Above 1, lines are
    `number ||| hypothesis ||| score`."""
    beam: Beam | None = None
    """Beam size, if not the run's."""
    length_penalty: NotNegative | None = None
    """Length penalty, if not the run's."""
    stop: Annotated[str, one_of("proven", "likely")] | None = None
    """When the search of a sentence ends, if not as in the run: `likely` is less work, see
    `decoding.stop` of training."""
    refill: bool | None = None
    """Whether the beam stays as wide when hypotheses end, if not as in the run."""
    engine: Annotated[str, one_of("native", "ctranslate2")] = "native"
    """`native`, or `ctranslate2` for what `scripts/export.py` has exported."""
    fallback: Annotated[str, one_of("native", "nearest")] = "native"
    """A sentence with a combination of piece and features that was not exported: `native`
    translates it exactly, `nearest` with its piece's most frequent combination if there is one."""
    chunk: AtLeast1 = 200
    """Sentences read and translated together."""
    unknown: Annotated[str, one_of("warn", "error")] = "warn"
    """What is done where the run does not know pieces or values of features, or where a line has
    more pieces than any of training: `warn` (a line with counts at the end) or `error`."""
    max_pieces: AtLeast1 = 1024
    """Pieces of a line at most; see `too_long`."""
    too_long: Annotated[str, one_of("split", "empty", "refuse")] = "split"
    """What is done with a line that has more pieces, or for which memory does not suffice: `split`
    (translated in parts, at the ends of sentences if it has such), `empty` (its translation is), or
    `refuse` (before the start, if `input` is a file)."""
    threads: AtLeast0 = 0
    """CPU threads; 0 keeps PyTorch's choice."""


@dataclass
class ScoreConfig:
    """`score.py`: the log-probability of given translations."""

    run: str = MISSING
    """Folder of the run."""
    source: str = MISSING
    """Source sentences: text, CoNLL-U (`.conllu`) or JSON lines (`.jsonl`)."""
    target: str = MISSING
    """Their translations, line by line, or an n-best list of `translate.py`."""
    raw: str | None = None
    """Raw counterpart of the text, line by line; for runs whose training text has one."""
    format: str = "auto"
    """Of the source, as `translate.py` has it."""
    factors: list[str] = field(default_factory=list)
    """Columns of the source's factors, as `translate.py` has them."""
    labels: dict[str, str] = field(default_factory=dict)
    """Values of all sentences, for features of whole sentences: `+labels.formality=informal`. They
    take the place of those that the text has."""
    label_files: dict[str, str] = field(default_factory=dict)
    """The same with a value a line: `+label_files.formality=test.formality`."""
    glossary: str | None = None
    """File of terms with their translations, written into the text as in training; for runs with
    `data.terminology`."""
    unknown: Annotated[str, one_of("warn", "error")] = "warn"
    """What is done where the run does not know pieces or values of features, or where a line has
    more pieces than any of training: `warn` (a line with counts at the end) or `error`."""
    max_pieces: AtLeast1 = 4096
    """Pieces of a line, of either side, at most; a longer one is refused before any is scored."""
    output: str = "-"
    """File of scores, `logprob <tab> tokens` a line; `-` is standard output."""
    threads: AtLeast0 = 0
    """CPU threads; 0 keeps PyTorch's choice."""
