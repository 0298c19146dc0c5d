"""A sweep's report as artifacts of its loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt_feat.analysis.corpora import folder_names
from nmt_feat.analysis.examples import Corpora
from nmt_feat.analysis.figures import write_figures
from nmt_feat.analysis.page import write_page
from nmt_feat.analysis.report import Report
from nmt_feat.base.terminal import say
from nmt_feat.config.schema import LoggerConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.loggers import make_loggers

PAGE = "report.html"


def log_sweep(
    jobs: Sequence[Mapping[str, Any]],
    reports: Mapping[str, Report],
    tables: Sequence[Path],
    folder: Path,
) -> None:
    """Give the tables, figures and page of a sweep to each logger that takes them.

    A failure is printed and never ends the sweep. Without such a logger no figure is drawn.

    Args:
        jobs: the jobs' files, see `nmt_feat.cli.sweep.describe_job`.
        reports: by corpus.
        tables: the files of the reports' tables.
        folder: the sweep's.
    """
    configs = {
        name: LoggerConfig(logger["_target_"], logger.get("args") or {})
        for job in jobs
        for name, logger in (job["config"].get("logger") or {}).items()
    }
    try:
        all_loggers = make_loggers(configs)
        loggers = {name: logger for name, logger in all_loggers.items() if logger.takes_reports}
        if not loggers:
            return
        settings = jobs[0]["config"]["paths"]
        paths = [*tables, *write_pictures(reports, folder, Path(settings["cache"]))]
    except UserError as error:
        say(f"the report is not logged: {error}")
        return
    for name, logger in loggers.items():
        try:
            logger.log_report(Path(settings["runs"]).absolute(), f"sweep-{folder.name}", paths)
        except (Exception, SystemExit) as error:  # a package may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
            say(f"logger={name} failed ({reason}); the report is in {folder}")


def write_pictures(reports: Mapping[str, Report], folder: Path, cache: Path) -> list[Path]:
    """Write the figures and the page of each report beside its tables; the files' paths."""
    paths: list[Path] = []
    folders = folder_names(reports)
    for name, report in reports.items():
        target = folder / folders[name] if name else folder
        paths += write_figures(report, target)
        write_page(report, target / PAGE, Corpora([], cache))
        paths.append(target / PAGE)
    return paths
