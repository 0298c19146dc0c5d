"""Prepares a corpus with the side's code and writes its arrays as facts.

    python probe.py FOLDER SETTING ...

Runs in the environment of one side, whose modules may have moved: what it needs is looked up by
name, first in today's modules.
"""

from __future__ import annotations

import dataclasses
import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra_plugins.compare_jobs import locate

from compare.facts import Facts


def add_ragged(facts: Facts, key: str, ragged: Any) -> None:
    """Rows of different lengths: their values, and where each begins."""
    facts.array(f"{key}.values", np.asarray(ragged.values))
    facts.array(f"{key}.offsets", np.asarray(ragged.offsets))


def add_split(facts: Facts, key: str, split: Any) -> None:
    """Texts, ids, features, units and vectors of a split."""
    for side in ("source", "target"):
        add_ragged(facts, f"{key}.{side}", getattr(split, side))
        facts.text(f"{key}.{side} texts", "\n".join(split.texts(side)))
    for name, ids in sorted(split.features.items()):
        facts.array(f"{key}.feature {name}", np.asarray(ids))
    for name, units in sorted(split.units.items()):
        add_ragged(facts, f"{key}.units {name}", units)
    for name, vectors in sorted(split.vectors.items()):
        if hasattr(vectors, "texts"):  # of an encoder in the model: what it reads
            add_ragged(facts, f"{key}.vectors {name}.texts", vectors.texts)
            facts.array(f"{key}.vectors {name}.places", np.asarray(vectors.places))
        else:
            facts.array(f"{key}.vectors {name}", np.asarray(vectors))


def add_encoder(facts: Facts, prepared: Any) -> None:
    """Subwords and vocabularies."""
    for side, subwords in (("source", prepared.encoder.subwords), ("target", prepared.target)):
        with tempfile.TemporaryDirectory() as folder:
            subwords.save(Path(folder) / "model")
            for path in sorted(Path(folder).iterdir()):
                facts.text(f"subwords.{side}{path.suffix}", path.read_bytes().hex())
    for name, vocabulary in sorted(prepared.encoder.features.items()):
        about = dataclasses.asdict(vocabulary)
        facts.text(f"vocabulary {name}.values", "\n".join(about.pop("values")))
        facts.text(f"vocabulary {name}.counts", " ".join(map(str, about.pop("counts"))))
        facts.nested(f"vocabulary {name}", about)
    for path in sorted(prepared.folder.glob("vectors-*.npy")):
        facts.array(path.stem, np.load(path))


def main(folder: Path, settings: list[str]) -> None:
    """Prepare, and write what there is."""
    from rich.console import Console

    composed = locate("compose_settings composed", "nmt_feat.cli.compose")(settings)
    resolve_settings = locate(
        "resolve_settings settle", "nmt_feat.runs.setup.resolve", "nmt_feat.runs.resolve"
    )
    cfg = resolve_settings(composed, False, Console(file=io.StringIO()))
    prepared = locate("prepare_run", "nmt_feat.data.controls")(cfg, print)
    facts = Facts(folder)
    facts.scalar("fingerprint", prepared.fingerprint)
    for name, split in {"train": prepared.train, "dev": prepared.dev, **prepared.tests}.items():
        add_split(facts, name, split)
    if prepared.redraw is not None:
        add_split(facts, "train of epoch 1", prepared.redraw(1))
    add_encoder(facts, prepared)
    report = dataclasses.asdict(prepared.report)
    assert isinstance(report, Mapping)
    facts.nested("report", report)
    facts.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
