"""Compares searches that end at different points: `python tools/compare_searches.py RUN`.

The test set of a run is translated by each search of `decoding.stop` and `decoding.refill`, for
each beam and length penalty. For each search it prints the rows that the decoder computed (one for
each live hypothesis at each step), the seconds, how many translations differ from the default
search, and BLEU. Rows do not depend on the machine; seconds do.
"""

import dataclasses
import time
from typing import Any

from compare_export import make_parser, score_bleu, vary_decoding
from torch import Tensor

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.runs.trained.model import TrainedModel

SEARCHES: dict[str, dict[str, Any]] = {
    "proven": {"stop": "proven", "refill": False},
    "likely": {"stop": "likely", "refill": False},
    "proven, refill": {"stop": "proven", "refill": True},
    "likely, refill": {"stop": "likely", "refill": True},
}
"""The searches by name; all are compared with the first one, the default."""


class RowCounter:
    """Counts the rows of a model's decoder while it searches."""

    def __init__(self, model: Any) -> None:
        self.rows = 0
        self._step = model.decode_step
        model.decode_step = self._count

    def _count(self, tokens: Tensor, position: int, cache: Any) -> Tensor:
        self.rows += len(tokens)
        logits: Tensor = self._step(tokens, position, cache)
        return logits


@dataclasses.dataclass
class Translations:
    """The translations of a search, and their cost."""

    pieces: list[list[int]]
    rows: int
    seconds: float
    bleu: float


def translate(
    run: TrainedModel, split: EncodedSplit, decoding: DecodingConfig, counter: RowCounter
) -> Translations:
    """The translations of a split by one search."""
    counter.rows, begin = 0, time.perf_counter()
    nbest = translate_split(run.model, split, list(run.cfg.features), decoding, run.device)
    seconds = time.perf_counter() - begin
    best = [hypotheses[0] for hypotheses in nbest]
    pieces, bleu = [hypothesis.ids for hypothesis in best], score_bleu(run, best, split)
    return Translations(pieces, counter.rows, seconds, bleu)


def print_searches(
    run: TrainedModel, split: EncodedSplit, decoding: DecodingConfig, counter: RowCounter
) -> None:
    """Print a line for each search with one beam and length penalty."""
    default: Translations | None = None
    for name, settings in SEARCHES.items():
        result = translate(run, split, dataclasses.replace(decoding, **settings), counter)
        default = default or result
        differ = sum(a != b for a, b in zip(result.pieces, default.pieces, strict=True))
        rows, seconds = result.rows / default.rows, result.seconds / default.seconds
        cells = [f"{decoding.beam}", f"{decoding.length_penalty:g}", name, f"{result.rows}"]
        cells += [f"{rows:.3f}", f"{result.seconds:.1f}", f"{seconds:.2f}"]
        say("\t".join([*cells, f"{differ} of {len(split)}", f"{result.bleu:.2f}"]))


def main() -> None:
    """Print a line for each search, beam and length penalty."""
    options = make_parser(__doc__, beams="5,2", penalties="1,0.6").parse_args()
    use_utf8()
    try:
        run = TrainedModel(options.run, options.threads)
        counter = RowCounter(run.model)
        split = run.encode_pairs(*run.read_test_set())
        say("beam\tpenalty\tsearch\trows\tratio\tseconds\tratio\tdiffer\tBLEU")
        for decoding in vary_decoding(run, options):
            print_searches(run, split, decoding, counter)
    except UserError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
