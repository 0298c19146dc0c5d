"""The notebook `examples/tour.ipynb` runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small import ROOT


@pytest.mark.slow
def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stored outputs are small, and each cell gives outputs of the same kinds."""
    nbformat = pytest.importorskip("nbformat")  # here, since it takes a second
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = ROOT / "examples" / "tour.ipynb"
    assert path.stat().st_size < 150_000
    stored = nbformat.read(path, as_version=4)
    executed = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        executed, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    for before, after in zip(stored.cells, executed.cells, strict=True):
        kinds = [{output.output_type for output in c.get("outputs", [])} for c in (before, after)]
        assert kinds[0] == kinds[1], before.source
