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
from filelock import FileLock, Timeout

from nmt_feat.corpus import columns, datasets
from nmt_feat.corpus.columns import FeatureVocab
from nmt_feat.corpus.data_report import DataReport, describe_feature, describe_split
from nmt_feat.corpus.datasets import RawSplit
from nmt_feat.corpus.encoder import FeatureSpec, SourceEncoder, described, word_of_piece, words_of
from nmt_feat.corpus.store import Split
from nmt_feat.corpus.subwords import EOS, Subwords
from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError, near
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
    notes: list[str] = []
    if (prepared := _open(folder, found, notes)) is not None:
        return prepared
    lock = FileLock(f"{folder}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("waiting for another run that prepares the same data")
            lock.acquire()
        notes.clear()  # another process may have mended it in the meantime
        if (prepared := _open(folder, found, notes)) is None:
            building = folder.with_name(f"{folder.name}.building")
            for old in (building, folder):
                shutil.rmtree(old, ignore_errors=True)
            building.mkdir()
            _build(cfg, dict(sorted(features.items())), building, say)
            building.rename(folder)
            prepared = _open(folder, found, notes)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error}); see paths.cache") from None
    finally:
        lock.release()
    if prepared is None:
        raise UserError(f"{folder}: cannot be read back ({notes[-1]}); see paths.cache")
    return prepared


def _open(folder: Path, found: str, notes: list[str]) -> Prepared | None:
    """The folder's content, checked against its sums; None, and a note if it is damaged."""
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in manifest["files"].items():
            if sha256(folder / name) != digest:
                raise ValueError(f"{name} has changed")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        names = ["train", "dev", *manifest["tests"]]
        splits = {name: Split.open(folder / f"{i}.arrow") for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, TypeError, UserError, pa.ArrowException) as error:
        notes.append(f"{folder}: damaged ({error}), made again")
        return None
    return Prepared(
        train=splits.pop("train"),
        dev=splits.pop("dev"),
        tests=splits,
        encoder=SourceEncoder.load(folder),
        target=Subwords.load(folder / "target"),
        fingerprint=found,
        report=DataReport(**report),
        notes=manifest["notes"] + notes,
        folder=folder,
    )


def _build(
    cfg: TrainConfig,
    features: dict[str, FeatureConfig],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    annotate = columns.needs_annotation(features)
    say("reading the corpus" + " and its annotation" * annotate)
    raw = datasets.load(cfg.data, cfg.annotator, Path(cfg.paths.cache), annotate)
    say("training the subword model")
    source, target = _subwords(cfg, raw.train)
    say("encoding")
    splits = {"train": raw.train, "dev": raw.dev, **raw.tests}
    rows = {name: list(range(len(split.source))) for name, split in splits.items()}
    rows["train"], filtered = _filter(cfg.data, raw.train, source, target)
    values = {n: _values(split, rows[n], features, source) for n, split in splits.items()}
    train, dev = values["train"][0], values["dev"][0]
    specs = {}
    for name, f in features.items():
        inside = f.policy == "first"
        vocab = FeatureVocab.build(train[name], f.max_values, f.min_count, inside)
        _refuse_constant(cfg, name, f, train[name], vocab, raw.train)
        specs[name] = FeatureSpec(f.column, f.policy, vocab)
    encoder = SourceEncoder(source, specs)
    report = DataReport(len(raw.train.source), filtered, source.size, target.size)
    for number, (name, split) in enumerate(splits.items()):
        encoded = _encode(split, rows[name], encoder, target, values[name][1])
        encoded.save(folder / f"{number}.arrow")
        report.splits[name] = describe_split(encoded)
    for name, spec in specs.items():
        report.features[name] = describe_feature(train[name], dev[name], spec.vocab)
    encoder.save(folder)
    target.save(folder / "target")
    _write_json(folder / "report.json", report.to_dict())
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"files": files, "tests": list(raw.tests), "notes": raw.notes})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _subwords(cfg: TrainConfig, train: RawSplit) -> tuple[Subwords, Subwords]:
    """Source's and target's model: one object where they are joint."""
    texts = [sentence.text for sentence in train.source]
    if cfg.subword.joint:
        joint = Subwords.train(cfg.subword, texts + train.target)
        return joint, joint
    return Subwords.train(cfg.subword, texts), Subwords.train(cfg.subword, train.target)


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
    unit = ": sentence " if split.source_path.removesuffix(".gz").endswith(".conllu") else ":"
    return f"{split.source_path}{unit}{i + 1}"


def _values(
    split: RawSplit, rows: Sequence[int], features: dict[str, FeatureConfig], subwords: Subwords
) -> tuple[dict[str, Counter[str]], dict[str, list[str]]]:
    """Each feature's values in these sentences: counted, and as a line per sentence."""
    counts = {name: Counter[str]() for name in features}
    lines: dict[str, list[str]] = {name: [] for name in features}
    annotated = columns.needs_annotation(features)
    tagged = any(f.column == "subword_tag" for f in features.values())
    for i in rows if features else ():
        sentence, where = split.source[i], _where(split, i)
        words = words_of(sentence, annotated, where)
        pieces = subwords.encode(sentence.text) if tagged else []
        owner = word_of_piece(pieces, words, sentence.text, where)
        for name, f in features.items():
            found = described(words, owner, f.column)
            counts[name].update(found)
            lines[name].append(" ".join(found))
    return counts, lines


def _encode(
    split: RawSplit,
    rows: Sequence[int],
    encoder: SourceEncoder,
    target: Subwords,
    values: dict[str, list[str]],
) -> Split:
    encoded = [encoder.encode(split.source[i], _where(split, i)) for i in rows]
    texts = [split.target[i] for i in rows]
    targets = [[*ids, EOS] for ids in target.encode_ids(texts)]
    return Split.build(encoded, targets, [split.source[i].text for i in rows], texts, values)


def _refuse_constant(
    cfg: TrainConfig,
    name: str,
    feature: FeatureConfig,
    counts: Counter[str],
    vocab: FeatureVocab,
    train: RawSplit,
) -> None:
    """A feature that is the same everywhere teaches nothing: say why, and what to do."""
    kept = sum(vocab.id(value) >= columns.FIRST for value in counts)
    if kept + (kept < len(counts)) > 1:
        return
    column = feature.column
    tool = cfg.annotator._target_
    by = tool.rpartition(".")[2] if tool else cfg.data.train.conllu or train.source_path
    if len(counts) > 1:
        raise UserError(
            f"features.{name} is constant: max_values={feature.max_values} and "
            f"min_count={feature.min_count} keep {kept} of its {len(counts)} values; relax them"
        )
    if set(counts) != {columns.NONE}:
        raise UserError(
            f"features.{name} is constant: {column} is {min(counts)!r} on all of train "
            f"(annotation: {by}); leave it out of features"
        )
    hint = "leave it out of features or choose another annotation"
    if column.startswith("feats."):
        items = (
            item.partition("=")[0]
            for sentence in train.source
            for word in sentence.words
            for item in word.feats.replace("+", "|").split("|")
        )
        hint = f"attributes of words there: {near(column[6:], set(items) - {columns.NONE})}"
    raise UserError(f"features.{name}: no word of train has {column} (annotation: {by}); {hint}")
