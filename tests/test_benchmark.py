"""`tools/benchmark.py`: what it counts, and that each of its commands runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.config.schema import ModelConfig
from tests.support.lives import python
from tests.support.small import ROOT, SETTINGS, Small

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tools" / "benchmark.py"


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python(SCRIPT, *arguments)


def test_needed_operations() -> None:
    """Each product of the model, forward and backward, counted one by one for two sentences."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from benchmark import needed_flops
    finally:
        sys.path.remove(str(SCRIPT.parent))
    dim, inner, pieces = 8, 12, 30
    model = ModelConfig(dim=dim, ffn_dim=inner, heads=2, encoder_layers=2, decoder_layers=3)
    total = 0
    for source, target in ((5, 4), (3, 7)):
        for _ in range(2):  # encoder: queries, keys, values, output; feed-forward; attention
            total += 4 * source * dim * dim + 2 * source * dim * inner
            total += sum(2 * dim for _ in range(source) for _ in range(source))
        for _ in range(3):  # decoder: the same with what is before, and the source
            total += 4 * target * dim * dim + 2 * target * dim * inner
            total += sum(2 * dim * (position + 1) for position in range(target))
            total += 2 * target * dim * dim + 2 * source * dim * dim + 2 * dim * source * target
        total += target * dim * pieces
    result = needed_flops(model, pieces, np.array([5, 3]), np.array([4, 7]))
    assert result == 3 * 2 * total  # backward twice; a multiplication and an addition


def test_train_and_prepare(small: Small, tmp_path: Path) -> None:
    paths = [f"data.folder={small.corpus}", f"paths.cache={tmp_path / 'cache'}"]
    settings = [*(f"{k}={v}" for k, v in SETTINGS.items()), *paths, "combiner=gate"]
    done = bench("prepare", *settings, "--json", tmp_path / "prepare.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "prepare.json").read_text())["figures"]
    assert figures["sentence_pairs"] == 96
    nowhere = tmp_path / "nowhere" / "prepare.json"
    second_folder = [*settings, f"paths.cache={tmp_path / 'other'}"]
    lost = bench("prepare", *second_folder, "--json", nowhere)
    message = f"error: {nowhere}: cannot be written (No such file or directory)"
    assert (lost.returncode, lost.stderr.splitlines()[-1]) == (2, message)
    again = bench("prepare", *settings)
    assert again.returncode == 2
    assert again.stderr.endswith(": prepared before; remove it to time its preparation\n")
    report = tmp_path / "train.json"
    command = [sys.executable, SCRIPT, "train", *settings, "--warmup=2", "--updates=12"]
    command += ["--json", report]  # a real start, as imports count
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    quantiles = [figures[f"update_ms_{name}"] for name in ("p10", "median", "p90")]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2]
    ratio = figures["target_tokens_per_second"] / figures["sentences_per_second"]
    assert 3 < ratio < 40  # pieces of a sentence
    assert 0 < figures["share_of_fp32_rate"] < 1
    assert figures["start_to_first_update_seconds"] > 0.1


def test_a_process_of_train_py(small: Small, tmp_path: Path) -> None:
    """Its updates are timed one by one; it is stopped behind them, and its mistakes are shown."""
    settings = [o for o in small.overrides("combiner=gate") if "max_steps" not in o]
    report = tmp_path / "command.json"
    done = bench("command", *settings, "--warmup=2", "--updates=5", "--json", report)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    assert 0 < figures["update_ms_p10"] <= figures["update_ms_median"] <= figures["update_ms_p90"]
    assert figures["start_to_first_update_seconds"] > 0.1
    done = bench("command", *settings, "trainer.threds=1")
    assert done.returncode == 2
    assert "trainer.threds: no such setting" in done.stderr


def test_prepare_a_corpus_of_any_size(tmp_path: Path) -> None:
    settings = ["features=[upos,lemma]", f"paths.cache={tmp_path}"]
    report = tmp_path / "prepare.json"
    done = bench("prepare", *settings, "--pairs", 120, "--json", report)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["figures"]["sentence_pairs"] > 120  # dev and test too
    lines = (tmp_path / "synthetic-120" / "train.de").read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == 120


def test_rows(small: Small, tmp_path: Path) -> None:
    """Each row is timed, and set against the first one, of the same round."""
    settings = [o for o in small.overrides() if not o.startswith("paths.runs")]
    report = tmp_path / "rows.json"
    arguments = [
        "--rows",
        "none,concat_upos,gate",
        "--warmup",
        "1",
        "--updates",
        "2",
        "--rounds",
        "3",
    ]
    done = bench("rows", *settings, *arguments, "--json", report)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    for row in ("concat_upos", "gate"):
        low, middle, high = (
            figures[f"{row}_times_none{end}"] for end in ("_lowest", "", "_highest")
        )
        assert 0 < low <= middle <= high
    assert all(figures[f"{row}_update_ms"] > 0 for row in ("none", "concat_upos", "gate"))
    assert "none_times_none" not in figures
    done = bench("rows", *settings, "--rows", "none,gat")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "error: row=gat: no such option; did you mean 'gate'?",
    )


def test_translate(small: Small, tmp_path: Path) -> None:
    run = small.train("combiner=none", "trainer.max_steps=2")
    report = tmp_path / "translate.json"
    source = small.corpus / "test.conllu"
    done = bench("translate", "--run", run, "--input", source, "--beam", 2, "--json", report)
    assert done.returncode == 0, done.stderr
    figures = json.loads(report.read_text())["figures"]
    assert (figures["sentences"], figures["beam"]) == (8, 2)
    done = bench("translate", "--run", run)
    assert done.returncode == 2
    assert "translate needs --run and --input" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--updates=1"), "--updates 1: train needs at least 2, for its tenths"),
        (("rows", "--rounds=0"), "rows needs at least 1 of --updates and of --rounds"),
    ],
)
def test_too_few_to_measure(arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"benchmark.py: error: {message}")


@pytest.mark.parametrize("settings", [["model.dim=7"], ["trainer.nothing=1"]])
def test_mistakes(settings: list[str]) -> None:
    done = bench("train", *settings)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
