"""Hashes of all that determines prepared data: for its folder's name and a run's identity."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import sentencepiece

from nmt_feat.annotators.texts import annotates_morphemes
from nmt_feat.base.checksums import hash_json
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.earlier_formats import DATA_FORMATS
from nmt_feat.config.identity import drop_defaults
from nmt_feat.config.instantiate import user_code_hash
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.data.corpora import RawCorpus, has_annotation, locate_splits
from nmt_feat.data.terminology import identify_terminology, without_marks
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kinds, list_sentence_keys
from nmt_feat.features.kind import FeatureKind
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.text.normalization import ESCAPED

FORMAT = 4
"""The format of the cache folder: raise it whenever its content changes."""


@dataclass(frozen=True)
class DataHashes:
    """Hashes of everything that determines prepared data."""

    cache: str
    """The hash of all splits, which names their folder in the cache."""
    training: str
    """The hash of train and dev, on which a model is trained and validated."""
    earlier: list[str]
    """Hashes of all splits and the cache's format, which early versions had in a run's identity."""
    tests: dict[str, str]
    """The hash of each test set, in order."""


def hash_data(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> DataHashes:
    """Hash everything that determines the prepared data, without preparing it.

    The seed of dials is not in these hashes, because a run's settings have it anyway.
    """
    kinds = choose_kinds(features)
    for kind in kinds.values():
        kind.check_settings()
    _check_split_at_words(cfg, kinds)
    data, cache = cfg.data, Path(cfg.paths.cache)
    corpus = locate_corpus(cfg, kinds)
    content: dict[str, object] = {
        "sentencepiece": sentencepiece.__version__,
        "subword": drop_defaults(asdict(cfg.subword), SubwordConfig, "subword"),
        "filters": [data.min_words, data.max_pieces, data.max_ratio],
        "features": {name: _identify_feature(cfg, kind, cache) for name, kind in kinds.items()},
    }
    if terminology := identify_terminology(data.terminology):
        content["terminology"] = terminology
    if cfg.model.folder:
        content["pretrained"] = open_folder(cfg.model.folder).hash_pieces(cache)

    def hash_splits(corpus_sum: str, splits: Iterable[str], **more: object) -> str:
        hashed = content | {"corpus": corpus_sum} | more
        # Early versions had no rules, so only rules that change the text may change the hash.
        if rules := _effective_rules([corpus.rules[name] for name in splits], cfg.subword):
            hashed["rules"] = rules
        return hash_json(hashed)

    # These controls draw random numbers by a test set's place among the splits.
    by_place = cfg.control in ("shuffled", "resampled")
    whole, split_names = corpus.fingerprint, list(corpus.rules)
    return DataHashes(
        cache=hash_splits(whole, split_names, format=FORMAT),
        training=hash_splits(corpus.training_sum, ("train", "dev")),
        earlier=[hash_splits(whole, split_names, format=number) for number in DATA_FORMATS],
        tests={
            name: hash_splits(test_sum, (name,), **({"place": number} if by_place else {}))
            for number, (name, test_sum) in enumerate(corpus.test_sums.items())
        },
    )


def hash_cache(cfg: TrainConfig, features: dict[str, FeatureConfig]) -> str:
    """The hash that names the folder of the prepared data in the cache."""
    return hash_data(cfg, features).cache


def _effective_rules(rules_of_splits: Iterable[set[str]], subword: SubwordConfig) -> list[str]:
    """The rules of normal form that change the data: only SentencePiece reserves characters."""
    rules = set().union(*rules_of_splits)
    return sorted(rules - {ESCAPED} if subword.kind in ("none", "given", "pretrained") else rules)


def _identify_feature(cfg: TrainConfig, kind: FeatureKind, cache: Path) -> list[object]:
    """What determines a feature's data: its kind's settings, and the code of a user's kind."""
    identity = kind.identify_data(cache)
    if kind.choose_cover(annotates_morphemes(cfg.annotator)) == "join":
        identity.append("join")
    if kind.settings.kind:
        identity.append({"kind": kind.settings.kind, **user_code_hash(type(kind))})
    return identity


def locate_corpus(cfg: TrainConfig, kinds: Mapping[str, FeatureKind]) -> RawCorpus:
    """Locate the files of the corpus that the features need."""
    annotate, cache = uses_annotation(cfg, kinds), Path(cfg.paths.cache)
    kinds = without_marks(kinds, cfg.data.terminology)
    required = cfg.subword.split_at_words or any(k.requires_annotation for k in kinds.values())
    keys = list_sentence_keys(kinds.values())
    return locate_splits(cfg.data, cfg.annotator, cache, annotate, required, keys)


def uses_annotation(cfg: TrainConfig, kinds: Mapping[str, FeatureKind]) -> bool:
    """Whether an annotation says what words are: because a feature needs it, or the text has it."""
    terminology = cfg.data.terminology
    kinds = without_marks(kinds, terminology)
    if terminology.needs_lemmas:
        return True
    if cfg.subword.split_at_words or any(kind.annotation_column for kind in kinds.values()):
        return True
    depends_on_words = any(kind.depends_on_words for kind in kinds.values())
    return depends_on_words and has_annotation(cfg.data, cfg.annotator)


def _check_split_at_words(cfg: TrainConfig, kinds: Mapping[str, FeatureKind]) -> None:
    """Refuse `split_at_words` without words, and together with an encoder's vectors."""
    if not cfg.subword.split_at_words:
        return
    if not has_annotation(cfg.data, cfg.annotator):
        raise UserError(
            "subword.split_at_words=true: needs the words of an annotation; set annotator=udpipe "
            "or another, give CoNLL-U (data.train.conllu=FILE.conllu), or leave it out"
        )
    for name, kind in kinds.items():
        if kind.reads == "vectors":
            raise UserError(
                f"subword.split_at_words=true: features.{name} has vectors of an encoder, which "
                "are matched to pieces of the text as a whole; leave one of them out"
            )
