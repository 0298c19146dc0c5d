"""`nmt-feat score`: the log-probability of each line of given translations."""

from __future__ import annotations

from nmt_feat.base.outputs import write_to
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.cli.texts import open_text, report_exceptions
from nmt_feat.config.inference_schema import ScoreConfig
from nmt_feat.config.rules import check_inference
from nmt_feat.runs.setup.artifacts import refuse_output
from nmt_feat.runs.trained.long_lines import MostPieces
from nmt_feat.runs.trained.model import TrainedModel


def main() -> None:
    """Score with the settings of the command line."""
    run_program("score", score_text)


def score_text(cfg: ScoreConfig) -> None:
    """Write the natural log-probability and the pieces (the end symbol counts) of each line."""
    check_inference(cfg)
    model = TrainedModel(cfg.run, cfg.threads)
    model.use_glossary(cfg.glossary)
    reader = open_text(model, cfg, cfg.source)
    refuse_output(cfg.output, [cfg.run], [*reader.list_files(), cfg.target, cfg.glossary])
    pairs = model.read_pairs(reader, cfg.target, may_be_nbest=True)
    model.unknowns.reaction = cfg.unknown
    scores = model.score_pairs(*pairs, MostPieces.choose(cfg.max_pieces, model.longest_side))
    with write_to(cfg.output, "output=") as out:
        for logprob, pieces in scores:
            out.write(f"{logprob:.6f}\t{pieces}\n")
    report_exceptions(model, len(scores))
