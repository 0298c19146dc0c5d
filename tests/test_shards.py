"""A corpus in many files is the corpus in one."""

from __future__ import annotations

import gzip
from copy import deepcopy
from pathlib import Path

import pytest

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.identity import hash_cache
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError
from nmt_feat.text.files import list_shards
from tests.support.lexicon import features
from tests.support.splits import whole

CHOSEN = features("upos", "lemma")


def sharded(cfg: TrainConfig) -> TrainConfig:
    """The same corpus with a file for each training pair, part-1 to part-18, half of it gzipped."""
    cfg = deepcopy(cfg)
    folder = Path(cfg.data.folder or "")
    blocks = (folder / "train.conllu").read_text(encoding="utf-8").strip().split("\n\n")
    lines = (folder / "train.de").read_text(encoding="utf-8").splitlines()
    assert len(blocks) == len(lines) > 10  # two digits: where order by letters is another
    for i, (block, line) in enumerate(zip(blocks, lines, strict=True), 1):
        (folder / f"part-{i}.conllu").write_text(f"{block}\n\n", encoding="utf-8")
        with gzip.open(folder / f"part-{i}.de.gz", "wt", encoding="utf-8") as file:
            file.write(line)
    (folder / "train.conllu").unlink()
    (folder / "train.de").unlink()
    cfg.data.train.source, cfg.data.train.target = "part-*.conllu", "part-*.de"
    return cfg


def made(cfg: TrainConfig) -> Prepared:
    return prepare(cfg, CHOSEN)


def test_shards_are_one_corpus(cfg: TrainConfig) -> None:
    alone = made(cfg)
    parts = made(sharded(cfg))
    assert whole(parts) == whole(alone)
    count = len(alone.train)
    assert parts.notes == [
        f"train: source is {count} files, part-1.conllu to part-{count}.conllu",
        f"train: target is {count} files, part-1.de.gz to part-{count}.de.gz",
        *alone.notes,
    ]


def test_a_changed_shard_is_another_corpus(cfg: TrainConfig) -> None:
    cfg = sharded(cfg)
    before = hash_cache(cfg, CHOSEN)
    assert hash_cache(cfg, CHOSEN) == before
    with gzip.open(Path(cfg.data.folder or "") / "part-3.de.gz", "wt", encoding="utf-8") as file:
        file.write("Etwas anderes .")
    assert hash_cache(cfg, CHOSEN) != before


def test_order_does_not_depend_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that are the same: part-01 and part-1 of both sides must be in one order."""
    for name in ("part-1", "part-01", "part-2"):
        (tmp_path / name).touch()
    listed = sorted(tmp_path.iterdir())
    for order in (listed, listed[::-1]):
        monkeypatch.setattr(Path, "glob", lambda *_, order=order: iter(order))
        result = [path.name for path in list_shards(tmp_path / "part-*")]
        assert result == ["part-01", "part-1", "part-2"]


def test_errors_name_the_shard(cfg: TrainConfig) -> None:
    cfg = sharded(cfg)
    shard = Path(cfg.data.folder or "") / "part-11.conllu"
    shard.write_text("1\tDogs\tdog\n\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        made(cfg)
    line = repr("1\tDogs\tdog")
    assert str(error.value) == f"{shard}:1: 3 columns, not 10 (CoNLL-U, by tabs): {line}"


def test_no_shard(cfg: TrainConfig) -> None:
    cfg.data.train.source = "piece-*.conllu"
    with pytest.raises(UserError) as error:
        made(cfg)
    assert str(error.value) == (
        f"data.train.source=piece-*.conllu: no such file in {cfg.data.folder}; correct the name "
        "or set data.folder"
    )
