"""The table of finished runs: `python scripts/report.py FOLDER... [--out FOLDER]`.

Each folder is a run's, or stands above runs (`runs`). With `--out`, the table is also written
there as `table.md` and `table.csv`. Unfinished runs are listed.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from nmt_feat.errors import UserError
from nmt_feat.report.records import find_runs
from nmt_feat.report.tables import Table


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="folder for table.md and table.csv")
    arguments = parser.parse_args()
    try:
        runs = find_runs(arguments.folders)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    notes = [f"Not finished: {folder.name}" for folder, r in runs.items() if not r.finished]
    table = Table(runs.values(), notes)
    table.print(Console())
    if arguments.out:
        print("Written:", *table.write(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
