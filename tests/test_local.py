"""A machine's own paths, which stand in `conf/local/default.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.base.resources import find_resource
from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.local import read_local
from nmt_feat.config.schema import LocalConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.setup.identity import identity_settings


def write_local(folder: Path, text: str) -> None:
    (folder / "conf" / "local").mkdir(parents=True)
    (folder / "conf" / "local" / "default.yaml").write_text(text, encoding="utf-8")


LOCAL = """
cache: /scratch/cache
runs: /scratch/1.10
data: {multi30k: /data/multi30k, korean: /data/korean, embedded: /unused}
models: {udpipe: /models/english.udpipe}
"""


@pytest.mark.thorough
def test_local_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in for what is not set, and the run is the same one."""
    monkeypatch.chdir(tmp_path)
    plain = compose_settings(["data=multi30k", "annotator=udpipe"])
    write_local(tmp_path, LOCAL)
    cfg = compose_settings(["data=multi30k", "annotator=udpipe"])
    assert (cfg.paths.cache, cfg.paths.runs) == ("/scratch/cache", "/scratch/1.10")
    assert (cfg.data.folder, cfg.annotator.model) == ("/data/multi30k", "/models/english.udpipe")
    assert identity_settings(plain, "data") == identity_settings(cfg, "data")
    assert compose_settings(["data=korean"]).data.folder == "/data/korean"
    shipped = compose_settings(["annotator=hanta"])
    assert shipped.data.folder == str(find_resource("data/embedded"))
    assert shipped.annotator.model is None
    typed = ["paths.cache=mine", "data=multi30k", "data.folder=here"]
    typed += ["annotator=udpipe", "annotator.model=other.udpipe"]
    cfg = compose_settings(typed)
    assert (cfg.paths.cache, cfg.data.folder, cfg.annotator.model) == (
        *("mine", "here", "other.udpipe"),
    )
    assert cfg.local == LocalConfig()  # a record names no other corpus of the machine
    assert read_local().cache == "/scratch/cache"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {threads: 2}", "trainer: no such setting"),
        ("cache: ~/cache", "conf/local/default.yaml: cache: ~/cache: write the whole path"),
        ("data: multi30k", "data"),
    ],
)
def test_wrong_local_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_local(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        compose_settings([])
    assert "\n" not in str(error.value)
