"""COMET: what its package is given, and the line when it is not there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPT = str(Path(__file__).resolve().parent.parent / "scripts" / "score_comet.py")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["score_comet.py", *map(str, arguments)])
    try:
        runpy.run_path(SCRIPT, run_name="__main__")
    except SystemExit as end:
        return int(str(end.code))
    return 0


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    content = {"s.txt": "A dog.\nA cat.\n", "t.txt": "Ein Hund.\nEine Katze.\n"}
    content |= {"one.hyp": "Hund.\nKatze.\n", "two.hyp": "Ein Hund.\n\n"}
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in content]


def test_without_the_package(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, one, _ = files
    monkeypatch.setitem(sys.modules, "comet", None)
    assert call(monkeypatch, "--source", source, "--target", target, one) == 2
    assert capsys.readouterr().err == (
        "error: COMET needs its package, in a separate environment: "
        "pip install -e . unbabel-comet\n"
    )


def test_lines_must_correspond(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, one, two = files
    two.write_text("Ein Hund.\n")
    assert call(monkeypatch, "--source", source, "--target", target, one, two) == 2
    assert capsys.readouterr().err == (
        f"error: {source} has 2 sentences, {two} has 1; their lines must correspond\n"
    )


def test_what_the_package_is_given(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its interface of version 2, imitated: no model is fetched here."""
    source, target, one, two = files
    seen: list[Any] = []

    class Model:
        def predict(self, data: list[dict[str, str]], batch_size: int, gpus: int) -> Any:
            seen.append(data)
            return SimpleNamespace(scores=[len(seen) / 8 - 0.1, len(seen) / 8 + 0.1])

    package = ModuleType("comet")
    package.download_model = lambda name: f"fetched {name}"  # type: ignore[attr-defined]
    package.load_from_checkpoint = lambda path: seen.append(path) or Model()  # type: ignore
    monkeypatch.setitem(sys.modules, "comet", package)
    assert call(monkeypatch, "--source", source, "--target", target, one, two) == 0
    assert seen[0] == "fetched Unbabel/wmt22-comet-da"
    assert seen[1] == [
        {"src": "A dog.", "mt": "Hund.", "ref": "Ein Hund."},
        {"src": "A cat.", "mt": "Katze.", "ref": "Eine Katze."},
    ]
    assert [row["mt"] for row in seen[2]] == ["Ein Hund.", ""]
    assert capsys.readouterr().out == f"0.2500\t{one}\n0.3750\t{two}\n"
