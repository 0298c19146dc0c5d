"""Preparation in blocks and in several processes gives what it gives at once."""

from __future__ import annotations

import gzip
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.config.data_schema import DataConfig, SubwordConfig
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data import building, encoding
from nmt_feat.data import sentence_tables as tables
from nmt_feat.data.batches import plan_batches
from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from nmt_feat.text import files as text
from nmt_feat.text import subwords
from nmt_feat.text.conllu import read_conllu, sentence_end
from nmt_feat.text.files import hash_content, hash_file_cached, read_blocks, read_lines
from nmt_feat.text.subwords import Subwords
from tests.support.lexicon import features, write
from tests.support.splits import whole

CHOSEN = features("upos", "lemma", "shape", "subword_tag", "char") | features("feats.Number")


@pytest.mark.thorough
@pytest.mark.parametrize("processes", [1, 2])
def test_blocks_and_processes_change_nothing(
    cfg: TrainConfig, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(prepare(cfg, CHOSEN))
    streamed_cfg = deepcopy(cfg)
    streamed_cfg.paths.cache += "-other"
    streamed_cfg.data.processes = processes
    monkeypatch.setattr(tables, "ROWS", 5)
    monkeypatch.setattr(text, "BLOCK", 300)
    monkeypatch.setattr(building, "PER_PROCESS", 1)
    prepared_data = prepare(streamed_cfg, CHOSEN)
    assert whole(prepared_data) == expected
    assert sorted(path.suffix for path in prepared_data.folder.iterdir() if path.is_dir()) == []


def test_filtered_blocks(cfg: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of which nothing is left add nothing."""
    monkeypatch.setattr(tables, "ROWS", 1)
    cfg.data.min_words = 4
    prepared_data = prepare(cfg, features("upos"))
    assert prepared_data.report.filtered == {"words < 4": 6}
    assert len(prepared_data.train) == 12
    assert "Peter ducks." not in prepared_data.train.source_texts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n \n", ""])
@pytest.mark.parametrize("zipped", [False, True])
def test_reading_in_blocks(
    tmp_path: Path, end: str, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "whole", ["Peter ducks .", "the dog sees the cats ."] * 9)
    data = (tmp_path / "whole.conllu").read_text(encoding="utf-8")
    path = tmp_path / ("x.conllu.gz" if zipped else "x.conllu")
    changed = (
        data.replace("\n\n", f"\n{end}") if end == "\n \n" else data.replace("\n", end or "\n")
    )
    changed = "\ufeff" + (changed if end else changed.rstrip("\n"))
    encoded = changed.encode()
    path.write_bytes(gzip.compress(encoded) if zipped else encoded)
    expected, lines = list(read_conllu(tmp_path / "whole.conllu")), read_lines(path)
    monkeypatch.setattr(text, "BLOCK", 97)
    assert list(read_conllu(path)) == expected
    blocks = list(read_blocks(path))
    assert len(blocks) > 5
    assert b"".join(block.data for block in blocks) == encoded
    assert [line for block in blocks for line in block.lines()] == lines


def test_a_file_without_ends_is_read_in_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that is taken for CoNLL-U, which has no empty lines."""
    monkeypatch.setattr(text, "BLOCK", 16)
    path, looked = tmp_path / "x", []
    path.write_bytes(b"a line of text\n" * 1000)

    def end(data: bytes) -> int:
        looked.append(len(data))
        return sentence_end(data)

    (block,) = read_blocks(path, end)
    assert block.data == path.read_bytes()
    assert sum(looked) < 4 * len(block.data)


def test_errors_name_line_and_byte_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", 16)
    path = tmp_path / "x"
    path.write_bytes(b"a line of text\n" * 9 + b"a \xff\n")
    with pytest.raises(UserError) as error:
        [block.lines() for block in read_blocks(path)]
    assert str(error.value).startswith(f"{path}:10: invalid UTF-8 at byte offset 137 (0xff); ")
    rows = [f"1\t{'a' * 20}\t_\tX\t_\t_\t0\troot\t_\t_", ""] * 5
    path = tmp_path / "x.conllu"
    path.write_text("\n".join([*rows, "2\ta\t_\tX\t_\t_\t0\troot\t_\t_"]))
    with pytest.raises(UserError) as error:
        list(read_conllu(path))
    assert str(error.value) == f"{path}:11: id 2 after 0 words; ids must count 1, 2, 3 ..."


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache, calls = tmp_path / "x", tmp_path / "cache", []
    path.write_bytes(b"abc")

    def counted(*arguments: Any) -> str:
        calls.append(arguments)
        return hash_content(*arguments)

    monkeypatch.setattr(text, "hash_content", counted)
    assert [hash_file_cached(path, cache) for _ in "ab"] == [hash_content(path)] * 2
    assert (len(calls), cache.exists()) == (2, False)  # small: always
    monkeypatch.setattr(text, "REMEMBER", 3)
    assert [hash_file_cached(path, cache) for _ in "abc"] == [hash_content(path)] * 3
    assert len(calls) == 3
    before = path.stat().st_mtime_ns
    path.write_bytes(b"abd")
    os.utime(path, ns=(before + 1, before + 1))
    assert hash_file_cached(path, cache) == hash_content(path)
    (memory,) = cache.glob("sums/*.json")
    memory.write_bytes(b"damaged")
    assert hash_file_cached(path, cache) == hash_content(path)
    assert len(calls) == 5


def test_sample_for_the_subword_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = SubwordConfig(kind="bpe", vocab_size=14)
    lines = [f"{chr(97 + i % 7)}{chr(97 + i % 5)}" for i in range(60)]
    every = Subwords.train(cfg, lines)
    monkeypatch.setattr(subwords, "SAMPLE", 60)
    assert Subwords.train(cfg, lines[:20], lines[20:])._proto == every._proto
    monkeypatch.setattr(subwords, "SAMPLE", 20)
    assert (
        Subwords.train(cfg, lines[:20], lines[20:])._proto == Subwords.train(cfg, lines[::3])._proto
    )


def test_filters_count_the_first_reason() -> None:
    limits = DataConfig(min_words=2, max_pieces=9, max_ratio=3.0)
    words = np.array([[2, 2], [1, 9], [5, 5], [5, 5], [5, 5]])
    pieces = np.array([[3, 9], [1, 99], [9, 10], [9, 2], [3, 3]])
    kept_rows, reasons = encoding.filter_pairs(limits, words, pieces)
    assert kept_rows.tolist() == [True, False, False, False, True]
    assert reasons == {"words < 2": 1, "pieces > 9": 1, "ratio > 3": 1}
    assert list(reasons) == ["words < 2", "pieces > 9", "ratio > 3"]


def test_batches_are_cut_where_the_budget_ends(cfg: TrainConfig) -> None:
    train = prepare(cfg, {}).train
    lengths = np.maximum(train.source_lengths, train.target_lengths)
    for budget in (1, 30, 64, 1000):
        batches = plan_batches(train, budget, 1, 0)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(train)))
        cells = [len(batch) * lengths[batch].max() for batch in batches]
        assert all(len(b) == 1 or n <= budget for b, n in zip(batches, cells, strict=True))
