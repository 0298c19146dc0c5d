"""The shipped options, by their files."""

from __future__ import annotations

from nmt_feat.config.config_source import read_rows
from tests.support.small import ROOT

CONF = ROOT / "conf"


def options(group: str) -> list[str]:
    """The options of a group."""
    result = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if group == "row":
        result = sorted(read_rows(CONF))
    assert result, group
    return result
