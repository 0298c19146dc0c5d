"""Checks nmt_feat on a GPU, in at most twelve minutes: tests, and the speed of three shapes.

python tools/gpu_check.py --json gpu.json experiment=multi30k_tok

Runs tests/test_cuda.py, then updates of `tiny`, `base` and `big` in bf16-mixed by
`tools/benchmark.py`: first all of them plain, then with `trainer.compile=true`. The first updates,
which compile, are not timed. Settings of train.py that follow, such as another corpus, hold for all
shapes.
A step that fails or takes too long is in the record, and the next steps still run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from nmt_feat.errors import fail
from nmt_feat.runs.stored.provenance import describe_origin

ROOT = Path(__file__).parents[1]
SHAPES = {
    "tiny": ("trainer.batch_tokens=4096", "trainer.batch_tokens=16384"),
    "base": ("trainer.batch_tokens=16384",),
    "big": ("trainer.batch_tokens=16384",),
}
"""For each model, the settings of its batches."""
PLAIN = "combiner=none", "model.tie=all", "trainer.precision=bf16-mixed"
COMPILED = "trainer.compile=true"
LONGEST_TESTS, LONGEST = 240.0, 120.0
"""The most seconds of the tests, and of a measurement."""
TOTAL = 720.0
"""The most seconds of all together; a measurement that begins after them fails."""


def run_step(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a program; its exit code, its seconds, and the end of its output."""
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        code, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, output = None, f"stopped after {seconds:g} seconds"
    lines = output.strip().splitlines()[-15:]
    return {"code": code, "seconds": time.perf_counter() - begin, "printed": lines}


def list_measurements(shapes: list[str], has_gpu: bool) -> list[list[str]]:
    """The settings of each measurement; compiled layers, which need a GPU, come last."""
    plain = [[f"model={shape}", batch] for shape in shapes for batch in SHAPES[shape]]
    return [*plain, *([*settings, COMPILED] for settings in plain if has_gpu)]


def measure_shape(settings: list[str], updates: int, seconds: float) -> dict[str, Any]:
    """The figures of `benchmark.py train` with these settings, or None, and its output."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "figures.json"
        command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "train", *settings]
        command += [f"--warmup={max(2, updates // 4)}", f"--updates={updates}", f"--json={report}"]
        step = run_step(command, seconds)
        figures = json.loads(report.read_text())["figures"] if report.exists() else None
    return {"settings": settings, **step, "figures": figures}


def describe_measurement(measurement: dict[str, Any]) -> str:
    """A line about a measurement: its figures, or why it failed."""
    settings, figures = " ".join(measurement["settings"]), measurement["figures"]
    if figures is None:
        return f"{settings}: failed: {' '.join(measurement['printed'][-1:])}"
    return (
        f"{settings}: {figures['sentences_per_second']:,.0f} sentences/s, "
        f"{figures['update_ms_median']:.1f} ms an update, "
        f"{100 * figures['share_of_bf16_rate']:.0f} % of the bf16 rate"
    )


def main() -> None:
    """Test, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("settings", nargs="*", help="settings of train.py, name=value")
    parser.add_argument("--json", type=Path, required=True, help="the record to write")
    parser.add_argument("--updates", type=int, default=100, help="updates that are timed")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="models, with commas between")
    parser.add_argument("--cpu", action="store_true", help="without a GPU, to try this program")
    arguments = parser.parse_intermixed_args()
    if not arguments.cpu and not torch.cuda.is_available():
        fail("PyTorch sees no GPU here; --cpu tries the program without one")
    shapes = arguments.shapes.split(",")
    if unknown_shapes := [shape for shape in shapes if shape not in SHAPES]:
        fail(f"--shapes: {unknown_shapes[0]} is none of {', '.join(SHAPES)}")
    end = time.perf_counter() + TOTAL
    all_tests = ["-m", "", "--durations=0", "tests/test_cuda.py"]
    tests = run_step([sys.executable, "-m", "pytest", *all_tests], LONGEST_TESTS)
    print("tests/test_cuda.py:", *tests["printed"][-1:], flush=True)
    measurements = []
    for changed in list_measurements(shapes, has_gpu=not arguments.cpu):
        seconds = max(0.0, min(LONGEST, end - time.perf_counter()))
        settings = [*PLAIN, *changed, *arguments.settings]
        measurement = measure_shape(settings, arguments.updates, seconds)
        print(describe_measurement(measurement), flush=True)
        measurements.append(measurement)
    record = {
        "tests": tests,
        "measurements": measurements,
        "gpu": None if arguments.cpu else torch.cuda.get_device_name(),
        **describe_origin(),
    }
    arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if tests["code"] != 0 or any(m["figures"] is None for m in measurements):
        sys.exit(1)


if __name__ == "__main__":
    main()
