"""Write the table of `docs/explanation/combiners.md` from classes and files in `conf/combiner/`.

    python scripts/combiner_docs.py            # write
    python scripts/combiner_docs.py --check    # exit with 1 if what is written is not fresh

Only what stands between the two marks is written; the rest of the page is prose.
"""

import argparse
import re
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

from nmt_feat.combiners import Combiner, NoFeatures
from nmt_feat.config.instantiate import locate_class
from nmt_feat.config.schema import CombinerConfig, FeatureConfig
from nmt_feat.features.choice import choose_kind
from nmt_feat.runs.build_model import build_combiner

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "explanation" / "combiners.md"
BEGIN, END = "<!-- written by scripts/combiner_docs.py -->\n", "<!-- until here -->\n"
FIRST = ("none", "concat", "add", "average", "gate")
DIM, PIECES = 512, 8000
VALUES = {"upos": 16, "lemma": 10000}


def methods() -> dict[str, CombinerConfig]:
    """The shipped configurations by name, the plain ones first."""
    names = sorted(path.stem for path in (ROOT / "conf" / "combiner").glob("*.yaml"))
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    made = {}
    for name in names:
        file = OmegaConf.load(ROOT / "conf" / "combiner" / f"{name}.yaml")
        made[name] = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(CombinerConfig), file)
        )
    return made  # type: ignore[return-value]


def combiner(cfg: CombinerConfig, features: list[str]) -> Combiner:
    """The combiner of a model of width `DIM` with these features, widths by default."""
    parts = {"word": DIM}
    for name in features:
        kind = choose_kind(name, FeatureConfig(column=name))
        parts[name] = kind.choose_width(VALUES[name], DIM, cfg.widths, 2)
    return build_combiner(cfg, parts, DIM)


def formula(cfg: CombinerConfig) -> str:
    """The formula with which the docstring of a combiner's class begins."""
    cls = locate_class(cfg._target_) if cfg._target_ else NoFeatures
    text = " ".join((cls.__doc__ or "").split())
    found = re.match(r"`[^`]+`(?:, `[^`]+`)*", text)
    if not found:
        sys.exit(f"{cls.__name__}: its docstring does not begin with a formula in backticks")
    return found[0]


def added(cfg: CombinerConfig, features: list[str]) -> int:
    """Parameters more than with words only: the combiner's, the features', the word table's."""
    made = combiner(cfg, features)
    own = sum(parameter.numel() for parameter in made.parameters())
    widths = dict(made.widths)
    words = PIECES * (widths.pop("word") - DIM)
    return own + words + sum(VALUES[name] * width for name, width in widths.items())


@torch.no_grad()
def depends(cfg: CombinerConfig) -> bool:
    """Whether a change of the features moves two words differently, on random numbers."""
    torch.manual_seed(1)
    made = combiner(cfg, list(VALUES)).double()
    (word, *tags), (other, *others) = (
        [torch.randn(width, dtype=torch.float64) for width in made.widths.values()]
        for _ in range(2)
    )
    one, two = (made([start, *others]) - made([start, *tags]) for start in (word, other))
    return not torch.allclose(one, two)


def render() -> str:
    """The table."""
    lines = [
        "| method | formula | word + upos | word + upos + lemma | parameters added, upos | "
        "upos and lemma | effect depends on the word |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cfg in methods().items():
        cells = [f"[`{name}`](#{name})", formula(cfg)]
        for features in (["upos"], ["upos", "lemma"]):
            cells.append(" + ".join(map(str, combiner(cfg, features).widths.values())))
        cells += [f"{added(cfg, f):,}" if cfg._target_ else "0" for f in (["upos"], [*VALUES])]
        cells.append("-" if not cfg._target_ else "yes" if depends(cfg) else "no")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="do not write, exit with 1 if stale")
    arguments = parser.parse_args()
    page = TARGET.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n{render()}\n{END}{after}"
    if arguments.check:
        if page != fresh:
            print(
                "docs/explanation/combiners.md is stale: run python scripts/combiner_docs.py",
                file=sys.stderr,
            )
            return 1
        return 0
    TARGET.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
