"""A kind of feature: an object that answers all questions of the program about a feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nmt_feat.config.instantiate import build_object, locate_class
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.embedders.ids import END, FIRST, PAD, UNK
from nmt_feat.encoders.states import EncoderInput, LanguageModel, States
from nmt_feat.errors import UserError
from nmt_feat.features.needs import NEEDED, explain_constant, format_value, refuse_wrong_source
from nmt_feat.features.vocabulary import INSIDE, Code, FeatureVocab, VocabularyBasis, choose_values
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.sentences import Booleans, DictionaryColumn, Sentences
from nmt_feat.text.word_values import MISSING

NOTED_LOSS = 0.05
"""From this share of lost values on, `describe_lost` has a note."""


class FeatureKind:
    """The base class of kinds: everything that the program may ask about a feature.

    The program never asks which kind a feature is. Without overrides, this is a feature of words
    whose values need only the text, with one vector for each value. A kind overrides the members in
    which it differs: usually `read_values`, and one or two more.

    Args:
        name: the feature's key under `features`.
        settings: its settings; in a trained run, those that its vocabulary has.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    """The settings of `NEEDED` that the kind takes."""
    reads: ClassVar[str] = "ids"
    """What its embedder reads: `ids`, `units` of distinct tokens, or `vectors`."""
    embedders: ClassVar[str] = "Categorical"
    """Names of suitable embedders, for a message."""
    has_values: ClassVar[bool] = True
    """Whether words or pieces have values; false if they only have vectors."""
    stores_input: ClassVar[bool] = False
    """Whether the prepared data has an encoder's input in place of its vectors."""
    groups_values: ClassVar[bool] = False
    """Whether several values share an id, so that reports show `label_value` of each."""
    values_are_words: ClassVar[bool] = False
    """Whether there are as many values as words, too many to list."""
    unknown_meaning: ClassVar[str] = "a value that the run does not know"
    """What an unknown value is, for a message."""

    def __init__(self, name: str, settings: FeatureConfig) -> None:
        self.name, self.settings = name, settings
        self.where = f"features.{name}"

    # Which settings it takes

    def check_settings(self) -> None:
        """Refuse settings that are wrong or mean nothing here, before any data is read."""
        self.check_column()
        settings = self.settings
        for key, message in NEEDED.items():
            value = getattr(settings, key)
            is_set = value not in (getattr(FeatureConfig, key), "")
            if is_set and key not in self.takes:
                advice = message.format(column=settings.column, where=self.where)
                raise UserError(f"{self.where}.{key}={format_value(value)}: {advice}")
        if self.of_pieces and settings.policy == "first":
            self._refuse_first()
        if settings.policy == "tag" and self.sentence_key is None:
            raise UserError(
                f"{self.where}.policy=tag: is for values of whole sentences, such as "
                "column=sentence.formality; set policy=copy or first"
            )
        self._check_cover()

    def check_column(self) -> None:
        """Refuse a `column` that the kind does not have; by default, any column is allowed."""

    def _refuse_first(self) -> None:
        raise UserError(f"{self.where}.policy=first: each piece has a value; set of=word")

    def _check_cover(self) -> None:
        """Refuse a cover if no piece takes the values of several words."""
        cover = self.settings.cover
        if cover is None:
            return
        if not self.of_words:
            raise UserError(
                f"{self.where}.cover={cover}: is for values of words, not for "
                f"{self.settings.column} of {'pieces' if self.of_pieces else 'an encoder'}; "
                "leave it out"
            )
        if cover == "join" and not self.joins_words:
            raise UserError(
                f"{self.where}.cover=join: {self.describe_values()} cannot be joined; set "
                "cover=first, or leave it out"
            )

    def check_embedder(self) -> None:
        """Refuse vectors for an embedder that does not read them, and an embedder without them."""
        refuse_wrong_source(self.where, self.name, self.settings)

    def complete_settings(self, subwords: str, device: str) -> None:
        """Fill in settings that follow from the feature's files.

        Args:
            subwords: the kind of subwords, `subword.kind`.
            device: the device for an encoder.
        """

    def identify_data(self, cache: Path) -> list[object]:
        """The settings that determine the prepared data; they are hashed.

        `cache` remembers the sums of large files.
        """
        settings = self.settings
        identity: list[object] = [
            settings.column,
            settings.max_values,
            settings.min_count,
            settings.policy,
            settings.of,
            settings.n,
            settings.missing,
            settings.file and hash_file_cached(Path(settings.file), cache),
        ]
        return identity

    def trim_identity(self, settings: dict[str, Any]) -> None:
        """Remove settings that mean nothing for this kind from those that identify a run."""
        settings["file"] = False  # the hash of the data has the file's content
        for key in ("encoder", "layer", "precision", "live", "trained", "learning_rate"):
            del settings[key]

    # Words, pieces and their values

    @property
    def of_pieces(self) -> bool:
        """Whether pieces have values, not words."""
        return False

    @property
    def of_words(self) -> bool:
        """Whether words have values."""
        return self.has_values and not self.of_pieces

    @property
    def single(self) -> bool:
        """Whether each word has one value, not units."""
        return self.of_words and self.reads == "ids"

    @property
    def embedded_as(self) -> tuple[str, ...]:
        """What an embedder may read: see `reads`; or `numbers`, ids that stand for numbers."""
        return (self.reads,)

    @property
    def depends_on_words(self) -> bool:
        """Whether it depends on how the text is divided into words."""
        return True

    @property
    def annotation_column(self) -> str | None:
        """The column of the annotation that it reads; None if it needs only the text."""
        return None

    @property
    def sentence_key(self) -> str | None:
        """The key of the sentence values that it reads; None if it reads none."""
        return None

    @property
    def requires_annotation(self) -> bool:
        """Whether every sentence must have an annotation."""
        return self.annotation_column is not None and self.settings.missing == "error"

    @property
    def joins_words(self) -> bool:
        """Whether the values of several words can be joined to one; units and vectors cannot."""
        return self.single

    @property
    def has_dials(self) -> bool:
        """Whether a dial (dials.py) changes its values, at random."""
        return bool(self.settings.erase or self.settings.classes)

    def choose_cover(self, of_morphemes: bool) -> str:
        """What a piece that covers several words gets; `of_morphemes`: words are morphemes."""
        if self.settings.cover:
            return self.settings.cover
        return "join" if of_morphemes and self.joins_words else "first"

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The value of each word; a kind whose words have values overrides it."""
        raise NotImplementedError(f"{type(self).__name__} has no read_values")

    def read_piece_values(
        self, begins: Booleans, read_surfaces: Callable[[], DictionaryColumn]
    ) -> DictionaryColumn:
        """The value of each piece; a kind whose pieces have values overrides it.

        Args:
            begins: whether each piece is the first of its word.
            read_surfaces: returns the text of each piece.
        """
        raise NotImplementedError(f"{type(self).__name__} has no read_piece_values")

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"the values of column={self.settings.column}"

    # Vocabulary and ids

    def start_vocabulary(self, basis: VocabularyBasis) -> FeatureVocab:
        """A vocabulary before anything is counted: it suffices to read values."""
        return self._make_vocabulary([], [], basis)

    def count_values(self, tokens: Counter[str]) -> Counter[str]:
        """From the counts of tokens to the counts of the vocabulary's values."""
        return tokens

    def build_vocabulary(self, counts: Counter[str], basis: VocabularyBasis) -> FeatureVocab:
        """The vocabulary, from how often train has each value (`count_values`)."""
        return self._make_vocabulary(*choose_values(self.settings, counts), basis)

    def _make_vocabulary(
        self, values: list[str], counts: list[int], basis: VocabularyBasis
    ) -> FeatureVocab:
        settings = self.settings
        return FeatureVocab(
            settings.column,
            settings.policy,
            values,
            counts,
            settings.of,
            settings.n,
            settings.missing,
            annotated=basis.annotated,
            precision=settings.precision,
            erase=settings.erase if self.has_dials else 0.0,
            classes=settings.classes if self.has_dials else None,
            seed=basis.seed if self.has_dials else 0,
            cover=basis.cover,
        )

    def write_files(self, folder: Path) -> None:
        """Write what the model needs beside the vocabulary into `folder`, that of the data."""

    def find_id(self, value: str, vocabulary: FeatureVocab) -> int:
        """The id of a value, UNK if it is unknown."""
        return vocabulary.id_of(value)

    def count_ids(self, vocabulary: FeatureVocab) -> int:
        """The number of ids with special ones, so the rows of an embedding table."""
        return vocabulary.size

    def name_ids(self, vocabulary: FeatureVocab) -> list[str] | None:
        """The values of the ids from FIRST on; None if ids do not stand for values."""
        return vocabulary.values

    def name_tokens(
        self, vocabulary: FeatureVocab, units: Iterable[Iterable[int]]
    ) -> list[str] | None:
        """What to show for the ids from FIRST on in a split; None if nothing can be shown.

        `units`: if the kind has units, the ids of the units of each distinct token in the split.
        """
        return self.name_ids(vocabulary)

    def encode_values(
        self, values: Sequence[str], vocabulary: FeatureVocab
    ) -> tuple[list[int], list[Code]]:
        """Find the ids of values.

        Returns:
            The ids of PAD, UNK, END and `<inside>`, then those of `values`; and, if values have
            units, those of the tokens that the ids stand for (see `number_tokens`).
        """
        inside = self.find_id(INSIDE, vocabulary)
        return [PAD, UNK, END, inside, *(self.find_id(v, vocabulary) for v in values)], []

    def is_unknown(self, value: str, vocabulary: FeatureVocab) -> bool:
        """Whether the vocabulary lacks a value; a missing value is not unknown."""
        return value != MISSING and self.find_id(value, vocabulary) == UNK

    # The data report

    def label_value(self, value: str, vocabulary: FeatureVocab) -> str | None:
        """The value that the model reads for `value`; None if the vocabulary lacks it."""
        is_read = value == MISSING or self.find_id(value, vocabulary) >= FIRST
        return value if is_read else None

    def describe_vocabulary(self, vocabulary: FeatureVocab, counts: Counter[str]) -> list[str]:
        """Lines that tell the user about the vocabulary; `counts`: of values in train."""
        return []

    def describe_lost(self, share: float) -> str | None:
        """A note on the share of words whose value no piece has; None if it is small."""
        if share < NOTED_LOSS:
            return None
        join = f"set {self.where}.cover=join, or " if self.joins_words else "set "
        return (
            f"{self.where}: no piece has the value of {share:.1%} of the words of train; {join}"
            "subword.split_at_words=true"
        )

    def refuse_constant(self, counts: Counter[str], value_count: int, annotation: str) -> None:
        """Refuse a feature that has the same value everywhere: it teaches nothing.

        Args:
            counts: how often train has each value.
            value_count: how many of these values are in the vocabulary.
            annotation: where the annotation comes from, for the message.
        """
        has_unknown = value_count < len(counts)
        if value_count + has_unknown > 1 or self.has_dials:
            return
        message = explain_constant(self.settings, counts, value_count, annotation)
        raise UserError(f"{self.where}{message}")

    # The model

    @property
    def is_predictable(self) -> bool:
        """Whether each piece has one value of a list, so that a model can predict it."""
        return self.has_values and self.reads == "ids" and self.settings.policy != "tag"

    @property
    def gives_heads(self) -> bool:
        """Whether the value of a word's first piece is the distance to its head, in words."""
        return False

    @property
    def is_wide(self) -> bool:
        """Whether it tells nearly as much as the word, so that it needs a wide embedding."""
        return False

    @property
    def sennrich_width(self) -> int:
        """Its width in the models of Sennrich & Haddow (2016), which have the width 500."""
        return 10

    def choose_width(self, ids: int, model_dim: int, preset: str, parts: int) -> int:
        """The preferred width of its embedding.

        Args:
            ids: the number of ids, special ones included.
            model_dim: the model's width.
            preset: the choice without a setting `dim`. `default`: min(ids, 16, model_dim/8); for a
                wide feature (lemma, form, units or vectors) model_dim/4. `tutorial`: 12 of 512.
                `sennrich`: `sennrich_width` of 500, but at least 4, as in
                `factored_sample/config.py` of Sennrich & Haddow (2016). `equal`: all parts have the
                same share, "at an equal rate" (Park & Zhao 2020).
            parts: the number of parts of the combiner.
        """
        if self.settings.dim:
            return self.settings.dim
        if preset == "equal":
            return max(1, model_dim // parts)
        if preset == "default":
            return max(1, model_dim // 4 if self.is_wide else min(ids, 16, model_dim // 8))
        if preset == "tutorial":
            return max(1, round(model_dim * 12 / 512))
        return max(4, round(model_dim * self.sennrich_width / 500))

    def build_embedder(self, size: int, dim: int, std: float) -> nn.Module:
        """Build the module that embeds `size` ids, with the width `dim`."""
        target, args = self.settings._target_, self.settings.args
        cls = locate_class(target)
        if getattr(cls, "reads", "ids") not in self.embedded_as:
            raise UserError(
                f"{target}: cannot embed column={self.settings.column}; its _target_ is "
                f"{self.embedders} of nmt_feat.features"
            )
        module: nn.Module = build_object(target, nn.Module, args, size=size, dim=dim, std=std)
        return module

    def make_sample(self) -> Tensor | None:
        """Ids `(2, 3)` to test a user's embedder with; None if it is not tested."""
        return torch.zeros(2, 3, dtype=torch.long) if self.reads == "ids" else None

    def prepare_embedder(
        self,
        embedder: nn.Module,
        vocabulary: FeatureVocab,
        open_encoder: Callable[[], LanguageModel | None],
    ) -> None:
        """Give the embedder what it needs of the vocabulary, before weights are loaded."""

    def load_vectors(self, embedder: nn.Module, folder: Path) -> None:
        """Load what `write_files` wrote into `folder` into an untrained embedder."""

    def describe_embedder(self, embedder: nn.Module) -> list[str]:
        """Lines that tell the user about the embedder."""
        return []

    def check_exportable(self) -> None:
        """Refuse an export to CTranslate2 if ids alone do not determine the embedding."""

    # Vectors of an encoder

    def open_encoder(self, device: str) -> LanguageModel | None:
        """The encoder that makes the vectors, not loaded yet; None for other kinds."""
        return None

    def reopen_encoder(
        self, vocabulary: FeatureVocab, folder: Path, device: str, cache: Path
    ) -> LanguageModel | None:
        """The encoder of a trained run: the copy in the run's `folder`, else that of training."""
        return None

    def read_states(self, encoder: LanguageModel, texts: list[str]) -> States | EncoderInput:
        """What the pieces of these texts get from the encoder."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    def store_states(
        self, encoder: LanguageModel, texts: Any, cache: Path, say: Callable[[str], None]
    ) -> Path:
        """Store what `read_states` returns in a folder of `cache`; `say` reports slow steps."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    def open_states(self, folder: Path) -> States | EncoderInput:
        """Open what `store_states` wrote, memory-mapped."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    def scale_vocabulary(
        self,
        vocabulary: FeatureVocab,
        encoder: LanguageModel,
        states: States | EncoderInput,
        texts: Any,
        cache: Path,
    ) -> FeatureVocab:
        """Add what is known only after the encoder has read the training text."""
        return vocabulary

    def finish_vocabulary(self, vocabulary: FeatureVocab) -> FeatureVocab:
        """Add what only the vocabulary in a run's folder has."""
        return vocabulary
