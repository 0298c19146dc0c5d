"""`tools/kill_test.py` with a few kills; it is made for more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small import ROOT

pytestmark = pytest.mark.slow


def test_killed_again_and_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "kill_test.py"), str(tmp_path / "k"), "--kills=4"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    assert content["killed"] == 4
    assert content["in the writer"] >= 1
    assert content["at a random time"] >= 1
    assert content["differing"] == []
