"""`tools/compare_searches.py`: rows, seconds and translations of searches that end earlier."""

from __future__ import annotations

import pytest

from tests.support.lives import python
from tests.support.small import ROOT, Small


@pytest.mark.slow
def test_each_search_is_compared_with_the_default_one(small: Small) -> None:
    folder = small.train("combiner=add", "trainer.max_steps=2")
    script = ROOT / "tools" / "compare_searches.py"
    done = python(script, folder, "--beams", 2, "--length-penalty", 1)
    assert done.returncode == 0, done.stderr
    _, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[2] for line in lines] == ["proven", "likely", "proven, refill", "likely, refill"]
    default, likely, *_ = lines
    assert (default[4], default[7].split()[0]) == ("1.000", "0")
    assert 0 < int(likely[3]) <= int(default[3])
