"""What is done with a trained run: translate, and score given translations.

The run's folder alone says how: its settings, vocabularies, weights and the annotator's model.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import torch
from omegaconf import OmegaConf

from nmt_feat.corpus.annotators import Annotator, make_annotator
from nmt_feat.corpus.columns import needs_annotation
from nmt_feat.corpus.conllu import Sentence, is_conllu, parse_conllu, project
from nmt_feat.corpus.encoder import SourceEncoder
from nmt_feat.corpus.store import Split, encode_split
from nmt_feat.corpus.subwords import Subwords
from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError, near
from nmt_feat.export import Exported
from nmt_feat.model.build import build_model
from nmt_feat.model.transformer import Transformer
from nmt_feat.run import CONFIG, DEFAULT_THREADS, WEIGHTS
from nmt_feat.schema import ScoreConfig, TrainConfig, TranslateConfig
from nmt_feat.search import Hypothesis, score_split, translate_split
from nmt_feat.training.checkpoints import check_sums, read_tensors, restore

EXPORT = "ctranslate2"
"""The folder of a run's export, in its own."""


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
        self.folder = Path(folder)
        config = self.folder / CONFIG
        if not config.is_file() or not (self.folder / WEIGHTS).is_file():
            raise UserError(
                f"{folder}: no finished run (it has no {CONFIG} or {WEIGHTS}); give a folder that "
                "train.py wrote"
            )
        try:
            cfg = OmegaConf.to_object(
                OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.load(config))
            )
        except Exception as error:  # of YAML, OmegaConf or the file's encoding
            first = str(error).splitlines()[0]
            raise UserError(f"{config}: not the settings of a run ({first})") from None
        assert isinstance(cfg, TrainConfig)
        cfg.check()
        check_sums(self.folder)
        self.cfg = cfg
        self.encoder = SourceEncoder.load(self.folder / "encoder")
        self.target = Subwords.load(self.folder / "encoder" / "target")
        self.model = self._model()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device).eval()
        self._annotator: Annotator | None = None
        self.exported: Exported | None = None
        self.missed = 0
        """Sentences that the exported model could not translate; the native engine did."""

    def _model(self) -> Transformer:
        cfg = self.cfg
        sizes = {name: vocab.size for name, vocab in self.encoder.features.items()}
        pieces = self.encoder.subwords.size, self.target.size
        model = build_model(cfg.model, cfg.combiner, cfg.features, sizes, *pieces, cfg.seed)
        path = self.folder / WEIGHTS
        restore(model, read_tensors(path), str(path))
        return model

    @property
    def needs_annotation(self) -> bool:
        """Whether sentences need more than their text."""
        return needs_annotation(self.cfg.features)

    def annotate(self, texts: list[str], raw: list[str] | None, where: str) -> list[Sentence]:
        """Sentences of plain text, annotated as in training where the model needs it."""
        if raw is not None and not self.cfg.data.tokenized:
            raise UserError("raw: for runs that were trained on tokens; leave it out")
        if raw is not None and len(raw) != len(texts):
            raise UserError(
                f"{where}: from here {len(texts)} lines of text, but {len(raw)} of raw; "
                "their lines must correspond"
            )
        if not self.needs_annotation:
            return [Sentence(text) for text in texts]
        if self._annotator is None:
            settings = self.cfg.annotator
            if settings.model:
                settings = dataclasses.replace(settings, model=str(self.folder / settings.model))
            self._annotator = make_annotator(settings)
        if self._annotator is None:
            names = ", ".join(self.cfg.features)
            raise UserError(
                f"{where}: the run needs {names} and was trained on annotated text, without an "
                "annotator; give CoNLL-U (input=FILE.conllu or format=conllu)"
            )
        if not self.cfg.data.tokenized:
            return self._annotator.annotate(texts)
        if raw is None:
            raise UserError(
                f"{where}: the run was trained on tokens annotated by their raw text; give it: "
                "raw=FILE"
            )
        pairs = zip(self._annotator.annotate(raw), texts, strict=True)
        return [project(s, text, where)[0] if text.strip() else Sentence(text) for s, text in pairs]

    def split(self, sentences: list[Sentence], targets: list[str], where: list[str]) -> Split:
        """Encoded sentences with their translations, or with empty ones."""
        described = list(map(self.encoder.describe, sentences, where))
        return encode_split(self.encoder, self.target, described, targets)

    def translate(
        self, sentences: list[Sentence], where: list[str], cfg: TranslateConfig
    ) -> list[list[tuple[str, Hypothesis]]]:
        """Translations, best first, of each sentence; an empty one has an empty translation."""
        decoding = dataclasses.replace(self.cfg.decoding, nbest=cfg.nbest)
        if cfg.beam is not None:
            decoding.beam = cfg.beam
        if cfg.length_penalty is not None:
            decoding.length_penalty = cfg.length_penalty
        decoding.beam = max(decoding.beam, decoding.nbest)
        full = [i for i, sentence in enumerate(sentences) if sentence.text.strip()]
        names = list(self.cfg.features)
        results = [[("", Hypothesis([], 0.0, 0.0))] for _ in sentences]
        if not full:
            return results
        split = self.split([sentences[i] for i in full], [""] * len(full), [where[i] for i in full])
        if cfg.engine == "native":
            found = translate_split(self.model, split, names, decoding, self.device)
        else:
            if self.exported is None:
                self.exported = Exported(self.folder / EXPORT, cfg.threads)
            found, missed = self.exported.translate(
                split, names, decoding, nearest=cfg.fallback == "nearest"
            )
            self.missed += len(missed)
            if missed:
                rest = self.split(
                    [sentences[full[i]] for i in missed],
                    [""] * len(missed),
                    [where[full[i]] for i in missed],
                )
                again = translate_split(self.model, rest, names, decoding, self.device)
                for i, hypotheses in zip(missed, again, strict=True):
                    found[i] = hypotheses
        for i, hypotheses in zip(full, found, strict=True):
            results[i] = [(self.target.decode(h.ids), h) for h in hypotheses]
        return results


@contextlib.contextmanager
def _output(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdout
        return
    try:
        with Path(name).open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise UserError(f"output={name}: {error.strerror}") from None


def _stdin() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().rstrip("\r\n")
            yield text.removeprefix("\ufeff") if number == 1 else text
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input:{number}: invalid UTF-8 at byte {error.start} of the line; "
                "convert it: iconv -f ENCODING -t UTF-8"
            ) from None


def _reads_conllu(name: str, form: str) -> bool:
    if form not in ("auto", "text", "conllu"):
        raise UserError(f"format={form}: unknown; use auto, text or conllu")
    return form == "conllu" or (form == "auto" and is_conllu(name))


def translate_main(cfg: TranslateConfig) -> None:
    """`translate.py`: chunks are written as soon as they are translated, in order."""
    for name in ("nbest", "chunk"):
        if getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)}: must be at least 1")
    if cfg.beam is not None and cfg.beam < cfg.nbest:
        raise UserError(f"beam={cfg.beam}: must be at least nbest={cfg.nbest}")
    for name, known in (
        ("engine", ("native", "ctranslate2")),
        ("fallback", ("native", "nearest")),
    ):
        if (value := getattr(cfg, name)) not in known:
            raise UserError(f"{name}={value}: unknown; {near(value, known)}")
    run = Run(cfg.run, cfg.threads)
    lines = _stdin() if cfg.input == "-" else iter(read_lines(cfg.input))
    name = "standard input" if cfg.input == "-" else cfg.input
    conllu = _reads_conllu(cfg.input, cfg.format)
    items: Iterator[Sentence | str] = parse_conllu(lines, name) if conllu else lines
    raw = iter(read_lines(cfg.raw)) if cfg.raw else None
    number = 0
    with _output(cfg.output) as out:
        while chunk := list(islice(items, cfg.chunk)):
            unit = ": sentence " if conllu else ":"
            where = [f"{name}{unit}{number + i + 1}" for i in range(len(chunk))]
            sentences = [item for item in chunk if isinstance(item, Sentence)]
            if not conllu:
                texts = [str(item) for item in chunk]
                beside = None if raw is None else list(islice(raw, len(texts)))
                sentences = run.annotate(texts, beside, where[0])
            for i, hypotheses in enumerate(run.translate(sentences, where, cfg), number):
                for text, hypothesis in hypotheses:
                    line = f"{i} ||| {text} ||| {hypothesis.score:.4f}" if cfg.nbest > 1 else text
                    out.write(line + "\n")
            out.flush()
            number += len(chunk)
        if raw is not None and next(raw, None) is not None:
            raise UserError(f"raw={cfg.raw}: has more lines than input={cfg.input}, {number}")
    if run.missed:
        print(
            f"{run.missed} of {number} sentences have a combination of piece and features that "
            "training did not: translated by the native engine",
            file=sys.stderr,
        )


def score_main(cfg: ScoreConfig) -> None:
    """`score.py`: natural log-probability and pieces (the end symbol counts) of each line."""
    run = Run(cfg.run, cfg.threads)
    lines = read_lines(cfg.source)
    if is_conllu(cfg.source):
        sentences = list(parse_conllu(lines, cfg.source))
    else:
        raw = read_lines(cfg.raw) if cfg.raw else None
        sentences = run.annotate(lines, raw, cfg.source)
    targets = read_lines(cfg.target)
    if len(sentences) != len(targets):
        raise UserError(
            f"{cfg.source} has {len(sentences)} sentences, {cfg.target} has {len(targets)}; "
            "their lines must correspond"
        )
    if not sentences:
        raise UserError(f"{cfg.source}: the file is empty; nothing to score")
    unit = ": sentence " if is_conllu(cfg.source) else ":"
    where = [f"{cfg.source}{unit}{i + 1}" for i in range(len(sentences))]
    split = run.split(sentences, targets, where)
    budget = run.cfg.trainer.batch_tokens
    found = score_split(run.model, split, list(run.cfg.features), budget, run.device)
    with _output(cfg.output) as out:
        for logprob, pieces in found:
            out.write(f"{logprob:.6f}\t{pieces}\n")
