"""What a run's record says of its parts, against loops over numbers of its weights."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from nmt_feat.runs.stored.records import RunRecord, read_run
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from tests.support.small import Small

FEW = ("trainer.max_steps=2", "trainer.validate_every=2", "optimizer.lr=0.2")
END = 2
Array = NDArray[np.float64]


def pieces(small: Small, run: TrainedModel) -> list[tuple[int, dict[str, int]]]:
    """Each piece of dev with its features' ids, without the end symbols."""
    path = small.corpus / "dev.conllu"
    sentences, targets = list(read_conllu(path)), read_lines(path.with_suffix(".de"))
    split = run.encode_pairs(sentences, targets, [""] * len(targets))
    results = []
    for i, id in enumerate(split.source.values.tolist()):
        values = {name: int(split.features[name][i]) for name in run.cfg.features}
        if set(values.values()) != {END}:
            results.append((id, values))
    return results


def trained(small: Small, *settings: str) -> tuple[RunRecord, TrainedModel, dict[str, Array]]:
    folder = small.train(*settings, *FEW)
    tensors = load_file(folder / "model.safetensors")
    weights = {k: v.astype(np.float64) for k, v in tensors.items()}
    return read_run(folder), TrainedModel(folder, 1), weights


def test_gates_and_shares(small: Small) -> None:
    record, run, tensors = trained(small, "combiner=gate", "features=[upos,deprel]")
    names = ["word", "deprel", "upos"]
    weight, bias = (tensors[f"source.combiner.logits.{k}"] for k in ("weight", "bias"))
    gates = defaultdict(list)
    norms = np.zeros(3)
    for id, ids in pieces(small, run):
        tables = [tensors[f"source.features.{name}.table.weight"] for name in names[1:]]
        parts = [tensors["source.words.weight"][id]]
        parts += [table[ids[name]] for table, name in zip(tables, names[1:], strict=True)]
        logits = (weight @ np.concatenate(parts) + bias).reshape(2, -1)
        power = np.exp(np.vstack([logits, np.zeros(len(parts[0]))]))
        gate = power / power.sum(axis=0)
        norms += [(g * part) @ (g * part) for g, part in zip(gate, parts, strict=True)]
        for name, value in ids.items():
            gates[name, value].append(gate.mean(axis=1))
    assert record.parts is not None
    assert list(record.parts.shares) == names
    assert list(record.parts.shares.values()) == pytest.approx(norms / norms.sum(), rel=1e-4)
    assert list(record.parts.gates) == ["deprel", "upos"]
    for name, result in record.parts.gates.items():
        counts = [value.pieces for value in result]
        assert counts == sorted(counts, reverse=True)
        assert len(result) == len([v for n, v in gates if n == name])
        for value in result:
            expected = gates[name, run.encoder.features[name].id_of(value.value)]  # type: ignore[attr-defined]
            assert value.pieces == len(expected)  # type: ignore[attr-defined]
            assert list(value.weights) == names  # type: ignore[attr-defined]
            mean = np.mean(expected, axis=0)
            assert list(value.weights.values()) == pytest.approx(mean, rel=1e-4)  # type: ignore[attr-defined]
    assert len({round(v.weights["upos"], 3) for v in record.parts.gates["upos"]}) > 1


@pytest.mark.thorough
def test_shares_of_a_concatenation(small: Small) -> None:
    """Squared norms of its columns; a feature of units has a share as well, but no gate."""
    record, run, tensors = trained(small, "combiner=concat", "features=[upos]")
    word, upos = tensors["source.words.weight"], tensors["source.features.upos.table.weight"]
    result = pieces(small, run)
    norms = [sum(word[id] @ word[id] for id, _ in result)]
    norms.append(sum(upos[ids["upos"]] @ upos[ids["upos"]] for _, ids in result))
    assert record.parts is not None
    shares = list(record.parts.shares.values())
    assert shares == pytest.approx(np.array(norms) / sum(norms), rel=1e-4)
    assert record.parts.gates == {}
    units, _, _ = trained(small, "combiner=gate", "features=[upos,char]")
    assert units.parts is not None
    assert list(units.parts.shares) == ["word", "char", "upos"]
    assert list(units.parts.gates) == ["upos"]


@pytest.mark.thorough
def test_words_only_have_no_parts_and_every_run_its_data_report(small: Small) -> None:
    record, _, _ = trained(small, "combiner=none")
    assert record.parts is not None
    assert (record.parts.shares, record.parts.gates) == ({}, {})
    assert record.data_report["splits"]["train"]["sentences"] == 80
    assert record.data_report["features"] == {}
    record, _, _ = trained(small, "combiner=mlp", "features=[upos]")
    assert record.parts is not None
    assert (record.parts.shares, record.parts.gates) == ({}, {})
    bits = record.data_report["features"]["upos"]
    assert 0 < bits["given_word"] < bits["entropy"]
