"""From a configured corpus to encoded splits, once, in a cache folder that all runs share."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.files import hold_lock, make_folder, refuse_links, remove_tree, rename_whole
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.building import MANIFEST, REPORT, build_data
from nmt_feat.data.identity import hash_cache
from nmt_feat.data.report import DataReport
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds, list_user_kinds, naming_user_kinds
from nmt_feat.features.kind import FeatureKind
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.subwords import Subwords

READABLE = (3, REPORT)
"""The versions of the report that can be read; version 3 lacks the words whose value is lost."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException)
"""The errors of reading a damaged cache folder."""


@dataclass
class Prepared:
    """All that training needs to know of its data."""

    train: EncodedSplit
    dev: EncodedSplit
    tests: dict[str, EncodedSplit]
    encoder: SourceEncoder
    target: Subwords
    fingerprint: str  # a hash of everything that determines the splits
    report: DataReport
    notes: list[str]  # for the user: missing optional test sets, a rebuilt cache ...
    folder: Path  # the folder in the cache
    redraw: Callable[[int], EncodedSplit] | None = None  # the train split of an epoch, if it varies

    @property
    def tested_splits(self) -> dict[str, EncodedSplit]:
        """Dev and the test sets, by name."""
        return {"dev": self.dev, **self.tests}


class Outdated(ValueError):
    """A cache folder is whole, but of a version that wrote less or more."""


def prepare(
    cfg: TrainConfig,
    features: dict[str, FeatureConfig],
    report_progress: Callable[[str], None] = lambda message: None,
) -> Prepared:
    """Open the encoded corpus with these features in the cache, or build it there.

    If several processes call this, one builds and the others wait. `report_progress` is called
    before each slow step. A damaged cache folder is built again, with a note.

    Raises:
        UserError: if files of the corpus change meanwhile, because the folder's name is a hash of
            them.
    """
    kinds = choose_kinds(dict(sorted(features.items())))
    hash_of_files = fingerprint = hash_cache(cfg, features)
    if any(kind.has_dials for kind in kinds.values()):
        fingerprint = hashlib.sha256(f"{fingerprint} {cfg.seed}".encode()).hexdigest()
    folder = Path(cfg.paths.cache) / f"prepared-{fingerprint[:16]}"
    make_folder(folder.parent)
    notes = []
    with hold_lock(folder, "prepares the data"):
        building = folder.with_name(f"{folder.name}.building")
        refuse_links(folder, building)
        if folder.exists():
            try:
                return open_prepared(folder, fingerprint, kinds)
            except UNREADABLE as error:
                why = str(error) if isinstance(error, Outdated) else f"damaged ({error})"
                notes.append(f"{folder}: {why}, made again")
        for unusable in (building, folder):
            remove_tree(unusable)
        building.mkdir()
        try:
            with naming_user_kinds(kinds.values()):
                build_data(cfg, kinds, building, report_progress)
            if hash_cache(cfg, features) != hash_of_files:
                raise UserError(
                    "the data was changed while it was prepared (a file of the corpus, of vectors, "
                    "of an encoder or of the annotator's model); start again"
                )
        except BaseException:  # nobody else would delete it: other settings have another folder
            shutil.rmtree(building, ignore_errors=True)
            raise
        rename_whole(building, folder)
    prepared = open_prepared(folder, fingerprint, kinds)
    prepared.notes += notes
    return prepared


def open_prepared(folder: Path, fingerprint: str, kinds: Mapping[str, FeatureKind]) -> Prepared:
    """Open a folder of prepared data, and check its files against their sums."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    # Manifests of earlier versions have no sum.
    if manifest.pop("sum", None) not in (None, hash_json(manifest)):
        raise ValueError(f"{MANIFEST} has changed")
    if manifest.get("report") not in READABLE:
        raise Outdated("its report is of another version")
    for name, expected in manifest["files"].items():
        if hash_file_cached(folder / name, folder.parent) != expected:
            raise ValueError(f"{name} has changed")
    names = ["train", "dev", *manifest["tests"]]
    splits = {
        name: EncodedSplit.open(folder / f"{number}.arrow") for number, name in enumerate(names)
    }
    for name, folders in manifest.get("vectors", {}).items():
        for split, states in zip(splits.values(), folders, strict=True):
            split.vectors[name] = kinds[name].open_states(folder.parent / states).vectors
    encoder = SourceEncoder.load(folder, list_user_kinds(kinds))
    for split in splits.values():
        split.tags = tuple(encoder.tags)
    return Prepared(
        train=splits.pop("train"),
        dev=splits.pop("dev"),
        tests=splits,
        encoder=encoder,
        target=Subwords.load(folder / "target"),
        fingerprint=fingerprint,
        report=DataReport(**json.loads((folder / "report.json").read_bytes())),
        notes=manifest["notes"],
        folder=folder,
    )
