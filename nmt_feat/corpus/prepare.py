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
from nmt_feat.corpus.encoder import FeatureSpec, SourceEncoder, describe
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
    fingerprint: str
    """Hash of everything that determines the splits."""
    report: DataReport
    notes: list[str]
    """What the user should know (missing optional test sets, a rebuilt cache ...)."""
    folder: Path
    """Where it is stored."""


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
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        if sha256(folder / name) != digest:
            raise ValueError(f"{name} has changed")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    train, dev, *tests = (
        Split.open(folder / f"{i}.arrow") for i in range(2 + len(manifest["tests"]))
    )
    return Prepared(
        train,
        dev,
        tests=dict(zip(manifest["tests"], tests, strict=True)),
        encoder=SourceEncoder.load(folder),
        target=Subwords.load(folder / "target"),
        fingerprint=found,
        report=DataReport(**report),
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
    source_texts, target_texts = [s.text for s in raw.train.source], raw.train.target
    if cfg.subword.joint:
        source = target = Subwords.train(cfg.subword, source_texts + target_texts)
    else:
        source = Subwords.train(cfg.subword, source_texts)
        target = Subwords.train(cfg.subword, target_texts)
    say("encoding")
    splits = {"train": raw.train, "dev": raw.dev, **raw.tests}
    rows = {name: list(range(len(split.source))) for name, split in splits.items()}
    rows["train"], filtered = _filter(cfg.data, raw.train, source, target)
    values = {n: _values(split, rows[n], features, source) for n, split in splits.items()}
    counts, dev_counts = values["train"][0], values["dev"][0]
    tool = cfg.annotator._target_
    annotated_by = tool.rpartition(".")[2] if tool else cfg.data.train.conllu
    specs = {}
    for name, f in features.items():
        inside = f.policy == "first"
        vocab = FeatureVocab.build(counts[name], f.max_values, f.min_count, inside)
        _refuse_constant(name, f, counts[name], vocab, annotated_by or raw.train.source_path)
        specs[name] = FeatureSpec(f.column, f.policy, vocab)
    encoder = SourceEncoder(source, specs)
    report = DataReport(len(raw.train.source), filtered, source.size, target.size)
    for number, (name, split) in enumerate(splits.items()):
        encoded = encode_split(
            encoder,
            target,
            [split.source[i] for i in rows[name]],
            [split.target[i] for i in rows[name]],
            [_where(split, i) for i in rows[name]],
            values[name][1],
        )
        encoded.save(folder / f"{number}.arrow")
        report.splits[name] = describe_split(encoded)
    for name, spec in specs.items():
        report.features[name] = describe_feature(counts[name], dev_counts[name], spec.vocab)
    encoder.save(folder)
    target.save(folder / "target")
    _write_json(folder / "report.json", asdict(report))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"files": files, "tests": list(raw.tests), "notes": raw.notes})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _filter(
    cfg: DataConfig, train: RawSplit, source: Subwords, target: Subwords
) -> tuple[list[int], dict[str, int]]:
    """Numbers of the training pairs that are kept, and why how many are not."""
    kept, filtered = [], Counter[str]()
    sources = source.encode_ids([sentence.text for sentence in train.source])
    targets = target.encode_ids(train.target)
    for i, (ids, translation) in enumerate(zip(sources, targets, strict=True)):
        words = min(len(train.source[i].text.split()), len(train.target[i].split()))
        short, long = sorted((len(ids), len(translation)))
        if words < cfg.min_words:
            filtered[f"words < {cfg.min_words}"] += 1
        elif not short:
            filtered["empty"] += 1
        elif long > cfg.max_pieces:
            filtered[f"pieces > {cfg.max_pieces}"] += 1
        elif long / short > cfg.max_ratio:
            filtered[f"ratio > {cfg.max_ratio:g}"] += 1
        else:
            kept.append(i)
    if not kept:
        reasons = ", ".join(f"{n} {why}" for why, n in filtered.items()) or "it is empty"
        raise UserError(
            f"{train.source_path}: no training pair is left of {len(sources)} ({reasons}); "
            "see data.min_words, data.max_pieces, data.max_ratio"
        )
    return kept, dict(filtered)


def _where(split: RawSplit, i: int) -> str:
    return f"{split.source_path}: sentence {i + 1}"


def _values(
    split: RawSplit, rows: Sequence[int], features: dict[str, FeatureConfig], subwords: Subwords
) -> tuple[dict[str, Counter[str]], dict[str, list[str]]]:
    """Each feature's values in these sentences: counted, and as a line per sentence."""
    counts = {name: Counter[str]() for name in features}
    lines: dict[str, list[str]] = {name: [] for name in features}
    columns_of = {name: feature.column for name, feature in features.items()}
    for i in rows if features else ():
        _, _, values = describe(split.source[i], subwords, columns_of, _where(split, i))
        for name, found in values.items():
            counts[name].update(found)
            lines[name].append(" ".join(found))
    return counts, lines


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
