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
    """One split: two files, line by line translations of each other. `.gz` is read as such.

    A name with `*` stands for several files, read as one, in the order of the numbers in them.
    """

    source: str = MISSING
    """Source side, see `data.format`."""
    target: str = MISSING
    """Target side: plain text, a sentence a line."""
    conllu: str | None = None
    """Annotation of a plain source side (CoNLL-U, or `.jsonl`); its words are aligned to the
    text."""
    factors: dict[str, str] = field(default_factory=dict)
    """Files of factors by column, as `upos: train.upos`: a value for each token of the source."""
    labels: dict[str, str] = field(default_factory=dict)
    """Files of values of whole sentences, as `formality: train.formality`: a value a line; a blank
    line has none. They take the place of comments of CoNLL-U (`# formality = informal`)."""
    raw: str | None = None
    """Raw counterpart of a tokenised source: annotated in its place, projected by characters."""
    optional: bool = False
    """Whether the split may be missing (said, not fatal); for test sets only."""


@dataclass
class DownloadConfig:
    """Where a public corpus comes from. Files are fetched once, resumably, and verified."""

    url: str | None = None
    """Folder URL (`https://...` or `file://...`, others are refused) of the files' names."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Pinned SHA-256 sum of each file; a file without one is not downloaded."""


@dataclass
class AnnotatorPart:
    """One of several annotators, `annotator=[udpipe,spacy]`; on the command line
    `annotator.udpipe.model=FILE` is the model of the one named `udpipe`."""

    _target_: str | None = None
    """Class of the annotator."""
    model: str | None = None
    """The annotator's model."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class TerminologyConfig:
    """Terms of a glossary, whose translations are written into the source text."""

    glossary: str | None = None
    """File of terms, a line each: source term, tab, target term, and maybe a tab and the lemmas of
    the source term. In training a term counts where the target has its translation; dev and test
    get those of the source."""
    mode: Annotated[str, one_of("none", "append", "replace")] = "append"
    """Whether a translation is written behind its term (`append`) or in its place (`replace`), or
    the text stays as it is (`none`)."""
    marking: Annotated[str, one_of("factor", "tags")] = "factor"
    """What marks both: `factor`, for the feature `term` (0, 1 for the term, 2 for its translation),
    or `tags` around them."""
    match: Annotated[str, one_of("surface", "lemma")] = "surface"
    """Whether a term is found in the source as it is written (one in lower case whatever the
    text's), or by the lemmas of the annotation too."""
    target_lemmas: AnnotatorPart = field(default_factory=AnnotatorPart)
    """Annotator of the target language, `{_target_: nmt_feat.annotators.Simplemma, args: {language:
    de}}`: in training a term then also counts where the target has its translation in another form.
    """
    share: Share = 1.0
    """Share of the training pairs with terms whose terms are written; drawn by their places."""
    tags: list[str] = field(default_factory=lambda: ["⟦", "⟠", "⟧"])
    """They begin a term, stand before its translation, and end it, for `marking=tags`."""
    shuffled: bool = False
    """A control: each term has another one's translation."""

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
    """What a span consists of: each `word` between spaces, or, for languages without spaces, each
    `piece`."""
    features: Annotated[str, one_of("mask", "keep")] = "mask"
    """Features of a span: unknown (`mask`), or those of its first word (`keep`), which tell a part
    of the answer."""


@dataclass
class DataConfig:
    """The parallel corpus."""

    name: str = MISSING
    """Name shown in results."""
    source_lang: str = MISSING
    """Source language, an ISO 639 code."""
    target_lang: str = MISSING
    """Target language, an ISO 639 code, maybe with script or region (`zh`, `zho_Hans`, `zh-TW`);
    says how translations are scored."""
    folder: str | None = None
    """Folder that relative file names of the splits start from (default: the current one)."""
    format: str = "auto"
    """Of the source side: `text` (a sentence a line), `conllu`, `jsonl`, `pipe` (`word|f1|f2`),
    `ffe8` (the same with U+FFE8), or `auto`: by the name's ending, else text."""
    factors: list[str] = field(default_factory=list)
    """Columns that the factors of `pipe`, `ffe8` or Sockeye's JSON lines are, in order."""
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
    """Number of subword pieces (of each side where the model is not joint)."""
    tokenized: bool = False
    """The text is lower-cased tokens: BLEU on tokens as they are, `tokenize=none`, lower-cased."""
    bleu_tokenizer: str | None = None
    """sacreBLEU's tokeniser for BLEU on dev and test; default that of `target_lang`: `zh`,
    `ja-mecab`, `ko-mecab`, `char` for Thai, Lao, Khmer, Burmese and others without spaces between
    words, else `13a`."""
    min_words: int = 1
    """Training pairs with fewer words (by spaces) on a side are filtered and counted."""
    max_pieces: int = 256
    """Training pairs with more pieces on a side are filtered and counted."""
    max_ratio: float = 9.0
    """Training pairs with a ratio of pieces above this are filtered and counted."""
    limit: AtLeast1 | None = None
    """Keep only the first pairs of the training split."""
    processes: AtLeast0 = 0
    """Parallel processes that prepare the data; 0 means one per core. Never changes the result."""
    objective: Annotated[str, one_of("translate", "denoise")] = "translate"
    """`translate`, or `denoise`: restore the source text, of which spans are masked; the target
    side is not used."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """What is masked."""
    readings: bool = False
    """Report reading accuracy: equal source lines of the test set are readings of each other."""


@dataclass
class AnnotatorConfig:
    """What turns raw source text into annotated words."""

    _target_: str | None = None
    """Class of the annotator; none where the corpus brings its annotation."""
    model: str | None = None
    """The annotator's model: a file (UDPipe), a folder or the name of an installed one (spaCy)."""
    processes: AtLeast0 = 0
    """Parallel processes; 0 means one per core. Never changes the result."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""
    replace: bool = False
    """Whether it takes the place of the columns that the text brings (CoNLL-U, factors). Else these
    win, and the annotator adds the columns that the text lacks."""
    parts: dict[str, AnnotatorPart] = field(default_factory=dict)
    """The annotators of `annotator=[udpipe,spacy]`, by name. Of a column that several give, the
    first one's values are taken."""

    @property
    def targets(self) -> list[str]:
        """The classes of the annotators."""
        targets = [self._target_, *(part._target_ for part in self.parts.values())]
        return [target for target in targets if target]


@dataclass
class SubwordConfig:
    """How text becomes pieces."""

    kind: Annotated[str, one_of("bpe", "unigram", "none", "given", "pretrained")] = "bpe"
    """`bpe` or `unigram` (SentencePiece), `none` (words), `given` (text already segmented);
    `pretrained` follows from `model.folder`."""
    joint: bool = True
    """One model and one vocabulary for both sides; always so with `model.tie=all`."""
    vocab_size: AtLeast1 = "${data.vocab_size}"  # type: ignore[assignment]
    """Number of pieces or, for `none` and `given`, the largest number of words kept."""
    min_count: AtLeast1 = 1
    """Rarer words are unknown (`none` and `given`)."""
    character_coverage: Annotated[float, Meta(ge=0.98, le=1)] = 1.0
    """Share of characters that SentencePiece covers; the rest are unknown."""
    byte_fallback: bool = False
    """Spell characters outside the vocabulary in bytes."""
    split_at_words: bool = False
    """Cut the source at the words of its annotation before it is cut into pieces, so that no piece
    covers two; for `bpe` and `unigram`."""
