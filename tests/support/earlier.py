"""Runs as earlier versions left them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from nmt_feat.base.checksums import hash_json
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.identity import hash_data


def write_first_identity(folder: Path, cfg: TrainConfig) -> Path:
    """Rewrite a run as an earlier version left it; the folder, with its name of then."""
    cfg.features = dict(sorted(cfg.features.items()))
    data = hash_data(cfg, cfg.features).cache
    for path in (folder / "run.json", folder / "result.json"):
        if not path.exists():
            continue
        run = json.loads(path.read_bytes())
        run["settings"]["data"]["hash"] = data
        run["settings"]["trainer"]["average"] = cfg.trainer.average
        run["settings"]["decoding"] = dataclasses.asdict(cfg.decoding)
        run["hash"] = hash_json(run["settings"])
        run["data_hashes"] = {"prepared": data}
        del run["test_hashes"]
        path.write_text(json.dumps(run))
    if (sums := folder / "SHA256SUMS").exists():  # there were those of the weights and vocabularies
        lines = sums.read_text(encoding="utf-8").splitlines(keepends=True)
        first = [line for line in lines if line.endswith(".safetensors\n") or "  encoder/" in line]
        sums.write_text("".join(first), encoding="utf-8")
    return folder.rename(folder.with_name(f"{folder.name[:-8]}{run['hash'][:8]}"))
