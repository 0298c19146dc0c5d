"""Features that are ready-made vectors for words, from a file."""

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
"""How the names of files of vectors begin, in the folder of the data; one for each feature."""


class WordVectors(FormValues):
    """The vectors of a file for forms of words. The vocabulary is that of the file.

    In a trained model the vectors are weights, and the feature is read like other forms.
    """

    takes = ("of", "file")
    joins_words = False
    is_predictable = False

    vectors: NDArray[np.float32]
    """The vectors of the vocabulary's values, after `build_vocabulary`."""

    def check_column(self) -> None:
        """Refuse another column than forms of words."""
        settings = self.settings
        if settings.column not in FORMS or settings.policy == "first":
            raise UserError(
                f"{self.where}.file={settings.file}: needs column=form or column=lower, policy=copy"
            )

    def check_settings(self) -> None:
        """Also refuse `min_count`: the words come from the file, not from the training text."""
        super().check_settings()
        settings = self.settings
        if settings.min_count > 1:
            raise UserError(
                f"{self.where}.min_count={settings.min_count}: the words of {settings.file} are "
                "kept however often train has them; leave it out, or set max_values"
            )

    def check_embedder(self) -> None:
        """Also refuse a file that does not exist."""
        super().check_embedder()
        assert self.settings.file
        if not Path(self.settings.file).exists():
            raise UserError(
                f"{self.where}.file={self.settings.file}: no such file; correct the path (those of "
                "experiment=meta_embedding are made by: nmt-feat train-vectors vectors)"
            )

    def complete_settings(self, subwords: str, device: str) -> None:
        """Fill in the embedder's `width`, that of the vectors."""
        assert self.settings.file
        self.settings.args["width"] = vector_width(self.settings.file)

    def identify_data(self, cache: Path) -> list[object]:
        """Also that words are compared by their visible characters."""
        return [*super().identify_data(cache), VISIBLE_CHARACTERS]

    def trim_identity(self, settings: dict[str, Any]) -> None:
        """Remove settings that mean nothing here; the hash of the data has the file's content."""
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
        """Load the vectors into the embedder."""
        assert isinstance(embedder, Vectors)
        embedder.load_vectors(np.load(folder / f"{VECTORS}{self.name}.npy", allow_pickle=False))

    def describe_vocabulary(self, vocabulary: FeatureVocab, counts: Counter[str]) -> list[str]:
        """How many words of train have a vector; it is an error if none has."""
        covered = Counter(
            {word: n for word, n in counts.items() if self.find_id(word, vocabulary) >= FIRST}
        )
        if not covered:
            raise UserError(
                f"{self.where}.file={self.settings.file}: has no vector for any word of train; "
                "give vectors of its language, or set column=lower"
            )
        share, share_of_tokens = len(covered) / len(counts), covered.total() / counts.total()
        return [
            f"{self.where}: {len(covered):,} of {len(counts):,} different words of train have a "
            f"vector ({share:.1%}), {share_of_tokens:.1%} of all"
        ]
