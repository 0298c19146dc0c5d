"""What tables support, in both metrics: `nmt-feat claims docs/results/*/table.json`.

For each `table.json` that `nmt-feat report --out` wrote, it prints every difference to the baseline
and every order of two methods, with interval and corrected p-value. The supported ones come first.
Then it names those that are no longer supported when p is doubled, as after one look at the first
seeds.
"""

import json
from pathlib import Path

from nmt_feat.analysis.claims import list_claims
from nmt_feat.cli.texts import make_parser
from nmt_feat.errors import UserError


def read_table(path: Path) -> list[str]:
    """The claims of one file; a `UserError` if it is not the JSON of a report."""
    try:
        return list_claims(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path}: not the table.json of a report; write one: nmt-feat report RUNS --out FOLDER"
        ) from None


def main() -> None:
    """Print the claims of each file."""
    parser = make_parser(__doc__)
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE.json")
    for path in parser.parse_args().tables:
        print(path, *read_table(path), "", sep="\n")
