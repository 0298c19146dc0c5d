"""Options of commands that read a text, with or without a run, and which runs can read one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nmt_feat.base.terminal import say
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig
from nmt_feat.data.controls import CONTROLS
from nmt_feat.errors import UserError
from nmt_feat.export.ctranslate2 import LONGEST
from nmt_feat.runs.stored.records import RunRecord
from nmt_feat.runs.trained.inputs import KINDS, Reader, Text
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence


def make_parser(documentation: str | None, whole: bool = False) -> argparse.ArgumentParser:
    """A parser whose help shows the first line of a module's documentation, or the `whole`."""
    text = documentation or ""
    return argparse.ArgumentParser(
        description=text if whole else text.split("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_text_options(parser: argparse.ArgumentParser, raw: bool = True) -> None:
    """Add options that say how the source is read."""
    kinds = ", ".join(KINDS[1:])
    parser.add_argument("--format", default="auto", help=f"of the source: {kinds}, or auto")
    parser.add_argument("--factors", default="", help="columns of its factors: upos,lemma")
    if raw:
        parser.add_argument("--raw", help="raw counterpart of a source of tokens")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add options for a run and a text with its translation."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--source", type=Path, help="a text; default: the run's test set")
    parser.add_argument("--target", type=Path, help="its translation; default: beside it, as .de")
    add_text_options(parser)


def choose_input_text(source: str | Path, options: argparse.Namespace) -> Text:
    """The text that the options describe."""
    factors = [name for name in options.factors.split(",") if name]
    return Text(str(source), options.format, factors, getattr(options, "raw", None), "--")


def open_text(model: TrainedModel, cfg: TranslateConfig | ScoreConfig, name: str) -> Reader:
    """A reader of the text `name`, with the settings that say how to read it."""
    labels, files = cfg.labels, cfg.label_files
    text = Text(name, cfg.format, cfg.factors, cfg.raw, labels=labels, label_files=files)
    return model.make_reader(text)


def report_exceptions(model: TrainedModel, total: int) -> None:
    """Say on standard error how many sentences were not read or translated as the settings ask."""
    for count, reason in (
        (
            model.annotation.unannotated,
            "have no annotation: their features are unknown, words are those between spaces",
        ),
        (
            model.missed,
            "were translated by the native engine: a combination of piece and features "
            f"that training did not have, above {LONGEST} pieces, or a special piece in the output",
        ),
        (
            model.replaced,
            "have a combination of piece and features that training did not have; the "
            "piece's most frequent one was used",
        ),
    ):
        if count:
            say(f"{count} of {total} sentences {reason}", file=sys.stderr)
    model.unknowns.say()


def explain_no_translation(record: RunRecord) -> str:
    """Why a run is not for translating texts; empty if it is."""
    data = record.config.get("data") or {}
    if data.get("objective") == "denoise":
        return "restores text and does not translate"
    has_shuffled_terms = (data.get("terminology") or {}).get("shuffled")
    if record.settings.get("control") in CONTROLS or has_shuffled_terms:
        return "a control, to which a text means nothing"
    return ""


def read_pairs(
    model: TrainedModel, options: argparse.Namespace
) -> tuple[list[Sentence], list[str], list[str]]:
    """Sentences, translations and names for messages: of the options' text, or the test set."""
    if options.source is None:
        for name in ("target", "raw", "factors"):
            if getattr(options, name):
                raise UserError(f"--{name}: goes with --source FILE; give both, or neither")
        return model.read_test_set()
    target = options.target or options.source.with_suffix(f".{model.cfg.data.target_lang}")
    reader = model.make_reader(choose_input_text(options.source, options))
    return model.read_pairs(reader, str(target))
