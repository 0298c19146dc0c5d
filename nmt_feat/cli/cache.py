"""The cache: what it holds, how large it is, which runs use it: `nmt-feat cache [list|prune]`.

`prune` removes prepared data and vectors that no run uses, and unfinished files of killed
processes. It keeps downloads, and annotation unless `--annotation` is given: new features need it.
A run that is trained again, or tested on a further set, prepares its data again. Name all folders
whose runs share the cache with `--runs`.
"""

import sys
from collections import Counter
from pathlib import Path

from rich.filesize import decimal

from nmt_feat.analysis.render import ReportTable, make_text_table
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.texts import make_parser
from nmt_feat.config.local import read_local
from nmt_feat.errors import UserError, writing_to
from nmt_feat.runs.stored.cache_use import ANNOTATION, CacheEntry, list_cache, remove_entry
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord

NAMES_SHOWN = 3
"""How many runs of an entry are named."""


def tabulate_entries(entries: list[CacheEntry]) -> ReportTable:
    """A row for each entry."""
    rows = []
    for entry in entries:
        names = ", ".join(entry.runs[:NAMES_SHOWN])
        if (more := len(entry.runs) - NAMES_SHOWN) > 0:
            names += f" and {more} more"
        users = names or ("none" if entry.is_needless else "-")
        rows.append([entry.path.name, entry.kind, decimal(entry.size), users])
    heading = ["entry", "kind", "size", "runs"]
    return ReportTable("", heading, rows, text_columns=frozenset({"entry", "kind", "runs"}))


def show_cache(cache: Path, entries: list[CacheEntry]) -> None:
    """Print the entries, and the size of each kind."""
    console = TextConsole()
    table = make_text_table(tabulate_entries(entries))
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)
    sizes = Counter[str]()
    for entry in entries:
        sizes[entry.kind] += entry.size
    kinds = ", ".join(f"{kind} {decimal(size)}" for kind, size in sizes.items())
    say(f"{cache}: {decimal(sizes.total())}" + (f" ({kinds})" if kinds else ""))


def prune_cache(entries: list[CacheEntry], with_annotation: bool, dry_run: bool) -> None:
    """Remove and name the entries that no run needs, or with `dry_run` only name them."""
    size = 0
    for entry in entries:
        if not (entry.is_needless or (with_annotation and entry.kind == ANNOTATION)):
            continue
        with writing_to(entry.path):
            if dry_run or remove_entry(entry):
                size += entry.size
                say(f"{'would remove' if dry_run else 'removed'} {entry.path}")
            else:
                say(f"{entry.path}: another process makes it; it stays", file=sys.stderr)
    say(f"{'would be freed' if dry_run else 'freed'}: {decimal(size)}")


def main() -> None:
    """List the cache or prune it."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("action", nargs="?", choices=("list", "prune"), default="list")
    parser.add_argument("--cache", type=Path, help="paths.cache of the runs")
    parser.add_argument(
        "--runs", type=Path, nargs="+", metavar="FOLDER", help="folders of all runs that use it"
    )
    parser.add_argument("--annotation", action="store_true", help="prune: annotation as well")
    parser.add_argument("--dry-run", action="store_true", help="prune: only say what would go")
    options = parser.parse_args()
    for name in ("annotation", "dry_run"):
        if getattr(options, name) and options.action == "list":
            raise UserError(f"--{name.replace('_', '-')}: is for prune: nmt-feat cache prune ...")
    cache = options.cache or Path(read_local().cache)
    if not cache.is_dir():
        raise UserError(f"{cache}: no such folder; give the cache: --cache FOLDER")
    folders = options.runs or [Path(read_local().runs)]
    runs: dict[Path, RunRecord] = {}
    try:
        runs = find_runs(folders)
    except UserError as error:
        if options.action == "prune" or options.runs:
            raise UserError(f"{error}; prune needs the runs that use the cache: --runs") from None
    entries = list_cache(cache, runs)
    if options.action == "list":
        show_cache(cache, entries)
    else:
        prune_cache(entries, options.annotation, options.dry_run)
