"""`nmt-feat evaluate`: test finished runs on further sets, by another search or metric."""

from __future__ import annotations

import itertools

from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.config.bounds import refuse_out_of_bounds
from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.runs.ensemble_results import evaluate_ensembles, group_runs
from nmt_feat.runs.finished_runs import evaluate_runs, find_finished_runs


def main() -> None:
    """Evaluate with the settings of the command line."""
    run_program("evaluate", evaluate)


def evaluate(cfg: EvaluateConfig) -> None:
    """Add the results to each run, and to ensembles if the settings ask for them; print a table.

    The table has the results of the search that the settings ask for.
    """
    refuse_out_of_bounds(cfg)
    folders = find_finished_runs(cfg.run)
    groups = group_runs(cfg.run, folders) if cfg.ensemble else []
    total, runs = len(folders) + len(groups), []
    evaluated = itertools.chain(evaluate_runs(folders, cfg), evaluate_ensembles(groups, cfg))
    for number, run in enumerate(evaluated, 1):
        say(f"{number} of {total} done: {run[1]}")
        runs.append(run)
    from nmt_feat.analysis.report import make_reports, print_reports

    print_reports(make_reports(runs), TextConsole())
