"""A kind of feature that the program does not have: a number, the log frequency of each word.

    python train.py --config-dir=examples combiner=concat 'features=[upos,log_frequency]'

`features.log_frequency._target_=nmt_feat.features.Categorical` embeds the number by bins.
"""

import torch
from torch import Tensor, nn

from nmt_feat.embedders.ids import FIRST
from nmt_feat.features import FeatureKind, FeatureVocab
from nmt_feat.text.sentences import DictionaryColumn, Sentences


class LogFrequency(FeatureKind):
    """The base-2 logarithm of how often train has a word, rounded down.

    A value is the word. Its id follows from its count, which the vocabulary stores.
    """

    groups_values = True  # words of the same frequency have the same id
    joins_words = False  # of two words in one piece, the first counts

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The words as they stand in the text."""
        return DictionaryColumn.of(words.forms())

    def find_id(self, value: str, vocabulary: FeatureVocab) -> int:
        """FIRST for a word that train has once or never, the next for 2 or 3 times, then 4 to 7."""
        row = vocabulary.id_of(value) - FIRST
        count = vocabulary.counts[row] if row >= 0 else 1
        return FIRST + max(count, 1).bit_length() - 1

    def count_ids(self, vocabulary: FeatureVocab) -> int:
        """As many as the most frequent word needs."""
        return FIRST + max(vocabulary.counts, default=1).bit_length()

    def name_ids(self, vocabulary: FeatureVocab) -> list[str]:
        """`1`, `2-3`, `4-7` ... for tables and figures."""
        powers = range(self.count_ids(vocabulary) - FIRST)
        return ["1", *(f"{2**power}-{2 ** (power + 1) - 1}" for power in powers[1:])]

    def label_value(self, value: str, vocabulary: FeatureVocab) -> str:
        """What the data report shows in place of the word."""
        return self.name_ids(vocabulary)[self.find_id(value, vocabulary) - FIRST]


class Line(nn.Module):
    """`x w + b` for the number x, from 0 (rare) to 1 (the most frequent word)."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.special = nn.Embedding(FIRST, dim, padding_idx=0)  # padding, unknown, end
        self.line = nn.Linear(1, dim)
        self.largest = max(1, size - FIRST - 1)
        nn.init.normal_(self.line.weight, std=std)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids `(batch, time)` to `(batch, time, dim)`."""
        number = (ids - FIRST).clamp(min=0)[..., None] / self.largest
        special = self.special(ids.clamp(max=FIRST - 1))
        return torch.where((ids < FIRST)[..., None], special, self.line(number))
