"""What makes a run another run, and how runs with an earlier identity are found."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from small import Small

from nmt_feat import identity
from nmt_feat.corpus.prepare import fingerprint
from nmt_feat.identity import FIRST, drop_defaults
from nmt_feat.schema import TrainConfig
from nmt_feat.settings import determining


@dataclasses.dataclass
class More:
    """A group of settings that came later."""

    rate: float = 0.5


@dataclasses.dataclass
class Later(TrainConfig):
    """The settings of a later version."""

    more: More = dataclasses.field(default_factory=More)


def remove_first(monkeypatch: pytest.MonkeyPatch, group: str, name: str) -> None:
    """As if the setting had come after the first ones."""
    names = [each for each in FIRST[group].split() if each != name]
    monkeypatch.setitem(identity.FIRST, group, " ".join(names))


@pytest.mark.parametrize(
    ("group", "name", "setting"),
    [
        ("", "control", "control=shuffled"),
        ("trainer", "label_smoothing", "trainer.label_smoothing=0.2"),
        ("model", "embedding_std", "model.embedding_std=0.5"),
        ("features.*", "dropout", "features.upos.dropout=0.25"),
        ("data", "tokenized", "data.tokenized=true"),
        ("subword", "byte_fallback", "subword.byte_fallback=true"),
    ],
)
def test_a_new_setting_counts_where_it_is_not_at_its_default(
    small: Small, monkeypatch: pytest.MonkeyPatch, group: str, name: str, setting: str
) -> None:
    def settings(*more: str) -> dict[str, Any]:
        found = determining(small.config(*more), "hash of the data")
        for part in group.split(".") if group else ():
            found = found["upos" if part == "*" else part]
        return found

    value = settings(setting)[name]
    remove_first(monkeypatch, group, name)
    assert name not in settings()
    assert settings(setting)[name] == value


def test_a_new_setting_of_subwords_leaves_the_prepared_data(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(*more: str) -> str:
        cfg = small.config(*more)
        return fingerprint(cfg, cfg.features)

    before = hashed()
    remove_first(monkeypatch, "subword", "byte_fallback")
    without = hashed()
    assert without != before
    assert hashed("subword.byte_fallback=true") != without
    monkeypatch.undo()
    assert hashed() == before


def test_a_new_group_of_settings(small: Small) -> None:
    later = Later(**vars(small.config()))
    assert "more" not in drop_defaults(dataclasses.asdict(later), Later)
    later.more.rate = 1.0
    assert drop_defaults(dataclasses.asdict(later), Later)["more"] == {"rate": 1.0}
