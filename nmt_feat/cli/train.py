"""`nmt-feat train`: one run, or with `-m` a sweep of runs and its table.

A job imports PyTorch, which takes seconds. Help, `--cfg` and a mistyped setting do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nmt_feat.cli.hydra_program import run_program

if TYPE_CHECKING:
    from nmt_feat.config.schema import TrainConfig


def main() -> None:
    """Train with the settings of the command line."""
    run_program("train", start_job)


def start_job(cfg: TrainConfig) -> float:
    """Train one run, alone or as a job of a sweep; its score on dev, the higher the better."""
    from nmt_feat.cli.train_job import train_job

    return train_job(cfg)
