"""The table of finished runs: `nmt-feat report FOLDER... [--out FOLDER]`.

A folder is that of a run or of a sweep, or one above runs (`runs`); runs may be packed in
`records.jsonl` and `counts.parquet` (docs/results). `--where NAME=VALUE` chooses some of them. Runs
of several corpora or language pairs get a report for each.

The answer comes first: do the features help, is it the linguistics, which method. Then comes the
table, and what it supports: differences to the baseline (words only with the same settings, or
`--baseline`) with intervals and p-values. Unfinished runs are listed.

`--metric NAME` chooses another metric, by its name in the table, for the answer, the shares, the
tests of pairs and the figures. Differences and intervals are there for each metric; for TER only
where it is named.

`--plan FILE` adds planned comparisons, one `ROW - OTHER` in each line of a text file. They are
paired by seed, and corrected only for these.

`--beam N` shows the results of another beam than that of the runs. `nmt-feat evaluate` adds such
results.

`--out` also writes the report: Markdown, CSV, JSON and LaTeX (booktabs). `--figures` adds figures
as PNG and PDF, each where the runs have data for it: differences, learning curves, BLEU by length
of the reference, gain by corpus size, BLEU by the bits of the features, mean gates, shares of the
embedding's norm. Files of an earlier report in the folder are removed.

`--html FILE` writes one page of everything, with data, configuration and origin of each run, and
with the test sentences as each method translated them. Their text is read only from the shipped
corpus, from downloads in `--cache` and from the folders of `--text`, never from other files that a
run names: somebody else may have trained it.

`--watch` shows running runs and the table so far, until none runs any more. It reads only the runs'
files, so it works in another terminal, or on another machine that sees the folder and its locks. At
the end it names unfinished runs, such as those of a sweep that was killed.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from nmt_feat.analysis.corpora import choose_runs, folder_names
from nmt_feat.analysis.examples import Corpora
from nmt_feat.analysis.figures import write_figures
from nmt_feat.analysis.page import write_page
from nmt_feat.analysis.planned_comparisons import read_plan
from nmt_feat.analysis.report import make_reports, print_reports, write_reports
from nmt_feat.analysis.watch import watch_runs
from nmt_feat.base.outputs import refuse_inputs
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.texts import make_parser
from nmt_feat.config.local import read_local
from nmt_feat.errors import UserError, suggest, writing_to
from nmt_feat.evaluation.packed_runs import files_of_run
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord, select_beam

NOT_WATCHED = ("where", "beam", "metric", "plan", "baseline", "out", "figures", "html")
"""The options that the live view does not take."""


def report_runs(options: argparse.Namespace) -> None:
    """Print the reports of the folders' runs, and write the files that the options ask for."""
    runs = choose_runs(find_runs(options.folders), options.where)
    notes = [f"Not finished: {folder.name}" for folder, r in runs.items() if not r.finished]
    if options.beam is not None:
        runs, lacking = select_by_beam(runs, options.beam)
        notes += [f"Without results of beam {options.beam}: {folder.name}" for folder in lacking]
    with_folders = [(r, folder) for folder, r in runs.items()]
    refuse_absent_metric(options.metric, runs.values())
    plan = read_plan(options.plan) if options.plan else ()
    reports = make_reports(with_folders, notes, options.baseline, options.metric, plan)
    if options.html:
        refuse_inputs(options.html, "--html ", [path for f in runs for path in files_of_run(f)])
    paths = []
    if options.out:  # before the report is printed, which may fail
        with writing_to(options.out):
            paths = write_reports(reports, options.out)
    print_reports(reports, TextConsole())
    if options.out:
        say("Written:", *paths)
    folders = folder_names(reports)
    for name, report in reports.items():
        if options.out and options.figures:
            folder = options.out / folders[name] if name else options.out
            with writing_to(folder):
                figures = write_figures(report, folder)
            for path, description in figures.items():
                say(f"Written: {path}: {description}")
        if options.html:
            page = options.html
            if name:  # one of several reports
                page = page.with_name(f"{page.stem}-{folders[name]}{page.suffix}")
            corpora = Corpora(options.text, options.cache or Path(read_local().cache))
            for missing_text in write_page(report, page, corpora):
                say(missing_text, file=sys.stderr)
            say(f"Written: {page}")


def select_by_beam(
    runs: dict[Path, RunRecord], beam: int
) -> tuple[dict[Path, RunRecord], list[Path]]:
    """The runs with their results by another beam, and the folders of those without."""
    selected = {folder: select_beam(run, beam) for folder, run in runs.items()}
    with_results = {folder: run for folder, run in selected.items() if run is not None}
    if not any(run.finished for run in with_results.values()):
        raise UserError(
            f"--beam={beam}: no run here has its results; add them: nmt-feat evaluate run=FOLDER "
            f"decoding.beam={beam}"
        )
    return with_results, [folder for folder, run in selected.items() if run is None]


def refuse_absent_metric(metric: str, runs: Iterable[RunRecord]) -> None:
    """Refuse a metric that no run has."""
    names = {name for run in runs for scores in run.tests.values() for name in scores.all_metrics()}
    if names and metric not in names:
        raise UserError(f"--metric={metric}: no run here has it; {suggest(metric, names)}")


def main() -> None:
    """Show the report, and write it."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="folder to write the report into")
    parser.add_argument("--figures", action="store_true", help="with --out: figures, by Matplotlib")
    parser.add_argument("--html", type=Path, metavar="FILE", help="one HTML page of everything")
    parser.add_argument(
        "--text",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="with --html: folder of a corpus whose test sentences the page may show",
    )
    parser.add_argument("--cache", type=Path, help="paths.cache of the runs")
    parser.add_argument("--watch", action="store_true", help="a live view, until nothing runs")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with this: data=koen, method=gate, seed=1, tags=draft, trainer.devices=2",
    )
    parser.add_argument("--baseline", help="name of a row, for instance 'none' or 'add upos'")
    parser.add_argument(
        "--metric", default="BLEU", help="of the answer and the figures; default BLEU"
    )
    parser.add_argument(
        "--plan", type=Path, metavar="FILE", help="planned comparisons: lines such as 'gate - none'"
    )
    parser.add_argument("--beam", type=int, help="results of another beam than that of the runs")
    options = parser.parse_args()
    if options.figures and not options.out:
        parser.error("--figures needs --out, the folder to write them into")
    for name in ("text", "cache"):
        if getattr(options, name) and not options.html:
            raise UserError(f"--{name}: is for the page; add --html FILE, or leave it out")
    unwatched = [n for n in NOT_WATCHED if getattr(options, n) != parser.get_default(n)]
    if options.watch and unwatched:
        raise UserError(f"--watch --{unwatched[0]}: the live view shows all runs; leave it out")
    if options.watch:
        watch_runs(options.folders, TextConsole())
    else:
        report_runs(options)
