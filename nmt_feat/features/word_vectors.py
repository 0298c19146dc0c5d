"""Features that are ready-made vectors of words, from a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nmt_feat.config.earlier_formats import VISIBLE_CHARACTERS
from nmt_feat.embedders.ids import FIRST
from nmt_feat.embedders.vectors import Vectors
from nmt_feat.errors import UserError
from nmt_feat.features.values import FormValues
from nmt_feat.features.vocabulary import FeatureVocab, VocabularyBasis
from nmt_feat.text.units import FORMS
from nmt_feat.text.word_vectors import index_by_visible, read_vectors, vector_width

VECTORS = "vectors-"
"""Begins the files of vectors in the folder of the data, one for each such feature."""


class WordVectors(FormValues):
    """The vectors that a file has of forms of words; the vocabulary is the file's.

    Once the vectors are weights of a trained model, its vocabulary is that of any forms.
    """

    takes = ("of", "file")
    joins_words = False
    is_predictable = False

    vectors: NDArray[np.float32]
    """Those of the vocabulary, once it is built."""

    def check_column(self) -> None:
        """Refuse a column that has no words."""
        settings = self.settings
        if settings.column not in FORMS or settings.policy == "first":
            raise UserError(
                f"{self.where}.file={settings.file}: needs column=form or column=lower, policy=copy"
            )

    def check_settings(self) -> None:
        """Refuse, before any data is read, what a file's words cannot be."""
        super().check_settings()
        settings = self.settings
        if settings.min_count > 1:
            raise UserError(
                f"{self.where}.min_count={settings.min_count}: the words of {settings.file} are "
                "kept however often train has them; leave it out, or set max_values"
            )

    def check_embedder(self) -> None:
        """Also whether the file exists."""
        super().check_embedder()
        assert self.settings.file
        if not Path(self.settings.file).exists():
            raise UserError(
                f"{self.where}.file={self.settings.file}: no such file; correct the path (those of "
                "experiment=meta_embedding are made by: nmt-feat train-vectors vectors)"
            )

    def complete_settings(self, subwords: str, device: str) -> None:
        """The embedder's `width` is that of the vectors."""
        assert self.settings.file
        self.settings.args["width"] = vector_width(self.settings.file)

    def identify_data(self, cache: Path) -> list[object]:
        """With the file's content."""
        return [*super().identify_data(cache), VISIBLE_CHARACTERS]

    def trim_identity(self, settings: dict[str, Any]) -> None:
        """Take out what means nothing here; the file's content is in the data's hash."""
        super().trim_identity(settings)
        settings["file"] = True

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"vectors of {self.settings.file}"

    def build_vocabulary(self, counts: Counter[str], basis: VocabularyBasis) -> FeatureVocab:
        """The words of the file, whether train has them or not."""
        settings = self.settings
        assert settings.file
        words, self.vectors = index_by_visible(*read_vectors(settings.file, settings.max_values))
        return FeatureVocab(
            settings.column,
            settings.policy,
            words,
            [counts[word] for word in words],
            settings.of,
            annotated=basis.annotated,
            cover=basis.cover,
        )

    def write_files(self, folder: Path) -> None:
        """Write the vectors, in the order of the vocabulary."""
        np.save(folder / f"{VECTORS}{self.name}.npy", self.vectors)

    def load_vectors(self, embedder: nn.Module, folder: Path) -> None:
        """Give the embedder the vectors."""
        assert isinstance(embedder, Vectors)
        embedder.load_vectors(np.load(folder / f"{VECTORS}{self.name}.npy", allow_pickle=False))

    def describe_vocabulary(self, vocabulary: FeatureVocab, counts: Counter[str]) -> list[str]:
        """How many words of train have a vector; none is an error."""
        covered = Counter(
            {word: n for word, n in counts.items() if self.find_id(word, vocabulary) >= FIRST}
        )
        if not covered:
            raise UserError(
                f"{self.where}.file={self.settings.file}: has no vector of any word of train; give "
                "vectors of its language, or set column=lower"
            )
        share, share_of_tokens = len(covered) / len(counts), covered.total() / counts.total()
        return [
            f"{self.where}: {len(covered):,} of {len(counts):,} different words of train have a "
            f"vector ({share:.1%}), {share_of_tokens:.1%} of all"
        ]
