"""Runs that take a moment: a very small corpus, a very small model, search that stops early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file

from nmt_feat.base.resources import find_resource
from nmt_feat.cli.compose import (
    compose_settings,
    keep_typed_text,
    prepare_hydra,
    refuse_silent_merges,
)
from nmt_feat.cli.sweep import current
from nmt_feat.config.identity import VALIDATION
from nmt_feat.config.schema import TrainConfig
from nmt_feat.runs.run import run_training
from tests.support.compositions import members

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "subword.vocab_size": 200,
    "model.dim": 16,
    "model.ffn_dim": 32,
    "model.heads": 2,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "optimizer.lr": 2e-3,
    "optimizer.schedule": "inverse_sqrt",
    "optimizer.warmup": 4,
    "trainer.max_steps": 6,
    "trainer.validate_every": 2,
    "trainer.batch_tokens": 256,
    "trainer.accelerator": "cpu",
    "trainer.threads": 1,
    "decoding.beam": 1,
    "decoding.max_ratio": 0.2,
    "decoding.max_extra": 2,
}


def cut(folder: Path, train: int = 80, dev: int = 8, test: int = 8) -> Path:
    """The first sentences of the bundled corpus, in `folder`."""
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        whole = find_resource("data/embedded")
        blocks = (whole / f"{split}.conllu").read_text(encoding="utf-8").split("\n\n")[:count]
        lines = (whole / f"{split}.de").read_text(encoding="utf-8").split("\n")[:count]
        (folder / f"{split}.conllu").write_text("\n\n".join([*blocks, ""]), encoding="utf-8")
        (folder / f"{split}.de").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


GROUPS = {"row", *(path.name for path in find_resource("conf").iterdir() if path.is_dir())}


@cache
def _composed(options: tuple[str, ...], members: str) -> DictConfig:
    """What Hydra composes of the options of groups alone, which takes most of the time."""
    prepare_hydra("train")
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(find_resource("conf"))):
        cfg = hydra.compose("train", [*options])
    typed: DictConfig = OmegaConf.merge(TrainConfig, OmegaConf.to_container(cfg))  # type: ignore[assignment]
    OmegaConf.set_struct(typed, True)
    return typed


@cache
def composed(overrides: tuple[str, ...]) -> TrainConfig:
    """The settings that a command line gives, as `compose_settings` has them."""
    local = any(override.startswith("local.") for override in overrides)
    if not local and not (ROOT / "conf" / "local").exists():  # else it fills paths in
        with suppress(HydraException, OmegaConfBaseException):
            return _changed(overrides)
    return compose_settings(overrides)  # with its message


def _changed(overrides: tuple[str, ...]) -> TrainConfig:
    parsed = OverridesParser.create().parse_overrides(
        keep_typed_text(overrides, "train", sweep=False)
    )
    options = [o for o in parsed if o.key_or_group in GROUPS or o.package or o.is_delete()]
    values = [o for o in parsed if o not in options]
    if any(o.is_add() or o.is_force_add() for o in values):
        return compose_settings(overrides)  # which refuses names that the schema does not have
    cfg = deepcopy(_composed(tuple(str(o.input_line) for o in options), members()))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    typed: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    refuse_silent_merges(overrides)
    return typed


_outcomes: dict[str, dict[str, Any]] = {}


@dataclass
class Small:
    """Makes runs under `folder`; the corpus and the cache are shared."""

    corpus: Path
    cache: Path
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def overrides(self, *more: str) -> list[str]:
        """The command line; a later setting takes the place of an earlier one."""
        paths = {
            "data.folder": self.corpus,
            "paths.cache": self.cache,
            "paths.runs": self.folder / "runs",
        }
        settings = SETTINGS | paths | self.settings
        changed = {override.partition("=")[0] for override in more}
        return [f"{k}={v}" for k, v in settings.items() if k not in changed] + list(more)

    def config(self, *more: str) -> TrainConfig:
        """The typed settings of a run."""
        here = f"paths.runs={self.folder / 'runs'}"
        overrides = [o for o in self.overrides(*more) if o != here]
        cfg = deepcopy(composed(tuple(overrides)))
        cfg.paths.runs = str(self.folder / "runs")
        return cfg

    def train(self, *more: str, sweep: bool = False) -> Path:
        """Train in this process; the run's folder."""
        return run_training(self.config(*more), sweep, current).folder

    def whole(self, *more: str) -> dict[str, Any]:
        """The outcome of a run that nothing has interrupted; each is trained once in a process."""
        elsewhere = Small(self.corpus, self.cache, Path("/"), self.settings)
        key = repr((elsewhere.overrides(*more), VALIDATION))
        if key not in _outcomes:
            elsewhere.folder = self.folder / "whole"
            _outcomes[key] = outcome(elsewhere.train(*more))
        return _outcomes[key]

    @contextmanager
    def elsewhere(self, name: str) -> Iterator[Small]:
        """The same with another folder of runs."""
        yield Small(self.corpus, self.cache, self.folder / name, self.settings)


def record(folder: Path) -> dict[str, Any]:
    """A run's `result.json`."""
    content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return content


def outcome(folder: Path) -> dict[str, Any]:
    """All of a run that must be equal to the bit when it is made again."""
    run_record = record(folder)
    names = ("method", "features", "seed", "hash", "settings", "parameters", "updates")
    names += ("selected", "selected_step", "curve", "dev", "tests", "files", "data_hashes")
    files = [folder / "model.safetensors", *sorted(folder.glob("*.hyp"))]
    return {k: run_record[k] for k in names} | {path.name: path.read_bytes() for path in files}


def assert_equal_to_rounding(one: Path, two: Path) -> None:
    """Two runs, validated after each update: equal losses, weights, counts, tests, translations."""
    a, b = record(one), record(two)
    assert len(a["curve"]) == a["updates"] == b["updates"]
    for x, y in zip(a["curve"], b["curve"], strict=True):
        assert x == y | {"loss": pytest.approx(y["loss"], rel=1e-5)}
    for name in ("dev.hyp", "test.hyp"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    for x, y in ((a["dev"], b["dev"]), (a["tests"]["test"], b["tests"]["test"])):
        assert x == y | {"perplexity": pytest.approx(y["perplexity"], rel=1e-5)}
    tensors = load_file(two / "model.safetensors")
    for name, tensor in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(tensor, tensors[name], atol=1e-5, rtol=1e-4)
