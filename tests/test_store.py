from pathlib import Path

import numpy as np
import pytest

from nmt_feat.base.ragged import Ragged
from nmt_feat.data.store import EncodedSplit
from tests.support.splits import Encoded, split_of

SOURCE = [
    Encoded([5, 6, 3], {"upos": [3, 4, 2], "case": [3, 3, 2]}),
    Encoded([3], {"upos": [2], "case": [2]}),
    Encoded([7, 8, 9, 3], {"upos": [5, 1, 3, 2], "case": [4, 4, 4, 2]}),
]
TARGET = [[4, 3], [4, 5, 6, 3], [3]]
TEXTS = ["Grüße 🙂", "", "c"]


def split() -> EncodedSplit:
    return split_of(SOURCE, TARGET, TEXTS, ["a", "b", "ç"], {"upos": ["N V", "", "X Y Z"]})


@pytest.mark.parametrize("stored", [False, True])
def test_rows_come_back(stored: bool, tmp_path: Path) -> None:
    data_split = split()
    if stored:
        data_split.save(tmp_path / "0.arrow")
        data_split = EncodedSplit.open(tmp_path / "0.arrow")
    assert len(data_split) == 3
    assert data_split.source_lengths.tolist() == [3, 1, 4]
    assert data_split.target_lengths.tolist() == [2, 4, 1]
    for i in range(3):
        assert data_split.source.row(i).tolist() == SOURCE[i].ids
        assert data_split.target.row(i).tolist() == TARGET[i]
        for name in ("upos", "case"):
            ids = data_split.features[name][slice(*data_split.source.offsets[i : i + 2])]
            assert ids.tolist() == SOURCE[i].features[name]
    assert list(data_split.features) == ["upos", "case"]
    assert data_split.source_texts == TEXTS
    assert data_split.target_texts == ["a", "b", "ç"]
    assert data_split.feature_text("upos", 2) == "X Y Z"


def test_ids_are_mapped_not_copied(tmp_path: Path) -> None:
    split().save(tmp_path / "0.arrow")
    stored = EncodedSplit.open(tmp_path / "0.arrow")
    for values in (stored.source.values, stored.target.values, stored.features["upos"]):
        assert values.dtype == np.int32
        assert not values.flags.owndata
        assert not values.flags.writeable
    assert np.shares_memory(stored.source.row(2), stored.source.values)


def test_no_features() -> None:
    assert split_of([Encoded([3], {})], [[3]], [""], [""]).features == {}


def test_places_of_padded_rows() -> None:
    rows = Ragged(np.arange(8, dtype=np.int32), np.array([0, 3, 4, 8]))
    places, real = rows.locate_cells(np.array([2, 0]))
    assert places.tolist() == [[4, 5, 6, 7], [0, 1, 2, 0]]
    assert real.tolist() == [[True] * 4, [True] * 3 + [False]]
