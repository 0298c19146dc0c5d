"""`run=` with nothing behind it, as of a variable of the shell that is not set, is no folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nmt_feat.cli.contrast import arrange_arguments
from nmt_feat.errors import UserError
from nmt_feat.runs.finished_runs import find_finished_runs
from nmt_feat.runs.trained.ensembles import list_members


def contrast(run: str) -> list[str]:
    return arrange_arguments([f"run={run}", "suite=x.json"])


@pytest.mark.parametrize(
    ("choose", "run"),
    [
        (find_finished_runs, ""),
        (find_finished_runs, "a, "),
        (list_members, ""),
        (list_members, ",a"),
        (contrast, ""),
    ],
)
def test_nothing_is_not_the_current_folder(
    choose: Callable[[str], object], run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose runs would be tested, one after another."""
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^run={run}: names nothing; give "):
        choose(run)
