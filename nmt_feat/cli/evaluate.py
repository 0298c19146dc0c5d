"""`nmt-feat evaluate`: test finished runs on further sets, by another search or metric."""

from __future__ import annotations

from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.config.bounds import refuse_out_of_bounds
from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.runs.finished_runs import evaluate_runs, find_finished_runs


def main() -> None:
    """Evaluate with the settings of the command line."""
    run_program("evaluate", evaluate)


def evaluate(cfg: EvaluateConfig) -> None:
    """Add the results to each run; print their table, with the search that is asked for."""
    refuse_out_of_bounds(cfg)
    folders = find_finished_runs(cfg.run)
    runs = []
    for number, run in enumerate(evaluate_runs(folders, cfg), 1):
        say(f"{number} of {len(folders)} done: {run[1]}")
        runs.append(run)
    from nmt_feat.analysis.report import make_reports, print_reports

    print_reports(make_reports(runs), TextConsole())
