"""How many translations of an export differ from those of the native engine.

python tools/compare_export.py RUN --beams 1,2,5 --patience 1,2 --length-penalty 0,1

The run is exported without quantisation into a temporary folder. Of each setting: how many of its
test set's translations differ, BLEU of both engines, and how often the search's own score prefers
the native engine's translation, or the export's.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metrics import score
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.export import ctranslate2 as exporting
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.trained_model import TrainedModel

SAME = 1e-4
"""Scores that differ by less are of one hypothesis, but for the order of sums."""


def exported(run: TrainedModel, folder: Path) -> exporting.Exported:
    """The run's model for CTranslate2; of the test set's own tuples where a table is needed."""
    tuples = None
    if exporting.fold_tables(run.model.source) is None:
        raise UserError(f"{run.folder}: take a run of none, concat, add or average")
    assert isinstance(run.model, Transformer)
    exporting.export(run.model, tuples, folder / "export", None)
    return exporting.Exported(folder / "export", run.threads)


def compare(
    run: TrainedModel, engine: exporting.Exported, split: EncodedSplit, cfg: DecodingConfig
) -> tuple[int, int, int, float, float]:
    """Translations that differ, of these better by score natively and exported, BLEU of both."""
    names = list(run.cfg.features)
    native = [rows[0] for rows in translate_split(run.model, split, names, cfg, run.device)]
    found = engine.translate(split, names, cfg, nearest=False)
    other = [rows[0] if rows else h for rows, h in zip(found.hypotheses, native, strict=True)]
    pairs = [(a, b) for a, b in zip(native, other, strict=True) if a.ids != b.ids]
    ours = sum(a.score > b.score + SAME for a, b in pairs)
    theirs = sum(b.score > a.score + SAME for a, b in pairs)
    return len(pairs), ours, theirs, _bleu(run, native, split), _bleu(run, other, split)


def _bleu(run: TrainedModel, hypotheses: list[Hypothesis], split: EncodedSplit) -> float:
    texts = [run.target.decode(hypothesis.ids) for hypothesis in hypotheses]
    scoring = choose_scoring(run.cfg.data)
    return score(texts, split.target_texts, scoring.tokenized, scoring.tokenizer).bleu


def main() -> None:
    """Print a line for each setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--beams", default="1,2,5")
    parser.add_argument("--patience", default="1,2", help="of CTranslate2, at beams above 1")
    parser.add_argument("--length-penalty", default="1")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    use_utf8()
    try:
        run = TrainedModel(given.run, given.threads)
        run.model.cpu()
        split = run.encode_pairs(*run.read_test_set())
        say("beam\tpatience\tlength penalty\tdiffer\tnative better\texport better\tBLEU\texport's")
        with tempfile.TemporaryDirectory() as folder:
            engine = exported(run, Path(folder))
            for beam in map(int, given.beams.split(",")):
                for penalty in map(float, given.length_penalty.split(",")):
                    cfg = dataclasses.replace(
                        run.cfg.decoding, beam=beam, length_penalty=penalty, nbest=1
                    )
                    for patience in map(float, given.patience.split(",") if beam > 1 else "1"):
                        engine.patience = patience
                        differ, ours, theirs, *bleu = compare(run, engine, split, cfg)
                        counts = f"{differ} of {len(split)}\t{ours}\t{theirs}"
                        scores = "\t".join(f"{value:.2f}" for value in bleu)
                        say(f"{beam}\t{patience:g}\t{penalty:g}\t{counts}\t{scores}")
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
