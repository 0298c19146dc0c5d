"""Files that travel with the package: the configs and the bundled corpus.

A wheel holds them inside the package; a checkout, also when installed with `pip install -e`, at
its root.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def find_resource(name: str) -> Path:
    """Path of `conf`, `data/embedded` or `data/terms`, wherever this installation keeps it."""
    for root in (PACKAGE, PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is neither in {PACKAGE} nor beside it: broken installation")
