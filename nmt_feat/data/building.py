"""The steps that build the folder of prepared data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nmt_feat.annotators.texts import annotates_morphemes
from nmt_feat.base.checksums import hash_json
from nmt_feat.base.pool import Pool, count_cores
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.corpora import RawCorpus, RawSplit
from nmt_feat.data.encoding import ALL, BLANK, SplitBuilder, encode
from nmt_feat.data.identity import locate_corpus, uses_annotation
from nmt_feat.data.overlaps import attach_states
from nmt_feat.data.reading import CorpusReader
from nmt_feat.data.report import (
    DataReport,
    describe_feature,
    describe_split,
    describe_together,
    measure_coverage,
)
from nmt_feat.data.sentence_tables import CutTexts
from nmt_feat.data.store import EncodedSplit
from nmt_feat.data.terminology import without_marks, write_terms
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError
from nmt_feat.features.choice import list_annotation_columns, list_user_kinds
from nmt_feat.features.contextual import choose_device
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import VocabularyBasis
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.pretrained.pieces import ModelPieces
from nmt_feat.text.files import hash_file_cached, list_shards
from nmt_feat.text.merging import source_key
from nmt_feat.text.subwords import Subwords

REPORT = 4
"""The version of the report: raise it whenever its content changes."""
MANIFEST = "manifest.json"
PER_PROCESS = 1 << 24
"""Bytes of training text for which a further process is started."""
WORD = "word"
"""The name of an additional feature, which marks where words begin (see controls.py)."""


@dataclass(frozen=True)
class DataBuild:
    """What all steps share.

    Attributes:
        cfg: the settings.
        kinds: the features, by name.
        corpus: the files of the splits, later their tables; it collects notes for the user.
        folder: the folder of the data, empty at the start.
        report_progress: called before each slow step.
    """

    cfg: TrainConfig
    kinds: Mapping[str, FeatureKind]
    corpus: RawCorpus
    folder: Path
    report_progress: Callable[[str], None]

    @property
    def cache(self) -> Path:
        """The folder of all prepared data."""
        return Path(self.cfg.paths.cache)

    def make_basis(self, kind: FeatureKind) -> VocabularyBasis:
        """The fields of a feature's vocabulary that do not depend on counts."""
        annotated = uses_annotation(self.cfg, self.kinds)
        cover = kind.choose_cover(annotates_morphemes(self.cfg.annotator))
        return VocabularyBasis(annotated, cover, self.cfg.seed)


def build_data(
    cfg: TrainConfig,
    kinds: Mapping[str, FeatureKind],
    folder: Path,
    report_progress: Callable[[str], None],
) -> None:
    """Build the prepared data in an empty folder."""
    corpus = locate_corpus(cfg, kinds)
    work = DataBuild(cfg, kinds, corpus, folder, report_progress)
    with Pool(count_processes(work), "preparing the data", "data.processes") as pool:
        read_corpus(work, pool)
        if cfg.data.terminology.is_applied:
            report_progress("writing terms")
            write_terms(corpus, cfg.data.terminology, folder / "raw", pool)
        source, target = train_subwords(work)
        encoder = start_encoder(work, source, target)
        builders = align_features(work, encoder, pool)
    check_training_pairs(corpus, builders[0])
    report = DataReport(
        len(corpus.train.source), dict(builders[0].filtered), source.size, target.size
    )
    build_vocabularies(work, encoder, builders, report)
    vectors = encode_splits(work, encoder, builders, report)
    shutil.rmtree(folder / "raw")
    encoder.save(folder)
    write_manifest(work, vectors, report)


def count_processes(work: DataBuild) -> int:
    """The number of processes: more for a larger training text, up to the setting or the cores."""
    files = work.corpus.train.files.values()
    size = sum(path.stat().st_size for name in files for path in list_shards(name))
    return min(work.cfg.data.processes or count_cores(), 1 + size // PER_PROCESS)


def read_corpus(work: DataBuild, pool: Pool) -> None:
    """Read the texts of all splits, and the columns of their annotation that features need."""
    cfg, raw = work.cfg, work.folder / "raw"
    raw.mkdir()
    columns = list_read_columns(work) if uses_annotation(cfg, work.kinds) else None
    and_annotation = "" if columns is None else " and its annotation"
    work.report_progress(f"reading the corpus{and_annotation}")
    kinds = without_marks(work.kinds, cfg.data.terminology)
    required = {n: k.annotation_column or "" for n, k in kinds.items() if k.requires_annotation}
    settings = (cfg.data, cfg.annotator, columns, work.cache)
    CorpusReader(work.corpus, *settings, raw, pool, required).read_splits()


def list_read_columns(work: DataBuild) -> tuple[str, ...]:
    """The columns of the annotation that features and terms need."""
    terminology = work.cfg.data.terminology
    columns = {*list_annotation_columns(without_marks(work.kinds, terminology).values())}
    columns |= {"lemma"} if terminology.needs_lemmas else set()
    columns |= {"misc"} if terminology.marks_words else set()  # the text may have marks already
    return tuple(sorted(columns))


def train_subwords(work: DataBuild) -> tuple[Subwords, Subwords]:
    """The subword models of source and target, the same one if they are joint."""
    if work.cfg.model.folder:
        return ModelPieces(open_folder(work.cfg.model.folder)).subwords
    work.report_progress("training the subword model")
    cfg, train = work.cfg.subword, work.corpus.train
    source = CutTexts(train.source) if cfg.split_at_words else train.source.texts
    if cfg.joint:
        both = Subwords.train(cfg, source, train.target.texts)
        return both, both
    return Subwords.train(cfg, source), Subwords.train(cfg, train.target.texts)


def start_encoder(work: DataBuild, source: Subwords, target: Subwords) -> SourceEncoder:
    """Save an encoder with empty vocabularies, which the pool's processes then load."""
    empty = {
        name: kind.start_vocabulary(work.make_basis(kind)) for name, kind in work.kinds.items()
    }
    at_words, all_sources = work.cfg.subword.split_at_words, work.corpus.sources
    columns = {k.annotation_column for k in work.kinds.values() if k.annotation_column}
    columns |= {"lemma"} if work.cfg.data.terminology.needs_lemmas else set()
    keys = sorted(map(source_key, columns))
    sources = {key: all_sources[key] for key in keys if key in all_sources}
    user_kinds = list_user_kinds(work.kinds)
    encoder = SourceEncoder(source, empty, at_words, user_kinds=user_kinds, sources=sources)
    encoder.save(work.folder)
    target.save(work.folder / "target")
    return encoder


def align_features(work: DataBuild, encoder: SourceEncoder, pool: Pool) -> list[SplitBuilder]:
    """Cut all splits into pieces, align features to them, and count the features' values.

    Values have no ids yet, because the vocabularies are built from these counts.
    """
    work.report_progress("encoding")
    corpus, builders = work.corpus, []
    for number, split in enumerate(corpus.splits):
        limits = work.cfg.data if split is corpus.train else None
        builders.append(encode(split, limits, encoder, work.folder / f"{number}.arrow", pool))
    if not encoder.annotation_columns:  # else notes say how many words' values are unknown
        corpus.notes += [
            f"{split.name}: {builder.bare:,} sentences have no annotation: their words are what "
            "stands between spaces"
            for split, builder in zip(corpus.splits, builders, strict=True)
            if builder.bare
        ]
    return builders


def check_training_pairs(corpus: RawCorpus, train: SplitBuilder) -> None:
    """Note blank pairs, and refuse a corpus if no training pair is left."""
    if blank := train.filtered[BLANK]:
        corpus.notes.append(f"train: {blank:,} pairs have a blank side and are left out")
    total = len(corpus.train.source)
    if train.filtered.total() == total:
        reasons = ", ".join(f"{n} {why}" for why, n in train.filtered.items())
        raise UserError(
            f"{corpus.train.source_path}: no training pair is left of {total} "
            f"({reasons}); see data.min_words, data.max_pieces, data.max_ratio"
        )


def build_vocabularies(
    work: DataBuild, encoder: SourceEncoder, builders: list[SplitBuilder], report: DataReport
) -> None:
    """Build the vocabulary of each feature for the encoder, and describe it."""
    train, dev, *_ = builders
    for name in encoder.valued_kinds:
        build_vocabulary(work, name, encoder, builders, report)
    kinds = {name: kind for name, kind in encoder.valued_kinds.items() if kind.single}
    if ALL in train.joint and ALL in dev.joint:
        report.together = describe_together(
            kinds, encoder.features, train.joint[ALL], dev.joint[ALL]
        )


def build_vocabulary(
    work: DataBuild,
    name: str,
    encoder: SourceEncoder,
    builders: list[SplitBuilder],
    report: DataReport,
) -> None:
    """Build the vocabulary of a feature, its files, its part of the report, and notes."""
    kind, corpus, (train, dev, *_) = work.kinds[name], work.corpus, builders
    tokens, dev_tokens = train.counts(name), dev.counts(name)
    counts, dev_counts = kind.count_values(tokens), kind.count_values(dev_tokens)
    vocabulary = kind.build_vocabulary(counts, work.make_basis(kind))
    encoder.features[name] = vocabulary
    kind.write_files(work.folder)
    corpus.notes += kind.describe_vocabulary(vocabulary, counts)
    joints = [builder.joint.get(name) for builder in (train, dev)]
    description = describe_feature(kind, vocabulary, counts, dev_counts, *joints)
    lost = train.lost(name)
    report.features[name] = {
        "coverage": measure_coverage(tokens),
        "agreement": train.agreement(name),
        "lost": lost,
        **description,
        **({"source": source} if (source := encoder.find_source(kind)) else {}),
    }
    if lost and (note := kind.describe_lost(lost)):
        corpus.notes.append(note)
    for split, builder in zip(corpus.splits, builders, strict=True):
        if missing := builder.missing(name):
            corpus.notes.append(f"features.{name}: unknown for {missing:,} words of {split.name}")
    if name != WORD:
        targets = work.cfg.annotator.targets
        annotator = ", ".join(target.rpartition(".")[2] for target in targets)
        annotation = annotator or work.cfg.data.train.conllu or corpus.train.source_path
        kind.refuse_constant(counts, description["kept"], annotation)


def encode_splits(
    work: DataBuild, encoder: SourceEncoder, builders: list[SplitBuilder], report: DataReport
) -> dict[str, list[str]]:
    """Replace all values by their ids, and give pieces the vectors of encoders.

    Returns:
        By feature with vectors, the names of their folders in the cache, one for each split.
    """
    device = choose_device(work.cfg.trainer.accelerator)
    models = {name: kind.open_encoder(device) for name, kind in work.kinds.items()}
    encoders = {name: model for name, model in models.items() if model is not None}
    folders: dict[str, list[str]] = {name: [] for name in encoders}
    for raw, builder in zip(work.corpus.splits, builders, strict=True):
        split = builder.finish(encoder)
        if raw is work.corpus.train:
            encoder.longest = int(split.source_lengths.max()) - 1  # without the end symbol
        report.splits[raw.name] = describe_split(split)
        for name, model in encoders.items():
            split, states = attach_vectors(work, encoder, name, model, raw, split)
            folders[name].append(states.name)
        if encoders:
            split.save(work.folder / "made.arrow")
            (work.folder / "made.arrow").replace(builder.path)
    return folders


def attach_vectors(
    work: DataBuild,
    encoder: SourceEncoder,
    name: str,
    model: LanguageModel,
    raw: RawSplit,
    split: EncodedSplit,
) -> tuple[EncodedSplit, Path]:
    """Attach the vectors of a feature to a split; also returns the folder that stores them."""
    kind, texts = work.kinds[name], split.texts("source")
    stored = "pieces" if kind.stores_input else "vectors"
    work.report_progress(f"features.{name}: {stored} of {raw.name}, {len(split):,} sentences")
    folder = kind.store_states(model, texts, work.cache, work.report_progress)
    states = kind.open_states(folder)
    if raw is work.corpus.train:
        vocabulary = encoder.features[name]
        encoder.features[name] = kind.scale_vocabulary(vocabulary, model, states, texts, work.cache)
    where = [raw.source_path] * len(split)
    missing = encoder.features[name].missing
    split, unknown = attach_states(split, name, encoder.subwords, states, where, missing)
    if unknown:
        work.corpus.notes.append(f"features.{name}: unknown for {unknown:,} pieces of {raw.name}")
    return split, folder


def write_manifest(work: DataBuild, vectors: dict[str, list[str]], report: DataReport) -> None:
    """Write the report, and a manifest of the folder's files with their sums."""
    folder = work.folder
    write_json(folder / "report.json", asdict(report))
    files = {path.name: hash_file_cached(path, work.cache) for path in sorted(folder.iterdir())}
    manifest = {
        "files": files,
        "report": REPORT,
        "tests": list(work.corpus.tests),
        "notes": work.corpus.notes,
        "vectors": vectors,
        "live": [name for name in vectors if work.kinds[name].stores_input],
    }
    write_json(folder / MANIFEST, {"sum": hash_json(manifest), **manifest})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a readable JSON file."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
