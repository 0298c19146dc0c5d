"""Counts translations of an export that differ from those of the native engine.

python tools/compare_export.py RUN --beams 1,2,5 --patience 1,2 --length-penalty 0,1

The run is exported without quantisation into a temporary folder. For each setting it prints how
many translations of the test set differ, how many of these have a better score by the native
engine or by the export, and BLEU of both.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.export import ctranslate2 as exporting
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.trained.model import TrainedModel

SAME = 1e-4
"""Scores that differ by less differ only in rounding."""


def export_run(run: TrainedModel, folder: Path) -> exporting.Exported:
    """Export the run's model, for combiners that CTranslate2 has."""
    if exporting.fold_tables(run.model.source) is None:
        raise UserError(f"{run.folder}: take a run of none, concat, add or average")
    assert isinstance(run.model, Transformer)
    exporting.export_model(run.model, None, folder / "export", None)
    return exporting.Exported(folder / "export", run.threads)


def compare(
    run: TrainedModel, engine: exporting.Exported, split: EncodedSplit, cfg: DecodingConfig
) -> tuple[int, int, int, float, float]:
    """How many translations differ; of these, better ones of each engine; BLEU of both."""
    names = list(run.cfg.features)
    native = [rows[0] for rows in translate_split(run.model, split, names, cfg, run.device)]
    nbest = engine.translate(split, names, cfg, nearest=False).hypotheses
    # Sentences that the export cannot translate get the native engine's translation.
    exported = [rows[0] if rows else best for rows, best in zip(nbest, native, strict=True)]
    pairs = [(a, b) for a, b in zip(native, exported, strict=True) if a.ids != b.ids]
    native_better = sum(a.score > b.score + SAME for a, b in pairs)
    export_better = sum(b.score > a.score + SAME for a, b in pairs)
    scores = score_bleu(run, native, split), score_bleu(run, exported, split)
    return len(pairs), native_better, export_better, *scores


def score_bleu(run: TrainedModel, hypotheses: Sequence[Hypothesis], split: EncodedSplit) -> float:
    """BLEU of translations of the split."""
    texts = [run.target.decode(hypothesis.ids) for hypothesis in hypotheses]
    scoring = choose_scoring(run.cfg.data)
    return score_translations(texts, split.target_texts, scoring).bleu


def make_parser(document: str | None, beams: str, penalties: str) -> argparse.ArgumentParser:
    """A command line with a run, and with beams and length penalties, which have these defaults."""
    parser = argparse.ArgumentParser(description=(document or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--beams", default=beams)
    parser.add_argument("--length-penalty", default=penalties)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def vary_decoding(run: TrainedModel, options: argparse.Namespace) -> Iterator[DecodingConfig]:
    """The run's decoding with each beam and each length penalty of the command line."""
    for beam in map(int, options.beams.split(",")):
        for penalty in map(float, options.length_penalty.split(",")):
            yield dataclasses.replace(run.cfg.decoding, beam=beam, length_penalty=penalty, nbest=1)


def main() -> None:
    """Print a line for each setting."""
    parser = make_parser(__doc__, beams="1,2,5", penalties="1")
    parser.add_argument("--patience", default="1,2", help="of CTranslate2, at beams above 1")
    options = parser.parse_args()
    use_utf8()
    try:
        run = TrainedModel(options.run, options.threads)
        run.model.cpu()
        split = run.encode_pairs(*run.read_test_set())
        say("beam\tpatience\tlength penalty\tdiffer\tnative better\texport better\tBLEU\texport's")
        with tempfile.TemporaryDirectory() as folder:
            engine = export_run(run, Path(folder))
            for cfg in vary_decoding(run, options):
                for patience in map(float, options.patience.split(",") if cfg.beam > 1 else "1"):
                    engine.patience = patience
                    differ, ours, theirs, *bleu = compare(run, engine, split, cfg)
                    setting = f"{cfg.beam}\t{patience:g}\t{cfg.length_penalty:g}"
                    counts = f"{differ} of {len(split)}\t{ours}\t{theirs}"
                    say("\t".join([setting, counts, *(f"{value:.2f}" for value in bleu)]))
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
