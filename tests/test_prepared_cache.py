"""Prepared corpora that are kept: what names them, and what spoils them."""

import io
import json
import multiprocessing
from copy import deepcopy
from pathlib import Path

import pytest
from rich.console import Console

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data import building as module
from nmt_feat.data.identity import hash_cache
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.text.files import hash_content
from tests.support.lexicon import TRAIN, features, write


def test_second_time_comes_from_the_cache(cfg: TrainConfig) -> None:
    first = prepare(cfg, features("upos"))
    messages: list[str] = []
    again = prepare(deepcopy(cfg), features("upos"), messages.append)
    assert messages == []
    assert again.folder == first.folder
    assert again.folder.name == f"prepared-{hash_cache(cfg, features('upos'))[:16]}"
    assert again.report == first.report
    assert again.encoder.features == first.encoder.features


def test_order_of_features_means_nothing(cfg: TrainConfig) -> None:
    one = prepare(cfg, features("upos", "lemma"))
    two = prepare(cfg, features("lemma", "upos"))
    assert one.fingerprint == two.fingerprint
    assert list(two.encoder.features) == ["lemma", "upos"]


def change(cfg: TrainConfig, path: str, value: object) -> TrainConfig:
    cfg = deepcopy(cfg)
    *parents, last = path.split(".")
    node = cfg
    for name in parents:
        node = getattr(node, name)
    setattr(node, last, value)
    return cfg


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("subword.vocab_size", 41, True),
        ("subword.kind", "unigram", True),
        ("subword.joint", False, True),
        ("data.max_pieces", 17, True),
        ("data.max_ratio", 3.0, True),
        ("data.min_words", 2, True),
        ("data.limit", 5, True),
        ("seed", 2, False),
        ("model.dim", 64, False),
        ("data.name", "other", False),
        ("combiner.bias", 1.0, False),
    ],
)
def test_fingerprint(cfg: TrainConfig, path: str, value: object, changes: bool) -> None:
    chosen = features("upos")
    before = hash_cache(cfg, chosen)
    assert len(before) == 64
    assert (hash_cache(change(cfg, path, value), chosen) != before) == changes


def test_fingerprint_of_features_and_files(cfg: TrainConfig) -> None:
    before = hash_cache(cfg, features("upos"))
    assert hash_cache(cfg, features("upos", dim=8)) == before
    assert hash_cache(cfg, features("upos", policy="first")) != before
    assert hash_cache(cfg, features("upos", max_values=3)) != before
    write(Path(str(cfg.data.folder)), "train", TRAIN[1:])
    assert hash_cache(cfg, features("upos")) != before


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "manifest", "version"])
def test_damaged_cache_is_made_again(cfg: TrainConfig, damage: str) -> None:
    first = prepare(cfg, features("upos"))
    ids = first.train.source.values.tolist()
    of_manifest = damage in ("manifest", "version")
    path = first.folder / ("manifest.json" if of_manifest else "0.arrow")
    content = path.read_bytes()
    del first
    if damage == "change":
        path.write_bytes(content[:-400] + bytes([content[-400] ^ 1]) + content[-399:])
    elif damage == "remove":
        path.unlink()
    elif damage == "version":
        manifest = json.loads(content)
        del manifest["sum"]  # as an earlier version wrote it
        path.write_text(json.dumps(manifest | {"report": 1}), encoding="utf-8")
    else:
        path.write_bytes(content[: len(content) // 2])
    again = prepare(cfg, features("upos"))
    assert again.train.source.values.tolist() == ids
    (note,) = again.notes
    if damage == "version":
        assert note == f"{again.folder}: its report is of another version, made again"
    else:
        assert note.startswith(f"{again.folder}: damaged (")
        assert note.endswith("), made again")
    if damage == "change":
        assert "0.arrow has changed" in note
    assert prepare(cfg, features("upos")).notes == []


def test_an_interrupted_preparation_leaves_nothing(
    cfg: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "describe_split", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(cfg, features("upos"))
    assert len(prepare(cfg, features("upos")).train) == 18
    assert [p.name for p in Path(cfg.paths.cache).iterdir() if "building" in p.name] == []


def _work(cfg: TrainConfig, queue: multiprocessing.Queue) -> None:
    messages: list[str] = []
    prepared_data: Prepared = prepare(cfg, features("upos", "lemma"), messages.append)
    queue.put(
        ("encoding" in messages, prepared_data.notes, prepared_data.train.source.values.tolist())
    )


@pytest.mark.slow
def test_processes_that_start_at_once(cfg: TrainConfig) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_work, args=(cfg, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(is_new for is_new, _, _ in results) == [False, False, False, True]
    assert all(notes == [] for _, notes, _ in results)
    assert len({tuple(ids) for _, _, ids in results}) == 1


def test_a_cache_of_the_earlier_version_is_read(cfg: TrainConfig) -> None:
    """Its report does not say what is lost, its manifest has no sum."""
    prepared = prepare(cfg, features("upos"))
    report = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    for feature in report["features"].values():
        del feature["lost"]
    (prepared.folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    manifest = json.loads((prepared.folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sum"]
    manifest["report"] = 3
    manifest["files"]["report.json"] = hash_content(prepared.folder / "report.json")
    (prepared.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    again = prepare(cfg, features("upos"))
    assert again.notes == prepared.notes  # it is not made again
    console = Console(file=io.StringIO(), width=100)
    console.print(again.report)
    assert "pieces agree" in console.file.getvalue()  # type: ignore[attr-defined]
