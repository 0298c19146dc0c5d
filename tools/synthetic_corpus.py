"""A corpus of any size for `benchmark.py`: the bundled corpus, repeated."""

import shutil
from pathlib import Path

from nmt_feat.base.resources import find_resource
from nmt_feat.config.schema import TrainConfig


def use_synthetic_corpus(cfg: TrainConfig, pairs: int) -> None:
    """Make the settings read a corpus of so many training pairs, which is written once."""
    folder = Path(cfg.paths.cache) / f"synthetic-{pairs}"
    if not folder.exists():
        building = folder.with_name(folder.name + ".part")
        shutil.rmtree(building, ignore_errors=True)
        write_synthetic_corpus(building, pairs)
        building.rename(folder)
    cfg.data.folder = str(folder)


def write_synthetic_corpus(folder: Path, pairs: int) -> None:
    """Repeat the training text of the bundled corpus, with a number behind each sentence."""
    embedded = find_resource("data/embedded")
    shutil.copytree(embedded, folder)
    blocks = (embedded / "train.conllu").read_text(encoding="utf-8").strip().split("\n\n")
    sentences = [
        "\n".join(line for line in block.split("\n") if not line.startswith("#"))
        for block in blocks
    ]
    targets = (embedded / "train.de").read_text(encoding="utf-8").splitlines()
    with (
        (folder / "train.conllu").open("w", encoding="utf-8") as source,
        (folder / "train.de").open("w", encoding="utf-8") as target,
    ):
        for i in range(pairs):
            words = sentences[i % len(sentences)]
            last = words.count("\n") + 2
            source.write(f"{words}\n{last}\t{i}\t{i}\tNUM\tCD\t_\t0\tdep\t_\t_\n\n")
            target.write(f"{targets[i % len(sentences)]} {i}\n")
