"""What is done with a trained run: translate, and score given translations.

The run's folder alone says how: its settings, vocabularies, weights and the annotator's model.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from nmt_feat.annotators import base as annotators
from nmt_feat.annotators.base import Annotator, fingerprint_of, make_annotator
from nmt_feat.base.checksums import SUMS, check_sums, read_sums
from nmt_feat.base.outputs import check_output, same_file, write_to
from nmt_feat.base.terminal import say
from nmt_feat.config.rules import BEAM, check_settings, refuse_infinite
from nmt_feat.config.schema import AnnotatorConfig, ScoreConfig, TranslateConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.controls import CONTROLS
from nmt_feat.data.corpora import test_set
from nmt_feat.data.overlaps import attach
from nmt_feat.data.store import EncodedSplit, encode_split
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError, suggest
from nmt_feat.evaluation.split_decoding import format_nbest_line, score_split, translate_split
from nmt_feat.export.ctranslate2 import LONGEST, Exported
from nmt_feat.features import columns
from nmt_feat.features.columns import FeatureVocab
from nmt_feat.runs.artifacts import ANNOTATOR, CONFIG, FINGERPRINT, WEIGHTS, model_for
from nmt_feat.runs.inputs import PARALLEL, Reader, Text, nbest_numbers, text_of, trained_on
from nmt_feat.runs.long_lines import (
    UNSPACED,
    Limit,
    Translation,
    check_lengths,
    check_limit,
    check_pairs,
    score_within_memory,
)
from nmt_feat.runs.processes import DEFAULT_THREADS
from nmt_feat.runs.records import FINISHED, STARTED
from nmt_feat.runs.stored_settings import read_settings
from nmt_feat.runs.unknowns import Unknowns, check_reaction
from nmt_feat.runs.user_classes import changed_classes
from nmt_feat.text import formats
from nmt_feat.text.conllu import Findings, Sentence, project_annotation
from nmt_feat.text.files import hash_content, read_lines
from nmt_feat.text.normalization import normalize_lines, normalize_sentence
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from nmt_feat.training.checkpoints import read_tensors, restore

LISTED = (
    "an n-best list, each line is scored for the sentence of its number; its text is cut into "
    "pieces anew, so where the search took other pieces the log-probability is not the search's"
)

BARE = "have no annotation: what it would say is unknown, words are those between spaces"
EXPORT = "ctranslate2"
"""The folder of a run's export, in its own."""


def refuse_unfinished(folder: Path) -> None:
    """Refuse a folder that has not all of a finished run; the message says what is the matter."""
    lacking = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not lacking:
        return
    if (folder / STARTED).is_file() and not (folder / FINISHED).is_file():
        raise UserError(
            f"{folder}: this run is not finished; the command that began it continues it"
        )
    raise UserError(
        f"{folder}: no finished run (it has no {' or '.join(lacking)}); give a folder that "
        "train.py wrote"
    )


class Run:
    """A finished run, ready to translate: settings, encoder, model, annotator.

    Args:
        folder: the run's folder.
        threads: CPU threads; 0 keeps PyTorch's choice.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        if threads < 0:
            raise UserError(f"threads={threads}: must be at least 0")
        torch.set_num_threads(threads or DEFAULT_THREADS)
        self.folder, self.threads = Path(folder), threads
        config, weights = self.folder / CONFIG, self.folder / WEIGHTS
        refuse_unfinished(self.folder)
        cfg = read_settings(config)
        check_settings(cfg)
        if cfg.control in CONTROLS:
            raise UserError(
                f"{folder}: trained with control={cfg.control}, a text's features mean nothing to "
                "it; give a run with control=none"
            )
        check_sums(self.folder, skipped=("*.hyp", "*.parquet", STARTED))
        self.cfg = cfg
        self.encoder = SourceEncoder.load(self.folder / "encoder")
        self.target = Subwords.load(self.folder / "encoder" / "target")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoders = {
            name: self._encoder(name, vocab)
            for name, vocab in self.encoder.features.items()
            if vocab.contextual
        }
        self.model = model_for(cfg, self.encoder, self.target, self.encoders)
        restore(self.model, read_tensors(weights), str(weights))
        self.model.to(self.device).eval()
        for sentence in changed_classes(self.folder, cfg, self.model):
            say(sentence, file=sys.stderr)
        self.unknowns = Unknowns(self.encoder)
        """What it does not know of the text that it has read."""
        self.unannotated = 0
        """Sentences without annotation, where the run's features allow it."""
        self.missed = 0
        """Sentences that the exported model could not translate; the native engine did."""
        self.replaced = 0
        """Sentences in which `fallback=nearest` replaced a combination of piece and features."""

    def _encoder(self, name: str, vocab: FeatureVocab) -> LanguageModel:
        """That of a feature: the folder's own `encoder/NAME`, else where training had it."""
        own = self.folder / "encoder" / name
        folder = str(own) if own.exists() else vocab.encoder
        model = LanguageModel(name, folder, vocab.layer, vocab.precision, self.device.type)
        if model.sum(Path(self.cfg.paths.cache)) != vocab.sum:
            raise UserError(
                f"features.{name}: {folder} is not the encoder of training, its files have "
                f"changed; put that one there, or as {own}"
            )
        return model

    @property
    def annotation(self) -> AnnotatorConfig:
        """The annotator's settings; its model is that which the run keeps, where it keeps one."""
        settings = self.cfg.annotator
        if settings.model and (kept := self.folder / settings.model).exists():
            return dataclasses.replace(settings, model=str(kept))
        return settings

    @functools.cached_property
    def annotator(self) -> Annotator | None:
        """What annotated the training text, if anything did; another version of it is said."""
        annotator, known = make_annotator(self.annotation), self.folder / ANNOTATOR / FINGERPRINT
        if annotator and known.is_file():
            before, now = known.read_text(encoding="utf-8").strip(), fingerprint_of(annotator)
            if before != now:
                say(f"the training text was annotated by {before}; here is {now}", file=sys.stderr)
        return annotator

    @functools.cached_property
    def exported(self) -> Exported:
        """What `scripts/export.py` wrote."""
        return Exported(self.folder / EXPORT, self.threads, hash_content(self.folder / WEIGHTS))

    def annotate(
        self, texts: list[str], raw: list[str] | None, name: str, first: int = 1
    ) -> list[Sentence]:
        """Sentences of plain text, annotated as in training where the model needs it.

        `name` and the number of the `first` line are for errors.
        """
        projected = bool(self.cfg.data.train.raw)
        if raw is not None and not projected:
            raise UserError(
                "raw: for runs whose training text has one (data.train.raw); leave it out"
            )
        if raw is not None and len(raw) != len(texts):
            raise UserError(
                f"{name}:{first}: from here {len(texts)} lines of text, but {len(raw)} of raw; "
                "their lines must correspond"
            )
        if self.encoder.normal:
            texts, raw = normalize_lines(texts), raw and normalize_lines(raw)
        if not self.encoder.annotated:
            return [Sentence(text) for text in texts]
        required = self.encoder.required
        if not required and (self.annotator is None or (projected and raw is None)):
            self.unannotated += sum(bool(text.strip()) for text in texts)
            return [Sentence(text) for text in texts]
        if self.annotator is None:
            names = ", ".join(self.cfg.features) or "words to cut the text at"
            kind = trained_on(self.cfg.data)
            more = f", or its kind of training (format={kind})"
            if kind not in (*formats.SEPARATORS, PARALLEL):
                more = ""
            raise UserError(
                f"{name}:{first}: the run needs {names} and was trained on annotated text, without "
                f"an annotator; give CoNLL-U (input=FILE.conllu or format=conllu){more}"
            )
        if not projected:
            return annotators.annotate_texts(self.annotator, texts)
        if raw is None:
            raise UserError(
                f"{name}:{first}: the run was trained on text annotated by its raw counterpart; "
                "give it: raw=FILE"
            )
        pairs = zip(annotators.annotate_texts(self.annotator, raw), texts, strict=True)
        return [
            project_annotation(s, text, f"{name}:{number}")[0] if text.strip() else Sentence(text)
            for number, (s, text) in enumerate(pairs, first)
        ]

    def reader(self, text: Text) -> Reader:
        """A text, read as the one that the run was trained on where nothing else is set."""
        annotates = not self.encoder.annotated or self.cfg.annotator._target_ is not None
        return Reader(text, self.cfg.data, annotates)

    def sentences(self, reader: Reader) -> Iterator[Sentence]:
        """Sentences as files give them, in normal form; heads that make no tree are an error.

        That is where features of the run read heads; else they are counted on standard error.
        """
        findings = Findings()
        for sentence in reader.sentences(findings):
            message = findings.describe_trees()
            if message and "head_upos" in columns.annotation(self.encoder.features):
                raise UserError(
                    f"{message}, but features of the run read heads; correct the annotation"
                )
            yield normalize_sentence(sentence) if self.encoder.normal else sentence
        if message := findings.describe_trees():
            say(f"the annotation has {message}", file=sys.stderr)

    def read(
        self, reader: Reader, target: str, listed: bool = False
    ) -> tuple[list[Sentence], list[str], list[str]]:
        """A text, annotated if it is plain, and its translation; file and line of each sentence.

        Where `listed`, the translation may be an n-best list, of which each line is a pair.
        """
        source, raw = reader.label, reader.text.raw
        sentences, targets = list(self.sentences(reader)), read_lines(target)
        if reader.kind == "text":
            texts = [sentence.text for sentence in sentences]
            sentences = self.annotate(texts, read_lines(raw) if raw else None, source)
        where = reader.where(len(sentences))
        if listed and (pairs := nbest_numbers(targets, target, len(sentences))):
            numbers, targets = pairs
            sentences, where = [sentences[i] for i in numbers], [where[i] for i in numbers]
            say(f"{target}: {LISTED}", file=sys.stderr)
        if len(sentences) != len(targets):
            raise UserError(
                f"{source} has {len(sentences)} sentences, {target} has {len(targets)}; "
                "their lines must correspond"
            )
        if not sentences:
            raise UserError(f"{source}: the file is empty; nothing to score")
        return sentences, self.references(targets), where

    def references(self, targets: list[str]) -> list[str]:
        """Translations in normal form, as in training."""
        return normalize_lines(targets) if self.encoder.normal else targets

    def pairs(self, options: argparse.Namespace) -> tuple[list[Sentence], list[str], list[str]]:
        """The text of a script's options with its translation, else the run's test set."""
        if options.source is None:
            alone = ("target", "raw", "factors")
            if name := next((name for name in alone if getattr(options, name)), None):
                raise UserError(f"--{name}: goes with --source FILE; give both, or neither")
            return self.test_set()
        target = options.target or options.source.with_suffix(f".{self.cfg.data.target_lang}")
        return self.read(self.reader(text_of(options.source, options)), str(target))

    def test_set(self) -> tuple[list[Sentence], list[str], list[str]]:
        """The first test set whose files are still there, annotated as in training."""
        try:
            sentences, targets, raw, name = test_set(self.cfg.data, Path(self.cfg.paths.cache))
        except UserError as error:
            raise UserError(
                f"{self.folder}: its test set cannot be read ({error}); give --source FILE "
                "--target FILE"
            ) from None
        if self.encoder.normal:
            sentences = [normalize_sentence(sentence) for sentence in sentences]
        # An annotator takes the place of annotation in files, as in training.
        if self.cfg.annotator._target_ or not any(sentence.words for sentence in sentences):
            sentences = self.annotate([sentence.text for sentence in sentences], raw, name)
        rows = [i for i, sentence in enumerate(sentences) if sentence.text.strip()]
        where = [f"{name}: sentence {i + 1}" for i in rows]
        return [sentences[i] for i in rows], self.references([targets[i] for i in rows]), where

    def split(
        self, sentences: list[Sentence], targets: list[str], where: list[str], count: bool = True
    ) -> EncodedSplit:
        """Encoded sentences with their translations, or with empty ones.

        What is unknown of them is counted, unless they were counted before.
        """
        if self.encoder.normal:
            sentences = [normalize_sentence(s, values=False) for s in sentences]
        targets = self.references(targets)
        described = self.encoder.describe(Sentences.of(sentences), where)
        split = encode_split(self.encoder, self.target, described, targets)
        if count:
            self.unknowns.count(described, split, where)
        return self.attached(split, described.texts, where)

    def attached(self, split: EncodedSplit, texts: list[str], where: list[str]) -> EncodedSplit:
        """The split with the vectors of each encoder that is a feature."""
        for name, model in self.encoders.items():
            live = self.cfg.features[name].live
            states = (model.coded if live else model.states)(texts)
            missing = self.encoder.features[name].missing
            split, _ = attach(split, name, self.encoder.subwords, states, where, missing)
        return split

    def search(
        self, sentences: list[Sentence], where: list[str], cfg: TranslateConfig, count: bool = True
    ) -> list[list[Hypothesis]]:
        """The n best of each sentence, none of which is empty, by the engine of `cfg`."""
        decoding = dataclasses.replace(self.cfg.decoding, nbest=cfg.nbest)
        if cfg.beam is not None:
            decoding.beam = cfg.beam
        if cfg.length_penalty is not None:
            decoding.length_penalty = cfg.length_penalty
        decoding.beam = max(decoding.beam, decoding.nbest)
        names = list(self.cfg.features)
        split = self.split(sentences, [""] * len(sentences), where, count)
        if cfg.engine == "native":
            return translate_split(self.model, split, names, decoding, self.device)
        nearest = cfg.fallback == "nearest"
        found, missed, replaced = self.exported.translate(split, names, decoding, nearest)
        self.replaced += len(replaced)
        if missed:
            self.missed += len(missed)
            native = dataclasses.replace(cfg, engine="native")
            rest, places = [sentences[i] for i in missed], [where[i] for i in missed]
            again = self.search(rest, places, native, count=False)
            for i, hypotheses in zip(missed, again, strict=True):
                found[i] = hypotheses
        return found

    def limit(self, cfg: TranslateConfig) -> Limit:
        """How long a line may be."""
        longest = self.encoder.longest or self.cfg.data.max_pieces
        penalty = cfg.length_penalty
        return Limit(
            self.encoder,
            cfg.max_pieces,
            cfg.too_long,
            min(longest, cfg.max_pieces),
            "" if self.cfg.data.target_lang in UNSPACED else " ",
            self.cfg.decoding.length_penalty if penalty is None else penalty,
        )

    def translate(
        self, sentences: list[Sentence], where: list[str], cfg: TranslateConfig, count: bool = True
    ) -> list[list[Translation]]:
        """Translations, best first, of each sentence; an empty one has an empty translation."""
        results: list[list[Translation]] = [[("", Hypothesis([], 0.0, 0.0))] for _ in sentences]
        full = [i for i, sentence in enumerate(sentences) if sentence.text.strip()]
        if full:
            texts, places = [sentences[i] for i in full], [where[i] for i in full]
            found = self.search(texts, places, cfg, count)
            for i, hypotheses in zip(full, found, strict=True):
                results[i] = [(self.target.decode(h.ids), h) for h in hypotheses]
        return results


def run_files(folder: str | Path) -> list[Path]:
    """The files of a run that a program reads; none where there is no run."""
    top = Path(folder)
    files = [top / name for name in (CONFIG, WEIGHTS, SUMS)]
    for name in ("encoder", ANNOTATOR, EXPORT):
        files += (top / name).rglob("*")
    return [path for path in files if path.is_file()]


def refuse_record(output: str, folder: str | Path) -> None:
    """Refuse an output that is a file of the run's record, such as its hypotheses."""
    top = Path(folder)
    for name in (STARTED, FINISHED, *read_sums(top)):
        if same_file(output, top / name):
            raise UserError(
                f"output={output}: is {top / name}, which belongs to the run; give another file"
            )


def translate_main(cfg: TranslateConfig) -> None:
    """`translate.py`: chunks are written as soon as they are translated, in order."""
    for name in ("nbest", "chunk"):
        if getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)}: must be at least 1")
    refuse_infinite(dataclasses.asdict(cfg))
    for name in ("nbest", "beam"):
        value = getattr(cfg, name)
        if value is not None and not BEAM[0](value):
            raise UserError(f"{name}={value}: must be {BEAM[1]}")
    if cfg.length_penalty is not None and cfg.length_penalty < 0:
        raise UserError(f"length_penalty={cfg.length_penalty}: must be at least 0")
    if cfg.beam is not None and cfg.beam < cfg.nbest:
        raise UserError(f"beam={cfg.beam}: must be at least nbest={cfg.nbest}")
    for name, known in (("engine", ("native", "ctranslate2")), ("fallback", ("native", "nearest"))):
        if (value := getattr(cfg, name)) not in known:
            raise UserError(f"{name}={value}: unknown; {suggest(value, known)}")
    check_reaction(cfg.unknown)
    check_limit(cfg.max_pieces, cfg.too_long)
    run = Run(cfg.run, cfg.threads)
    run.unknowns.reaction, limit = cfg.unknown, run.limit(cfg)
    reader = run.reader(Text(cfg.input, cfg.format, cfg.factors, cfg.raw))
    check_output(cfg.output, "output=", [*reader.files(), *run_files(cfg.run)])
    refuse_record(cfg.output, cfg.run)
    if cfg.too_long == "refuse" and cfg.input != "-":  # before the start
        for number, sentence in enumerate(reader.sentences(), 1):
            check_lengths(run.encoder, [sentence], reader.where(1, number), cfg.max_pieces)
    sentences = run.sentences(reader)
    raw = iter(read_lines(cfg.raw)) if cfg.raw else None
    number = 0
    with write_to(cfg.output, "output=") as out:
        while chunk := list(islice(sentences, cfg.chunk)):
            where = reader.where(len(chunk), number + 1)
            beside = None if raw is None else list(islice(raw, len(chunk)))
            if beside is not None:
                chunk = run.annotate([s.text for s in chunk], beside, reader.label, number + 1)
            chunk, where = limit.divide(chunk, where)
            if reader.kind == "text" and beside is None:
                chunk = run.annotate([s.text for s in chunk], None, reader.label, number + 1)
            found = limit.within_memory(
                lambda part, names, count: run.translate(part, names, cfg, count), chunk, where
            )
            for hypotheses in limit.gather(found):
                for text, hypothesis in hypotheses:
                    line = format_nbest_line(number, text, hypothesis) if cfg.nbest > 1 else text
                    out.write(line + "\n")
                number += 1
            out.flush()
        if raw is not None and next(raw, None) is not None:
            raise UserError(f"raw={cfg.raw}: has more lines than input={cfg.input}, {number}")
    for count, how in (
        (run.unannotated, BARE),
        (
            run.missed,
            "were translated by the native engine: a combination of piece and features "
            f"that training did not have, above {LONGEST} pieces, or a special piece in the output",
        ),
        (
            run.replaced,
            "have a combination of piece and features that training did not have; the "
            "piece's most frequent one was used",
        ),
    ):
        if count:
            say(f"{count} of {number} sentences {how}", file=sys.stderr)
    run.unknowns.say()


def score_main(cfg: ScoreConfig) -> None:
    """`score.py`: natural log-probability and pieces (the end symbol counts) of each line."""
    check_reaction(cfg.unknown)
    check_limit(cfg.max_pieces)
    run = Run(cfg.run, cfg.threads)
    reader = run.reader(Text(cfg.source, cfg.format, cfg.factors, cfg.raw))
    check_output(cfg.output, "output=", [*reader.files(), cfg.target, *run_files(cfg.run)])
    refuse_record(cfg.output, cfg.run)
    sentences, targets, where = run.read(reader, cfg.target, listed=True)
    run.unknowns.reaction = cfg.unknown
    check_pairs(run.encoder, run.target, sentences, targets, where, cfg.max_pieces)
    split, names = run.split(sentences, targets, where), list(run.cfg.features)
    found = score_within_memory(
        lambda tokens: score_split(run.model, split, names, tokens, run.device),
        run.cfg.trainer.batch_tokens,
    )
    with write_to(cfg.output, "output=") as out:
        for logprob, pieces in found:
            out.write(f"{logprob:.6f}\t{pieces}\n")
    if run.unannotated:
        say(f"{run.unannotated} of {len(found)} sentences {BARE}", file=sys.stderr)
    run.unknowns.say()
