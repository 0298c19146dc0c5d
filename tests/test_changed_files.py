"""Files that change between runs, or while their data is prepared; folders of what fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.prepare import prepare
from nmt_feat.encoders.states import LanguageModel, States
from nmt_feat.encoders.stored_states import store_states
from nmt_feat.errors import UserError
from nmt_feat.text import files as text
from nmt_feat.text.files import hash_content, hash_file_cached
from tests.support.lexicon import features


def test_a_corpus_that_changes_while_it_is_read(cfg: TrainConfig) -> None:
    """It is not kept under the name of what it was before."""
    path = Path(str(cfg.data.folder)) / "train.conllu"
    before = path.read_text(encoding="utf-8")

    def say(message: str) -> None:
        if message.startswith("reading"):
            path.write_text(before.replace("DET", "X"), encoding="utf-8")

    with pytest.raises(UserError) as error:
        prepare(cfg, features("upos"), say)
    assert str(error.value) == (
        "the data was changed while it was prepared (a file of the corpus, of vectors, of an "
        "encoder or of the annotator's model); start again"
    )
    path.write_text(before, encoding="utf-8")
    assert "DET" in prepare(cfg, features("upos")).encoder.features["upos"].values


def test_a_failed_preparation_leaves_no_folder(cfg: TrainConfig) -> None:
    """With a large corpus it would be gigabytes, which no later run removes."""
    with pytest.raises(UserError, match="no word of train has xpos"):
        prepare(cfg, features("xpos"))
    assert not list(Path(cfg.paths.cache).glob("prepared-*/"))


class Fails(LanguageModel):
    """Its vectors are not finite."""

    def __init__(self) -> None:
        pass

    def identify(self, cache: Path) -> list[object]:
        return ["fails"]

    def encode_texts(self, texts: list[str]) -> States:
        raise UserError("a vector is not finite")


def test_vectors_that_fail_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a vector is not finite"):
        store_states(Fails(), ["a"], tmp_path, print)
    assert not list(tmp_path.glob("contextual-*/"))


def test_a_large_file_whose_time_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `cp -p`, or by two archives whose files all have the same time."""
    monkeypatch.setattr(text, "REMEMBER", 3)
    path, cache = tmp_path / "x", tmp_path / "cache"
    for content in (b"abc", b"abd"):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        assert hash_file_cached(path, cache) == hash_content(path)
