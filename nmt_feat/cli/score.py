"""`nmt-feat score`: the log-probability of each line of given translations."""

from __future__ import annotations

import sys

from nmt_feat.base.outputs import check_output, write_to
from nmt_feat.base.terminal import say
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.config.inference_schema import ScoreConfig
from nmt_feat.config.rules import check_inference
from nmt_feat.runs.artifacts import list_files_read, refuse_record
from nmt_feat.runs.inputs import Text
from nmt_feat.runs.trained_model import UNANNOTATED, TrainedModel


def main() -> None:
    """Score with the settings of the command line."""
    run_program("score", score_text)


def score_text(cfg: ScoreConfig) -> None:
    """Write the natural log-probability and the pieces (the end symbol counts) of each line."""
    check_inference(cfg)
    model = TrainedModel(cfg.run, cfg.threads)
    model.use_glossary(cfg.glossary)
    labels, files = cfg.labels, cfg.label_files
    source = Text(cfg.source, cfg.format, cfg.factors, cfg.raw, labels=labels, label_files=files)
    reader = model.make_reader(source)
    files_read = [*reader.list_files(), cfg.target, *([cfg.glossary] if cfg.glossary else [])]
    check_output(cfg.output, "output=", [*files_read, *list_files_read(cfg.run)])
    refuse_record(cfg.output, cfg.run)
    pairs = model.read_pairs(reader, cfg.target, may_be_nbest=True)
    model.unknowns.reaction = cfg.unknown
    scores = model.score_pairs(*pairs, cfg.max_pieces)
    with write_to(cfg.output, "output=") as out:
        for logprob, pieces in scores:
            out.write(f"{logprob:.6f}\t{pieces}\n")
    if model.unannotated:
        say(f"{model.unannotated} of {len(scores)} sentences {UNANNOTATED}", file=sys.stderr)
    model.unknowns.say()
