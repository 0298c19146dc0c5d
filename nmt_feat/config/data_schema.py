"""The settings of a run's text: its files, its annotators, its subwords. Part of `schema`.

`docs/reference/settings.md` is generated from the docstrings here, as from those of `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta
from omegaconf import MISSING

from nmt_feat.config.bounds import (
    AtLeast0,
    AtLeast1,
    Share,
    SpanLength,
    one_of,
)


@dataclass
class SplitConfig:
    """A set of sentence pairs: two files, in which lines of the same number are translations of
    each other. Files may be gzipped (`.gz`).

    A name with `*` stands for several files, which are read as one, in the order of the numbers in
    their names.
    """

    source: str = MISSING
    """Source side, see `data.format`."""
    target: str = MISSING
    """Target side: plain text, a sentence a line."""
    conllu: str | None = None
    """Annotation of a plain source side (CoNLL-U, or `.jsonl`); its words are aligned to the
    text."""
    factors: dict[str, str] = field(default_factory=dict)
    """Files of factors by column, such as `upos: train.upos`: a value for each token of the
    source."""
    labels: dict[str, str] = field(default_factory=dict)
    """Files of values of whole sentences, such as `formality: train.formality`: a value a line, or
    a blank line for none. They replace comments of CoNLL-U (`# formality = informal`)."""
    raw: str | None = None
    """Raw text of a tokenised source. The annotator reads it, and its annotation is carried to the
    tokens by their characters."""
    optional: bool = False
    """For test sets: whether the set may be missing. If it is, a line says so."""


@dataclass
class DownloadConfig:
    """Where a public corpus comes from. Files are downloaded once, and their sums are checked."""

    url: str | None = None
    """Address of the folder of the files, `https://...` or `file://...`."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 sum of each file. A file without a sum is not downloaded."""


@dataclass
class AnnotatorPart:
    """An annotator of the target language, or one of several of the source language,
    `annotator=[udpipe,spacy]`. On the command line, `annotator.udpipe.model=FILE` is the model of
    the one that is called `udpipe`."""

    _target_: str | None = None
    """Class of the annotator."""
    model: str | None = None
    """The annotator's model."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class TerminologyConfig:
    """A glossary, whose translations are written into the source text."""

    glossary: str | None = None
    """File with a term in each line: source term, tab, target term, and optionally a tab and the
    lemmas of the source term. In training a term is written only if the target text has its
    translation; in dev and test each term of the source is."""
    mode: Annotated[str, one_of("none", "append", "replace")] = "append"
    """Where a translation is written: behind its term (`append`), in its place (`replace`), or
    nowhere (`none`)."""
    marking: Annotated[str, one_of("factor", "tags")] = "factor"
    """What marks both. `factor`: values of the feature `term`, 1 for the term, 2 for its
    translation, 0 for other words. `tags`: tags around them."""
    match: Annotated[str, one_of("surface", "lemma")] = "surface"
    """How a term is found in the source. `surface`: as it is written; a term in lower case matches
    capitals, too. `lemma`: also by the lemmas of the annotation."""
    target_lemmas: AnnotatorPart = field(default_factory=AnnotatorPart)
    """Annotator of the target language, `{_target_: nmt_feat.annotators.Simplemma, args: {language:
    de}}`. With it, a term of training is also written if its translation has another form there.
    """
    share: Share = 1.0
    """Share of the training pairs with terms in which terms are written; drawn by the numbers of
    their lines."""
    tags: list[str] = field(default_factory=lambda: ["⟦", "⟠", "⟧"])
    """The three tags of `marking=tags`: before a term, before its translation, and behind it."""
    shuffled: bool = False
    """A control: each term has the translation of another term."""

    @property
    def is_applied(self) -> bool:
        """Whether terms are written into the text."""
        return self.glossary is not None and self.mode != "none"

    @property
    def marks_words(self) -> bool:
        """Whether a column of the words says where terms are."""
        return self.is_applied and self.marking == "factor"

    @property
    def needs_lemmas(self) -> bool:
        """Whether terms are looked for among the lemmas of an annotation."""
        return self.is_applied and self.match == "lemma"


@dataclass
class NoiseConfig:
    """What is masked of a text that training restores (`data.objective=denoise`)."""

    share: Annotated[float, Meta(gt=0, le=1)] = 0.3
    """Share of the words of each sentence."""
    length: SpanLength = 3.0
    """Mean length of a span, in words; lengths have a Poisson distribution."""
    unit: Annotated[str, one_of("word", "piece")] = "word"
    """What a span consists of: words between spaces, or, for languages without spaces, pieces."""
    features: Annotated[str, one_of("mask", "keep")] = "mask"
    """Features of a span: unknown (`mask`), or those of its first word (`keep`), which give a part
    of the answer away."""


@dataclass
class DataConfig:
    """The parallel corpus."""

    name: str = MISSING
    """Name of the corpus in results."""
    source_lang: str = MISSING
    """Source language, an ISO 639 code."""
    target_lang: str = MISSING
    """Target language, an ISO 639 code, optionally with script or region (`zh`, `zho_Hans`,
    `zh-TW`). It decides how translations are scored."""
    folder: str | None = None
    """Folder of the files; by default the current one."""
    format: str = "auto"
    """Form of the source side: `text` (a sentence a line), `conllu`, `jsonl`, `pipe`
    (`word|f1|f2`), `ffe8` (the same with U+FFE8), or `auto`: by the ending of the name, else
    text."""
    factors: list[str] = field(default_factory=list)
    """Columns of the factors in `pipe`, `ffe8` or Sockeye's JSON lines, in order."""
    train: SplitConfig = field(default_factory=SplitConfig)
    """Training split."""
    dev: SplitConfig = field(default_factory=SplitConfig)
    """Validation split: chooses checkpoints, stops training."""
    tests: dict[str, SplitConfig] = field(default_factory=dict)
    """Test sets by name; the first one is the table's."""
    download: DownloadConfig = field(default_factory=DownloadConfig)
    """Where to get the files when the folder lacks them."""
    terminology: TerminologyConfig = field(default_factory=TerminologyConfig)
    """Terms and their translations; see the page on terminology."""
    vocab_size: AtLeast1 = 8000
    """Number of subword pieces; of each side, if `subword.joint` is false."""
    tokenized: bool = False
    """Whether the text is lower-cased tokens. BLEU is then computed on these tokens, without a
    tokeniser and without case."""
    bleu_tokenizer: str | None = None
    """Tokeniser of sacreBLEU for BLEU on dev and test. By default `target_lang` decides: `zh`,
    `ja-mecab`, `ko-mecab`, `char` for Thai, Lao, Khmer, Burmese and others without spaces between
    words, else `13a`."""
    min_words: int = 1
    """Training pairs with fewer words (between spaces) on a side are left out and counted."""
    max_pieces: int = 256
    """Training pairs with more pieces on a side are left out and counted."""
    max_ratio: float = 9.0
    """Training pairs are left out and counted if one side has more than so many times the pieces of
    the other."""
    limit: AtLeast1 | None = None
    """Train on only so many pairs, the first ones."""
    processes: AtLeast0 = 0
    """Processes that prepare the data in parallel; 0 is one for each core. They do not change the
    result."""
    objective: Annotated[str, one_of("translate", "denoise")] = "translate"
    """What the model learns: to `translate`, or to `denoise`, that is, to restore the source text,
    in which spans are masked. The target side is then not used."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """What is masked."""
    readings: bool = False
    """Whether to report reading accuracy: equal source lines of the test set are taken as readings
    of one sentence."""


@dataclass
class AnnotatorConfig:
    """What annotates plain source text."""

    _target_: str | None = None
    """Class of the annotator; null if the corpus brings its annotation."""
    model: str | None = None
    """Model of the annotator: a file (UDPipe), a folder (spaCy, Stanza) or the name of an installed
    pipeline (spaCy)."""
    processes: AtLeast0 = 0
    """Processes that annotate in parallel; 0 is one for each core. They do not change the
    result."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""
    replace: bool = False
    """Whether the annotator replaces the columns that the text brings (CoNLL-U, factors). If not,
    these stay, and the annotator adds the columns that the text lacks."""
    parts: dict[str, AnnotatorPart] = field(default_factory=dict)
    """The annotators of `annotator=[udpipe,spacy]`, by name. If several give a column, the values
    of the first one are taken."""

    @property
    def targets(self) -> list[str]:
        """The classes of the annotators."""
        targets = [self._target_, *(part._target_ for part in self.parts.values())]
        return [target for target in targets if target]


@dataclass
class SubwordConfig:
    """How text is cut into pieces."""

    kind: Annotated[str, one_of("bpe", "unigram", "none", "given", "pretrained")] = "bpe"
    """`bpe` or `unigram` (SentencePiece), `none` (words between spaces), or `given` (the text is
    already cut). `pretrained` follows from `model.folder`."""
    joint: bool = True
    """Whether both sides have one subword model and one vocabulary; `model.tie=all` needs it."""
    vocab_size: AtLeast1 = "${data.vocab_size}"  # type: ignore[assignment]
    """Number of pieces; for `none` and `given`, the largest number of words."""
    min_count: AtLeast1 = 1
    """Words that occur less often are unknown (`none` and `given`)."""
    character_coverage: Annotated[float, Meta(ge=0.98, le=1)] = 1.0
    """Share of the characters of the text that the pieces cover (`bpe` and `unigram`). The rarest
    ones, beyond this share, are unknown."""
    byte_fallback: bool = False
    """Whether characters that no piece has are spelled in bytes (`bpe` and `unigram`)."""
    split_at_words: bool = False
    """Whether the source is cut at the words of its annotation first, so that no piece covers two
    words (`bpe` and `unigram`)."""
