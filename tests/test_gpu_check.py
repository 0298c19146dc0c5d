"""`tools/gpu_check.py`, as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.lives import python
from tests.support.small import ROOT, SETTINGS, Small

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "tools" / "gpu_check.py"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu(small: Small, tmp_path: Path) -> None:
    process = python(SCRIPT, "--json", tmp_path / "record.json")
    assert (process.returncode, process.stderr) == (
        2,
        "error: PyTorch sees no GPU here; --cpu tries the program without one\n",
    )
    paths = [f"data.folder={small.corpus}", f"paths.cache={small.cache}"]
    settings = [*(f"{name}={value}" for name, value in SETTINGS.items()), *paths]
    options = ["--cpu", "--shapes", "base", "--updates", "2", "--json", tmp_path / "record.json"]
    process = python(SCRIPT, *options, *settings)
    assert process.returncode == 0, process.stdout + process.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert "skipped" in record["tests"]["printed"][-1]
    (measurement,) = record["measurements"]
    assert measurement["settings"][:4] == [
        *("combiner=none", "model.tie=all", "trainer.precision=bf16-mixed", "model=base")
    ]
    assert measurement["figures"]["update_ms_median"] > 0
    assert "sentences/s" in process.stdout


def test_compiled_layers_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_check

    plain = gpu_check.list_measurements(["tiny", "base"], has_gpu=False)
    assert len(plain) == 3
    compiled = [[*settings, "trainer.compile=true"] for settings in plain]
    assert gpu_check.list_measurements(["tiny", "base"], has_gpu=True) == plain + compiled


def test_unknown_shape(tmp_path: Path) -> None:
    process = python(SCRIPT, "--cpu", "--shapes", "huge", "--json", tmp_path / "record.json")
    assert process.stderr == "error: --shapes: huge is none of tiny, base, big\n"
