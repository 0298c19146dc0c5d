"""From a configured corpus to encoded splits: once, in a cache folder that all runs share."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import sentencepiece
import torch

from nmt_feat.annotators.base import of_morphemes
from nmt_feat.base.checksums import hash_json
from nmt_feat.base.files import hold_lock, make_folder, refuse_links, remove_tree, rename_whole
from nmt_feat.base.pool import Pool, count_cores
from nmt_feat.config.identity import DATA_FORMATS, drop_defaults
from nmt_feat.config.schema import FeatureConfig, SubwordConfig, TrainConfig
from nmt_feat.data import corpora as datasets
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.encoding import ALL, BLANK, Filters, encode
from nmt_feat.data.overlaps import attach
from nmt_feat.data.report import (
    DataReport,
    coverage,
    describe_feature,
    describe_split,
    describe_together,
)
from nmt_feat.data.sentence_tables import CutTexts
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import FIRST
from nmt_feat.encoders import states as contextual
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError
from nmt_feat.features import columns
from nmt_feat.features.columns import NONE, FeatureVocab
from nmt_feat.text.files import hash_file_cached, list_shards
from nmt_feat.text.normalization import ESCAPED
from nmt_feat.text.subwords import Subwords
from nmt_feat.text.word_vectors import index_by_visible, read_vectors

FORMAT = 4  # of the cache folder: raise it whenever its content changes
REPORT = 4  # of the report alone
READABLE = (3, REPORT)  # the third did not say what is lost
MANY = 0.05  # share of words without a piece from which on it is said
MANIFEST = "manifest.json"
PER_PROCESS = 1 << 24  # bytes of training text at least for one more process
VECTORS = "vectors-"  # begins the files of ready-made vectors, one for each feature that has some
WORD = "word"  # where words begin, for controls (controls.py); no feature has the name


@dataclass
class Prepared:
    """All that training needs to know of its data."""

    train: EncodedSplit
    dev: EncodedSplit
    tests: dict[str, EncodedSplit]
    encoder: SourceEncoder
    target: Subwords
    fingerprint: str  # hash of everything that determines the splits
    report: DataReport
    notes: list[str]  # what the user should know: missing optional test sets, a rebuilt cache ...
    folder: Path  # where it is stored
    redraw: Callable[[int], EncodedSplit] | None = None  # train of an epoch, where each has its own


@dataclass(frozen=True)
class DataHashes:
    """Hashes of everything that determines prepared data."""

    cache: str
    """Of all splits: the name of their folder in the cache."""
    training: str
    """Of train and dev, which a model is trained and validated on."""
    earlier: list[str]
    """What counted in the identity of runs once: of all splits, and the cache's format."""
    tests: dict[str, str]
    """Of each test set, in order."""


def hash_data(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> DataHashes:
    """Hash everything that determines the prepared data; reads files, but prepares nothing.

    Except for the seed of dials, which a run's settings have beside it.
    """
    columns.check(features)
    _check_split_at_words(cfg, features)
    annotate, required = _annotate(cfg, features), _required(cfg, features)
    data, cache = cfg.data, Path(cfg.paths.cache)
    corpus = datasets.locate(data, cfg.annotator, cache, annotate, required)
    content = {
        "sentencepiece": sentencepiece.__version__,
        "subword": drop_defaults(asdict(cfg.subword), SubwordConfig, "subword"),
        "filters": [data.min_words, data.max_pieces, data.max_ratio],
        "features": {
            name: [
                f.column,
                f.max_values,
                f.min_count,
                f.policy,
                f.of,
                f.n,
                f.missing,
                f.file and hash_file_cached(Path(f.file), cache),
            ]
            + ([language_model(cfg, name, f).identity(cache)] if f.encoder else [])
            + (["live"] if f.live else [])
            + (["visible"] if f.file else [])  # words with joiners were not found once
            + (["whole"] if f.column.startswith("misc.") else [])  # they were cut at `+` once
            + ([{"erase": f.erase, "classes": f.classes}] if columns.dialled(f) else [])
            + (["join"] if cover_of(cfg, f) == "join" else [])
            for name, f in features.items()
        },
    }

    def hashed(corpus_sum: str, splits: Iterable[str], **more: object) -> str:
        # Rules of the text that change it; there were none once.
        rules = _effective_rules([corpus.rules[name] for name in splits], cfg.subword)
        changed = content | {"corpus": corpus_sum} | more | ({"rules": rules} if rules else {})
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()

    # Which values a control moves to a word of a test set depends on the place of the set.
    by_place = cfg.control in ("shuffled", "resampled")
    whole, every = corpus.fingerprint, list(corpus.rules)
    return DataHashes(
        cache=hashed(whole, every, format=FORMAT),
        training=hashed(corpus.training_sum, ("train", "dev")),
        earlier=[hashed(whole, every, format=number) for number in DATA_FORMATS],
        tests={
            name: hashed(test_sum, (name,), **({"place": place} if by_place else {}))
            for place, (name, test_sum) in enumerate(corpus.test_sums.items())
        },
    )


def fingerprint(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> str:
    """Hash of everything that determines the folder of the prepared data in the cache."""
    return hash_data(cfg, features).cache


def _effective_rules(of_splits: Iterable[set[str]], subword: SubwordConfig) -> list[str]:
    """The rules of normal form that change the data: only SentencePiece reserves characters."""
    rules = set().union(*of_splits)
    return sorted(rules - {ESCAPED} if subword.kind in ("none", "given") else rules)


def _annotate(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> bool:
    """Whether words are those of an annotation: where a feature needs one, or the text has one."""
    given = columns.of_words(features) and datasets.annotated(cfg.data, cfg.annotator)
    return given or cfg.subword.split_at_words or bool(columns.annotation(features))


def _required(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> bool:
    """Whether each sentence must have an annotation."""
    return cfg.subword.split_at_words or bool(columns.required_features(features))


def _check_split_at_words(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> None:
    """Refuse to cut text at words that are not there, or beneath an encoder's vectors."""
    if not cfg.subword.split_at_words:
        return
    if not datasets.annotated(cfg.data, cfg.annotator):
        raise UserError(
            "subword.split_at_words=true: needs the words of an annotation; set annotator=udpipe "
            "or another, give CoNLL-U (data.train.conllu=FILE.conllu), or leave it out"
        )
    for name, feature in features.items():
        if feature.encoder:
            raise UserError(
                f"subword.split_at_words=true: features.{name} has vectors of an encoder, which "
                "are matched to pieces of the text as a whole; leave one of them out"
            )


def cover_of(cfg: TrainConfig, feature: FeatureConfig) -> str:
    """What a piece of several words carries: the feature's setting, else that of the annotator."""
    if feature.cover or not columns.joinable(feature):
        return feature.cover or "first"
    return "join" if of_morphemes(cfg.annotator) else "first"


UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException)
"""The errors of reading a damaged cache folder."""


class Outdated(ValueError):
    """A cache folder is whole, but of a version that wrote less or more."""


def prepare(
    cfg: TrainConfig,
    features: dict[str, FeatureConfig],
    say: Callable[[str], None] = lambda message: None,
) -> Prepared:
    """The encoded corpus with these features, from the cache or made there now.

    Several processes may ask at once: one makes it, the others wait. `say` is told what takes
    long. A damaged cache folder is made again, with a note. Files that change while it is made are
    a `UserError`: what was read would be kept as something else.
    """
    found = files = fingerprint(cfg, features)
    if any(map(columns.dialled, features.values())):
        found = hashlib.sha256(f"{found} {cfg.seed}".encode()).hexdigest()
    folder = Path(cfg.paths.cache) / f"prepared-{found[:16]}"
    make_folder(folder.parent)
    notes = []
    with hold_lock(folder, "prepares the data"):
        building = folder.with_name(f"{folder.name}.building")
        refuse_links(folder, building)
        if folder.exists():
            try:
                return _open(folder, found)
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                pa.ArrowException,
            ) as error:
                why = str(error) if isinstance(error, Outdated) else f"damaged ({error})"
                notes.append(f"{folder}: {why}, made again")
        for old in (building, folder):
            remove_tree(old)
        building.mkdir()
        try:
            _build(cfg, dict(sorted(features.items())), building, say)
            if fingerprint(cfg, features) != files:
                raise UserError(
                    "the data was changed while it was prepared (a file of the corpus, of vectors, "
                    "of an encoder or of the annotator's model); start again"
                )
        except BaseException:  # of the next, with other settings, the folder has another name
            shutil.rmtree(building, ignore_errors=True)
            raise
        rename_whole(building, folder)
    prepared = _open(folder, found)
    prepared.notes += notes
    return prepared


def _open(folder: Path, found: str) -> Prepared:
    """The folder's content, checked against its sums."""
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
    splits = {name: EncodedSplit.open(folder / f"{i}.arrow") for i, name in enumerate(names)}
    for feature, folders in manifest.get("vectors", {}).items():
        read = contextual.opened_live if feature in manifest["live"] else contextual.opened
        for split, states in zip(splits.values(), folders, strict=True):
            split.vectors[feature] = read(folder.parent / states).vectors
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
    cache, temporary = Path(cfg.paths.cache), folder / "raw"
    annotate, required = _annotate(cfg, features), _required(cfg, features)
    raw = datasets.locate(cfg.data, cfg.annotator, cache, annotate, required)
    size = sum(p.stat().st_size for name in raw.train.files.values() for p in list_shards(name))
    processes = min(cfg.data.processes or count_cores(), 1 + size // PER_PROCESS)
    temporary.mkdir()
    with Pool(processes, "preparing the data", "data.processes") as pool:
        say("reading the corpus" + " and its annotation" * annotate)
        wanted = columns.annotation(features) if annotate else None
        datasets.load(raw, cfg.data, cfg.annotator, cache, wanted, temporary, pool)
        say("training the subword model")
        at_words = cfg.subword.split_at_words
        lines = CutTexts(raw.train.source) if at_words else raw.train.source.texts
        sides = lines, raw.train.target.texts
        if cfg.subword.joint:
            source = target = Subwords.train(cfg.subword, *sides)
        else:
            source, target = (Subwords.train(cfg.subword, side) for side in sides)
        of_words: dict[str, dict[str, Any]] = {
            name: {"annotated": annotate, "cover": cover_of(cfg, f)} for name, f in features.items()
        }
        empty = {
            name: replace(FeatureVocab.build(f, Counter(), cfg.seed), **of_words[name])
            for name, f in features.items()
        }
        encoder = SourceEncoder(source, empty, at_words)
        encoder.save(folder)
        target.save(folder / "target")
        say("encoding")
        found = []
        for number, split in enumerate(raw.splits):
            filters = Filters.of(cfg.data) if split is raw.train else None
            path = folder / f"{number}.arrow"
            found.append(encode(split, filters, encoder, path, pool))
    train, dev, *_ = found
    if not columns.annotation(features):  # else it is said how many words' values are unknown
        raw.notes += [
            f"{split.name}: {each.bare:,} sentences have no annotation: their words are what "
            "stands between spaces"
            for split, each in zip(raw.splits, found, strict=True)
            if each.bare
        ]
    if blank := train.filtered[BLANK]:
        raw.notes.append(f"train: {blank:,} pairs have a blank side and are left out")
    report = DataReport(len(raw.train.source), dict(train.filtered), source.size, target.size)
    if train.filtered.total() == report.train_read:
        reasons = ", ".join(f"{n} {why}" for why, n in train.filtered.items())
        raise UserError(
            f"{raw.train.source_path}: no training pair is left of {report.train_read} "
            f"({reasons}); see data.min_words, data.max_pieces, data.max_ratio"
        )
    annotated_by = (cfg.annotator._target_ or "").rpartition(".")[2] or cfg.data.train.conllu
    for name, feature in ((name, features[name]) for name in encoder.valued):
        counts, dev_counts = train.counts(name), dev.counts(name)
        covered = coverage(counts)
        if empty[name].has_units:
            counts, dev_counts = map(empty[name].count_units, (counts, dev_counts))
        if feature.file:
            words, vectors = index_by_visible(*read_vectors(feature.file, feature.max_values))
            vocab = FeatureVocab.of_words(feature, words, counts)
            np.save(folder / f"{VECTORS}{name}.npy", vectors)
            raw.notes.append(_coverage(name, feature, vocab, counts))
        else:
            vocab = FeatureVocab.build(feature, counts, cfg.seed)
        encoder.features[name] = replace(vocab, **of_words[name])
        joints = [each.joint.get(name) for each in (train, dev)]
        shown = describe_feature(counts, dev_counts, vocab, *joints)
        lost = train.lost(name)
        shown = {"coverage": covered, "agreement": train.agreement(name), "lost": lost} | shown
        if lost and lost >= MANY:
            raw.notes.append(
                f"features.{name}: no piece has the value of {lost:.1%} of the words of train; "
                f"set features.{name}.cover=join, or subword.split_at_words=true"
            )
        report.features[name] = shown
        for split, each in zip(raw.splits, found, strict=True):
            if missing := each.missing(name):
                raw.notes.append(f"features.{name}: unknown for {missing:,} words of {split.name}")
        by = annotated_by or raw.train.source_path
        _refuse_constant(name, feature, counts, shown["kept"], by)
    single = {name: vocab for name, vocab in encoder.features.items() if vocab.single}
    if ALL in train.joint and ALL in dev.joint:
        report.together = describe_together(train.joint[ALL], dev.joint[ALL], single)
    models = {name: language_model(cfg, name, f) for name, f in features.items() if f.encoder}
    folders: dict[str, list[str]] = {name: [] for name in models}
    for split, each in zip(raw.splits, found, strict=True):
        made = each.finish(encoder)
        if split is raw.train:
            encoder.longest = int(made.source_lengths.max()) - 1  # without the end symbol
        report.splits[split.name] = describe_split(made)
        for name, model in models.items():
            live, texts = features[name].live, made.texts("source")
            what = "pieces" if live else "vectors"
            say(f"features.{name}: {what} of {split.name}, {len(made):,} sentences")
            states = contextual.stored(model, texts, cache, say, live)
            folders[name].append(states.name)
            vocab = encoder.features[name]
            theirs = (contextual.opened_live if live else contextual.opened)(states)
            if split is raw.train:
                scale, content = contextual.scale_of(model, theirs, texts), model.sum(cache)
                vocab = replace(vocab, scale=scale, sum=content, layer=model.layer)
                encoder.features[name] = vocab
            where = [split.source_path] * len(made)
            made, missing = attach(made, name, source, theirs, where, vocab.missing)
            if missing:
                raw.notes.append(f"features.{name}: unknown for {missing:,} pieces of {split.name}")
        if models:
            made.save(folder / "made.arrow")
            (folder / "made.arrow").replace(each.path)
    shutil.rmtree(temporary)
    encoder.save(folder)
    _write_json(folder / "report.json", asdict(report))
    files = {path.name: hash_file_cached(path, cache) for path in sorted(folder.iterdir())}
    about = {"tests": list(raw.tests), "notes": raw.notes, "vectors": folders}
    about["live"] = [name for name in models if features[name].live]
    manifest = {"files": files, "report": REPORT, **about}
    _write_json(folder / MANIFEST, {"sum": hash_json(manifest), **manifest})


def language_model(cfg: TrainConfig, name: str, feature: FeatureConfig) -> LanguageModel:
    """The encoder of the feature `name`, not loaded yet."""
    assert feature.encoder
    cuda = cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    precision = "float32" if feature.live else feature.precision
    return LanguageModel(name, feature.encoder, feature.layer, precision, device)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _coverage(name: str, feature: FeatureConfig, vocab: FeatureVocab, counts: Counter[str]) -> str:
    """How many words of train have a vector; none is an error."""
    known = Counter({word: n for word, n in counts.items() if vocab.id(word) >= FIRST})
    if not known:
        raise UserError(
            f"features.{name}.file={feature.file}: has no vector of any word of train; give "
            "vectors of its language, or set column=lower"
        )
    return (
        f"features.{name}: {len(known):,} of {len(counts):,} different words of train have a "
        f"vector ({len(known) / len(counts):.1%}), {known.total() / counts.total():.1%} of all"
    )


def _refuse_constant(
    name: str, feature: FeatureConfig, counts: Counter[str], kept: int, by: str
) -> None:
    """A feature that is the same everywhere teaches nothing: say why, and what to do."""
    if kept + (kept < len(counts)) > 1 or name == WORD or columns.dialled(feature):
        return
    if len(counts) > 1:
        raise UserError(
            f"features.{name} is constant: max_values={feature.max_values} and "
            f"min_count={feature.min_count} keep {kept} of its {len(counts)} values; relax them"
        )
    if set(counts) != {NONE}:
        raise UserError(
            f"features.{name} is constant: {feature.column} is {min(counts)!r} on all of train "
            f"(annotation: {by}); leave it out of features"
        )
    raise UserError(
        f"features.{name}: no word of train has {feature.column} (annotation: {by}); leave it out "
        "of features or choose another annotation"
    )
