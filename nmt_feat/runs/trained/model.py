"""A trained run, to translate, score and look into.

All it needs is in the run's folder: settings, vocabularies, weights and the annotator's model.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nmt_feat.base.checksums import check_sums
from nmt_feat.base.terminal import say
from nmt_feat.config.bounds import MOST_THREADS
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.alignment import AlignedSentences, SourceEncoder
from nmt_feat.data.controls import name_control
from nmt_feat.data.interleaving import find_word_begins, insert_tokens
from nmt_feat.data.local_test_sets import read_first_test_set
from nmt_feat.data.overlaps import attach_states
from nmt_feat.data.store import EncodedSplit, encode_split
from nmt_feat.data.terminology import Terminology
from nmt_feat.decoding.search import Hypothesis, Seq2Seq
from nmt_feat.errors import UserError, suggest
from nmt_feat.evaluation.languages import is_unspaced
from nmt_feat.evaluation.split_decoding import score_split, translate_split
from nmt_feat.export.ctranslate2 import Exported
from nmt_feat.features.choice import choose_kinds
from nmt_feat.runs.processes import DEFAULT_THREADS
from nmt_feat.runs.setup.artifacts import (
    CONFIG,
    EXPORT,
    GLOSSARY,
    WEIGHTS,
    load_model,
    refuse_unfinished,
)
from nmt_feat.runs.setup.identity import describe_changed_classes
from nmt_feat.runs.stored.records import STARTED
from nmt_feat.runs.stored.settings import read_settings
from nmt_feat.runs.trained.inputs import Reader, Text, parse_nbest
from nmt_feat.runs.trained.long_lines import (
    Limit,
    MostPieces,
    Score,
    Translation,
    check_pairs,
    refuse_long_sources,
    score_within_memory,
)
from nmt_feat.runs.trained.text_annotation import TextAnnotation
from nmt_feat.runs.trained.unknowns import Unknowns
from nmt_feat.text.conllu import Findings, Sentence
from nmt_feat.text.files import hash_content, read_lines
from nmt_feat.text.glossary import Glossary
from nmt_feat.text.merging import TEXT
from nmt_feat.text.normalization import normalize_lines, normalize_sentence
from nmt_feat.text.sentences import HEADS

NBEST_NOTE = (
    "an n-best list; each line is scored for the sentence of its number; its text is cut into "
    "pieces again, so if the search chose other pieces, its log-probability differs"
)
"""A message; the file's name stands before it."""


class TrainedModel:
    """A finished run, ready to translate: settings, encoder, model, annotator.

    Args:
        folder: the run's folder.
        threads: CPU threads; 0 keeps PyTorch's choice.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        if not 0 <= threads <= MOST_THREADS:
            raise UserError(f"threads={threads}: must be 0 to {MOST_THREADS}")
        torch.set_num_threads(threads or DEFAULT_THREADS)
        self.folder, self.threads = Path(folder), threads
        refuse_unfinished(self.folder)
        cfg = read_settings(self.folder / CONFIG)
        check_settings(cfg)
        if setting := name_control(cfg):
            raise UserError(
                f"{self.folder}: trained with {setting}, so a text means nothing to it; give a run "
                "without this setting"
            )
        check_sums(self.folder, skipped=("*.hyp", "*.parquet", STARTED))
        self.cfg = cfg
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.kinds = choose_kinds(cfg.features)
        loaded = load_model(self.folder, cfg, self.device.type)
        self.encoder, self.target, self.model = loaded.encoder, loaded.target, loaded.model
        self.encoders = loaded.encoders
        self.model.to(self.device).eval()
        self.searched: Seq2Seq[Any] = self.model
        """The model that translates and scores: this one, or an ensemble that it belongs to."""
        self.feature_names = list(cfg.features)
        """The features that translation reads."""
        if not locate_method(cfg.method).reads_features:  # only training used them
            self.encoder, self.kinds, self.feature_names = self.encoder.with_features({}), {}, []
        for sentence in describe_changed_classes(self.folder, cfg, self.model):
            say(sentence, file=sys.stderr)
        self.unknowns = Unknowns(self.encoder)
        """Counts of what it does not know of the text that it has read."""
        self.annotation = TextAnnotation(self.folder, cfg, self.encoder, self.kinds)
        """Annotates the text that it reads."""
        self.terminology: Terminology | None = None
        """Writes terms into sentences, none before `use_glossary`; None if the run was trained
        without terms."""
        if cfg.data.terminology.is_applied:
            self.terminology = Terminology.of(cfg.data.terminology, Glossary())
        self.missed = 0
        """Number of sentences that the exported model could not translate."""
        self.replaced = 0
        """Number of sentences in which `fallback=nearest` replaced a piece's features."""

    def use_glossary(self, path: str | Path | None) -> None:
        """From now on, write the terms of a file into sentences, as in training."""
        if path is None:
            return
        if self.terminology is None:
            raise UserError(
                f"glossary={path}: {self.folder} was trained without terms; give a run that was "
                "trained with data.terminology.glossary, or leave it out"
            )
        self.terminology = Terminology.read(self.cfg.data.terminology, path)

    @property
    def longest_side(self) -> int:
        """The most pieces of a source and of its translation."""
        return min(self.model.longest_source, self.model.longest_target)

    @property
    def is_annotated(self) -> bool:
        """Whether the training text was annotated by annotators."""
        return bool(self.cfg.annotator.targets)

    @functools.cached_property
    def exported_model(self) -> Exported:
        """The model that `scripts/export.py` wrote."""
        return Exported(self.folder / EXPORT, self.threads, hash_content(self.folder / WEIGHTS))

    def make_reader(self, text: Text) -> Reader:
        """A reader of a text, by default in the format of the training text."""
        for setting, labels in (("labels", text.labels), ("label_files", text.label_files)):
            for key in labels.keys() - self.encoder.sentence_keys.keys():
                raise UserError(
                    f"{setting}.{key}={labels[key]}: no feature of the run reads it; "
                    f"{suggest(key, list(self.encoder.sentence_keys))}"
                )
        annotates = not self.annotation.needs_words or (
            self.is_annotated and [TEXT] not in self.encoder.sources.values()
        )
        return Reader(text, self.cfg.data, annotates)

    def read_sentences(self, reader: Reader) -> Iterator[Sentence]:
        """The sentences of a reader, in normal form.

        Heads that do not form a tree are an error if features of the run read heads; otherwise they
        are counted on standard error.
        """
        findings = Findings()
        for sentence in reader.read_sentences(findings):
            message = findings.describe_trees()
            if message and HEADS.intersection(self.encoder.annotation_columns):
                raise UserError(
                    f"{message}, but features of the run read heads; correct the annotation"
                )
            yield self.normalize_sentence(sentence)
        if message := findings.describe_trees():
            say(f"the annotation has {message}", file=sys.stderr)

    def read_source(self, reader: Reader) -> list[Sentence]:
        """The sentences of a text, annotated as in training where they lack it."""
        sentences = list(self.read_sentences(reader))
        if reader.kind != "text":
            return self.annotation.complete_sentences(sentences, reader.label)
        raw = read_lines(reader.text.raw) if reader.text.raw else None
        return self.annotation.annotate_sentences(sentences, raw, reader.label)

    def read_pairs(
        self, reader: Reader, target: str, may_be_nbest: bool = False
    ) -> tuple[list[Sentence], list[str], list[str]]:
        """A text, annotated, its translation, and file and line of each sentence.

        With `may_be_nbest`, the translation may be an n-best list; then each line is a pair.
        """
        source = reader.label
        sentences, targets = self.read_source(reader), read_lines(target)
        where = reader.name_sentences(len(sentences))
        if may_be_nbest and (pairs := parse_nbest(targets, target, len(sentences))):
            numbers, targets = pairs
            sentences, where = [sentences[i] for i in numbers], [where[i] for i in numbers]
            say(f"{target}: {NBEST_NOTE}", file=sys.stderr)
        if len(sentences) != len(targets):
            raise UserError(
                f"{source} has {len(sentences)} sentences, {target} has {len(targets)}; "
                "their lines must correspond"
            )
        if not sentences:
            raise UserError(f"{source}: the file is empty; nothing to score")
        return sentences, self.normalize_texts(targets), where

    def normalize_texts(self, texts: list[str]) -> list[str]:
        """Lines of text in normal form, if training had them so."""
        return normalize_lines(texts) if self.encoder.normal else texts

    def normalize_sentence(self, sentence: Sentence) -> Sentence:
        """A sentence and its values in normal form, if training had them so."""
        return normalize_sentence(sentence) if self.encoder.normal else sentence

    def read_test_set(self) -> tuple[list[Sentence], list[str], list[str]]:
        """The first test set whose files still exist, annotated as in training.

        From now on, the glossary of training is used, unless another one is in use.
        """
        if self.cfg.data.objective == "denoise":
            raise UserError(
                f"{self.folder}: was trained with data.objective=denoise, to restore text; the "
                "translations of its test set mean nothing to it; give --source FILE --target FILE"
            )
        if self.terminology is not None and not self.terminology.glossary.terms:
            self.use_glossary(self.folder / GLOSSARY)
        try:
            sentences, targets, raw, name = read_first_test_set(
                self.cfg.data, Path(self.cfg.paths.cache)
            )
        except UserError as error:
            raise UserError(
                f"{self.folder}: its test set cannot be read ({error}); give --source FILE "
                "--target FILE"
            ) from None
        sentences = [*map(self.normalize_sentence, sentences)]
        has_words, replaces = any(s.words for s in sentences), self.cfg.annotator.replace
        if has_words and self.encoder.sources and not replaces and raw is None:
            sentences = self.annotation.complete_sentences(sentences, name)
        # Otherwise annotators replace the annotation of files, as in training.
        elif self.is_annotated or not has_words:
            sentences = self.annotation.annotate_sentences(sentences, raw, name)
        rows = [i for i, sentence in enumerate(sentences) if sentence.text.strip()]
        where = [f"{name}: sentence {i + 1}" for i in rows]
        return (
            [sentences[i] for i in rows],
            self.normalize_texts([targets[i] for i in rows]),
            where,
        )

    def encode_pairs(
        self,
        sentences: list[Sentence],
        targets: list[str],
        where: list[str],
        count: bool = True,
        has_tokens: bool = True,
    ) -> EncodedSplit:
        """Encoded sentences with their translations, which may be empty.

        `count` says whether to count what is unknown in them; `has_tokens`, whether to add the
        tokens that some methods insert into the source.
        """
        targets = self.normalize_texts(targets)
        described = self.describe_sentences(sentences, where)
        split = encode_split(self.encoder, self.target, described, targets)
        if count:
            self.unknowns.count(described, split, where)
        refuse_long_sources(described.counts - 1, where, self.model.longest_source)
        if has_tokens and self.model.method.in_source:
            begins = find_word_begins(split, None)
            if self.cfg.subword.kind != "none":  # with `none` each piece is a word
                begins[begins] = described.begins
            split = self.insert_tokens(split, begins)
        return self.attach_states(split, described.words.texts, where)

    def insert_tokens(self, split: EncodedSplit, begins: NDArray[np.bool_]) -> EncodedSplit:
        """The split with the tokens of the method; `begins` marks the first piece of each word."""
        if not self.model.method.in_source:
            return split
        return insert_tokens(split, self.model.method, begins, self.encoder)

    def describe_sentences(
        self, sentences: list[Sentence], where: list[str], encoder: SourceEncoder | None = None
    ) -> AlignedSentences:
        """Annotated sentences in normal form, with terms, as pieces and values.

        `encoder` may have further features than the run's.
        """
        encoder = encoder or self.encoder
        if encoder.normal:
            sentences = [normalize_sentence(s, values=False) for s in sentences]
        if self.terminology is not None:
            pairs = zip(sentences, where, strict=True)
            sentences = [self.terminology.write_all_terms(s, name) for s, name in pairs]
        return encoder.align(encoder.read_columns(sentences), where)

    def attach_states(
        self, split: EncodedSplit, texts: list[str], where: list[str]
    ) -> EncodedSplit:
        """The split with the states of each language model that is a feature."""
        for name, model in self.encoders.items():
            states = self.kinds[name].read_states(model, texts)
            missing = self.encoder.features[name].missing
            split, _ = attach_states(split, name, self.encoder.subwords, states, where, missing)
        return split

    def search_translations(
        self, sentences: list[Sentence], where: list[str], cfg: TranslateConfig, count: bool = True
    ) -> list[list[Hypothesis]]:
        """The n best translations of each sentence, none empty, by the engine of `cfg`."""
        decoding, names = self.choose_decoding(cfg), self.feature_names
        if cfg.engine != "native" and decoding.refill:
            raise UserError(
                "engine=ctranslate2 refill=true: CTranslate2 has no beam that stays full; set "
                "refill=false, or engine=native"
            )
        split = self.encode_pairs(sentences, [""] * len(sentences), where, count)
        if cfg.engine == "native":
            return translate_split(self.searched, split, names, decoding, self.device)
        nearest = cfg.fallback == "nearest"
        # With a method in the source, features are tokens of the split and have no embedders.
        names = [name for name in names if name in self.model.source.features]
        results, missed, replaced = self.exported_model.translate(split, names, decoding, nearest)
        self.replaced += len(replaced)
        if missed:
            self.missed += len(missed)
            native = dataclasses.replace(cfg, engine="native")
            rest, names_of_rest = [sentences[i] for i in missed], [where[i] for i in missed]
            searched = self.search_translations(rest, names_of_rest, native, count=False)
            for i, hypotheses in zip(missed, searched, strict=True):
                results[i] = hypotheses
        return results

    def choose_decoding(self, cfg: TranslateConfig) -> DecodingConfig:
        """The run's search with the settings of `cfg`; the beam is at least as large as `nbest`."""
        decoding = dataclasses.replace(self.cfg.decoding, nbest=cfg.nbest)
        for name in ("beam", "length_penalty", "stop", "refill"):
            if (value := getattr(cfg, name)) is not None:
                setattr(decoding, name, value)
        decoding.beam = max(decoding.beam, decoding.nbest)
        return decoding

    def length_limit(self, cfg: TranslateConfig) -> Limit:
        """How long a line may be, and what happens to a longer one."""
        longest = self.encoder.longest or self.cfg.data.max_pieces
        most_pieces = MostPieces.choose(cfg.max_pieces, self.model.longest_source)
        penalty = cfg.length_penalty
        return Limit(
            self.encoder,
            most_pieces,
            cfg.too_long,
            part_size=min(longest, most_pieces.count),
            joiner="" if is_unspaced(self.cfg.data.target_lang) else " ",
            penalty=self.cfg.decoding.length_penalty if penalty is None else penalty,
        )

    def translate_sentences(
        self, sentences: list[Sentence], where: list[str], cfg: TranslateConfig, count: bool = True
    ) -> list[list[Translation]]:
        """Translations, best first, of each sentence; an empty one has an empty translation."""
        results: list[list[Translation]] = [[("", Hypothesis([], 0.0, 0.0))] for _ in sentences]
        full = [i for i, sentence in enumerate(sentences) if sentence.text.strip()]
        if full:
            texts, names = [sentences[i] for i in full], [where[i] for i in full]
            searched = self.search_translations(texts, names, cfg, count)
            for i, hypotheses in zip(full, searched, strict=True):
                results[i] = [(self.target.decode(h.ids), h) for h in hypotheses]
        return results

    def score_pairs(
        self,
        sentences: list[Sentence],
        targets: list[str],
        where: list[str],
        limit: MostPieces,
        count: bool = True,
    ) -> list[Score]:
        """The natural log-probability and the number of pieces of each translation.

        `count` says whether to count what is unknown in the sentences.
        """
        check_pairs(self.encoder, self.target, sentences, targets, where, limit)
        split, names = self.encode_pairs(sentences, targets, where, count), self.feature_names
        return score_within_memory(
            lambda tokens: score_split(self.searched, split, names, tokens, self.device),
            self.cfg.trainer.batch_tokens,
        )
