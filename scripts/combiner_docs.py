"""Write the table of `docs/explanation/combiners.md` from classes and files in `conf/combiner/`.

    python scripts/combiner_docs.py            # write
    python scripts/combiner_docs.py --check    # exit with 1 if the table is stale

Only the part between the two marks is written; the rest of the page is prose.
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
from nmt_feat.runs.setup.build_model import build_combiner

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "explanation" / "combiners.md"
BEGIN, END = "<!-- written by scripts/combiner_docs.py -->\n", "<!-- until here -->\n"
FIRST = ("none", "concat", "add", "average", "gate")
DIM, PIECES = 512, 8000
VALUES = {"upos": 16, "lemma": 10000}


def read_configs() -> dict[str, CombinerConfig]:
    """The shipped configurations by name; those of `FIRST` come first."""
    names = sorted(path.stem for path in (ROOT / "conf" / "combiner").glob("*.yaml"))
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    configs = {}
    for name in names:
        file = OmegaConf.load(ROOT / "conf" / "combiner" / f"{name}.yaml")
        configs[name] = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(CombinerConfig), file)
        )
    return configs  # type: ignore[return-value]


def make_combiner(cfg: CombinerConfig, features: list[str]) -> Combiner:
    """The combiner of a model of width `DIM` with these features, with default widths."""
    parts = {"word": DIM}
    for name in features:
        kind = choose_kind(name, FeatureConfig(column=name))
        parts[name] = kind.choose_width(VALUES[name], DIM, cfg.widths, 2)
    return build_combiner(cfg, parts, DIM)


def read_formula(cfg: CombinerConfig) -> str:
    """The formula with which the docstring of a combiner's class begins."""
    cls = locate_class(cfg._target_) if cfg._target_ else NoFeatures
    text = " ".join((cls.__doc__ or "").split())
    formula = re.match(r"`[^`]+`(?:, `[^`]+`)*", text)
    if not formula:
        sys.exit(f"{cls.__name__}: its docstring does not begin with a formula in backticks")
    return formula[0]


def count_added_parameters(cfg: CombinerConfig, features: list[str]) -> int:
    """Parameters of combiner and features, and the change of the word table by its width."""
    combiner = make_combiner(cfg, features)
    combiner_count = sum(parameter.numel() for parameter in combiner.parameters())
    widths = dict(combiner.widths)
    word_count = PIECES * (widths.pop("word") - DIM)
    return combiner_count + word_count + sum(VALUES[name] * w for name, w in widths.items())


@torch.no_grad()
def depends_on_word(cfg: CombinerConfig) -> bool:
    """Whether a change of the features changes two words differently, for random numbers."""
    torch.manual_seed(1)
    combiner = make_combiner(cfg, list(VALUES)).double()
    (word, *values), (second_word, *second_values) = (
        [torch.randn(width, dtype=torch.float64) for width in combiner.widths.values()]
        for _ in range(2)
    )
    change, second_change = (
        combiner([w, *second_values]) - combiner([w, *values]) for w in (word, second_word)
    )
    return not torch.allclose(change, second_change)


def render_table() -> str:
    """The table of all combiners."""
    lines = [
        "| method | formula | word + upos | word + upos + lemma | parameters added, upos | "
        "upos and lemma | effect depends on the word |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cfg in read_configs().items():
        cells = [f"[`{name}`](#{name})", read_formula(cfg)]
        for features in (["upos"], ["upos", "lemma"]):
            cells.append(" + ".join(map(str, make_combiner(cfg, features).widths.values())))
        if cfg._target_:
            for features in (["upos"], ["upos", "lemma"]):
                cells.append(f"{count_added_parameters(cfg, features):,}")
            cells.append("yes" if depends_on_word(cfg) else "no")
        else:
            cells += ["0", "0", "-"]
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
    fresh = f"{before}{BEGIN}\n{render_table()}\n{END}{after}"
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
