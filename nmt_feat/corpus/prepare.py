"""From a configured corpus to encoded splits: once, in a cache folder that all runs share."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import sentencepiece
from filelock import FileLock

from nmt_feat.corpus import columns, datasets
from nmt_feat.corpus.columns import FeatureVocab
from nmt_feat.corpus.data_report import DataReport, describe_feature, describe_split
from nmt_feat.corpus.datasets import RawSplit
from nmt_feat.corpus.encoder import Described, SourceEncoder
from nmt_feat.corpus.store import Split, encode_split
from nmt_feat.corpus.subwords import Subwords
from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError
from nmt_feat.schema import DataConfig, FeatureConfig, TrainConfig

FORMAT = 1  # of the cache folder: raise it whenever its content changes
MANIFEST = "manifest.json"


@dataclass
class Prepared:
    """All that training needs to know of its data."""

    train: Split
    dev: Split
    tests: dict[str, Split]
    encoder: SourceEncoder
    target: Subwords
    fingerprint: str  # hash of everything that determines the splits
    report: DataReport
    notes: list[str]  # what the user should know: missing optional test sets, a rebuilt cache ...
    folder: Path  # where it is stored


def fingerprint(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> str:
    """Hash of everything that determines the prepared data; reads files, but prepares nothing."""
    columns.check(features)
    annotate = columns.needs_annotation(features)
    data = cfg.data
    content = {
        "format": FORMAT,
        "sentencepiece": sentencepiece.__version__,
        "corpus": datasets.fingerprint(data, cfg.annotator, Path(cfg.paths.cache), annotate),
        "subword": asdict(cfg.subword),
        "filters": [data.min_words, data.max_pieces, data.max_ratio],
        "features": {
            name: [f.column, f.max_values, f.min_count, f.policy] for name, f in features.items()
        },
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def prepare(
    cfg: TrainConfig,
    features: dict[str, FeatureConfig],
    say: Callable[[str], None] = lambda message: None,
) -> Prepared:
    """The encoded corpus with these features, from the cache or made there now.

    Several processes may ask at once: one makes it, the others wait. `say` is told what takes
    long. A damaged cache folder is made again, with a note.
    """
    found = fingerprint(cfg, features)
    folder = Path(cfg.paths.cache) / f"prepared-{found[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    notes = []
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            try:
                return _open(folder, found)
            except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
                notes.append(f"{folder}: damaged ({error}), made again")
        building = folder.with_name(f"{folder.name}.building")
        for old in (building, folder):
            shutil.rmtree(old, ignore_errors=True)
        building.mkdir()
        _build(cfg, dict(sorted(features.items())), building, say)
        building.rename(folder)
    prepared = _open(folder, found)
    prepared.notes += notes
    return prepared


def _open(folder: Path, found: str) -> Prepared:
    """The folder's content, checked against its sums."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for name, digest in manifest["files"].items():
        if sha256(folder / name) != digest:
            raise ValueError(f"{name} has changed")
    names = ["train", "dev", *manifest["tests"]]
    splits = {name: Split.open(folder / f"{i}.arrow") for i, name in enumerate(names)}
    return Prepared(
        train=splits.pop("train"),
        dev=splits.pop("dev"),
        tests=splits,
        encoder=SourceEncoder.load(folder),
        target=Subwords.load(folder / "target"),
        fingerprint=found,
        report=DataReport(**json.loads((folder / "report.json").read_bytes())),
        notes=manifest["notes"],
        folder=folder,
    )


def _build(
    cfg: TrainConfig, features: dict[str, FeatureConfig], folder: Path, say: Callable[[str], None]
) -> None:
    annotate = columns.needs_annotation(features)
    say("reading the corpus" + " and its annotation" * annotate)
    raw = datasets.load(cfg.data, cfg.annotator, Path(cfg.paths.cache), annotate)
    say("training the subword model")
    texts = [sentence.text for sentence in raw.train.source]
    if cfg.subword.joint:
        source = target = Subwords.train(cfg.subword, texts + raw.train.target)
    else:
        source = Subwords.train(cfg.subword, texts)
        target = Subwords.train(cfg.subword, raw.train.target)
    tool = cfg.annotator._target_
    annotated_by = tool.rpartition(".")[2] if tool else cfg.data.train.conllu
    say("encoding")
    kept, filtered = _filter(cfg.data, raw.train, source, target)
    report = DataReport(len(texts), filtered, source.size, target.size)
    empty = {name: FeatureVocab(f.column, f.policy) for name, f in features.items()}
    encoder = SourceEncoder(source, empty)
    splits = [raw.train, raw.dev, *raw.tests.values()]
    described: dict[str, list[Described]] = {}
    for split in splits:
        rows = kept if split is raw.train else range(len(split.source))
        described[split.name] = [
            encoder.describe(split.source[i], f"{split.source_path}: sentence {i + 1}")
            for i in rows
        ]
        split.target = [split.target[i] for i in rows]
    for name, feature in features.items():
        counts, dev_counts = (
            Counter(value for d in described[split] for value in d.of_words[name])
            for split in ("train", "dev")
        )
        encoder.features[name] = vocab = FeatureVocab.build(feature, counts)
        _refuse_constant(name, feature, counts, vocab, annotated_by or raw.train.source_path)
        report.features[name] = describe_feature(counts, dev_counts, vocab)
    for number, split in enumerate(splits):
        encoded = encode_split(encoder, target, described[split.name], split.target)
        encoded.save(folder / f"{number}.arrow")
        report.splits[split.name] = describe_split(encoded)
    encoder.save(folder)
    target.save(folder / "target")
    _write_json(folder / "report.json", asdict(report))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"files": files, "tests": list(raw.tests), "notes": raw.notes})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _filter(
    cfg: DataConfig, train: RawSplit, source: Subwords, target: Subwords
) -> tuple[Sequence[int], dict[str, int]]:
    """Numbers of the training pairs that are kept, and why how many are not."""
    kept, filtered = [], Counter[str]()
    texts = [sentence.text for sentence in train.source]
    encoded = zip(source.encode_ids(texts), target.encode_ids(train.target), strict=True)
    for i, pair in enumerate(encoded):
        short, long = sorted(map(len, pair))
        if min(len(texts[i].split()), len(train.target[i].split())) < cfg.min_words:
            filtered[f"words < {cfg.min_words}"] += 1
        elif long > cfg.max_pieces:
            filtered[f"pieces > {cfg.max_pieces}"] += 1
        elif long / short > cfg.max_ratio:
            filtered[f"ratio > {cfg.max_ratio:g}"] += 1
        else:
            kept.append(i)
    if not kept:
        reasons = ", ".join(f"{n} {why}" for why, n in filtered.items())
        raise UserError(
            f"{train.source_path}: no training pair is left of {len(texts)} ({reasons}); "
            "see data.min_words, data.max_pieces, data.max_ratio"
        )
    return kept, dict(filtered)


def _refuse_constant(
    name: str, feature: FeatureConfig, counts: Counter[str], vocab: FeatureVocab, by: str
) -> None:
    """A feature that is the same everywhere teaches nothing: say why, and what to do."""
    kept = sum(vocab.id(value) >= columns.FIRST for value in counts)
    if kept + (kept < len(counts)) > 1:
        return
    if len(counts) > 1:
        raise UserError(
            f"features.{name} is constant: max_values={feature.max_values} and "
            f"min_count={feature.min_count} keep {kept} of its {len(counts)} values; relax them"
        )
    if set(counts) != {columns.NONE}:
        raise UserError(
            f"features.{name} is constant: {feature.column} is {min(counts)!r} on all of train "
            f"(annotation: {by}); leave it out of features"
        )
    raise UserError(
        f"features.{name}: no word of train has {feature.column} (annotation: {by}); leave it out "
        "of features or choose another annotation"
    )
