"""Reading accuracy by forced scoring: `python scripts/contrast.py RUN`.

Of the translations of all readings of a sentence, does the model find that of the annotated one
the most probable? No search takes part. The sentences are the run's test set, or
`--source FILE.conllu --target FILE`, where equal source lines are readings of one another.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.metrics import Reading, reading_accuracy
from nmt_feat.evaluation.split_decoding import score_split
from nmt_feat.runs.inputs import add_options
from nmt_feat.runs.trained_model import Run
from nmt_feat.text.conllu import Sentence


def contrast(run: Run, sentences: list[Sentence], targets: list[str], where: list[str]) -> Reading:
    """The accuracy when each sentence's translation is its most probable reading's."""
    readings: dict[str, dict[str, None]] = defaultdict(dict)
    for sentence, target in zip(sentences, targets, strict=True):
        readings[sentence.text][target] = None
    pairs = [(i, target) for i, s in enumerate(sentences) for target in readings[s.text]]
    run.split(sentences, targets, where)
    split = run.split(
        [sentences[i] for i, _ in pairs],
        [target for _, target in pairs],
        [where[i] for i, _ in pairs],
        count=False,  # each sentence is counted above, once
    )
    budget = run.cfg.trainer.batch_tokens
    scores = score_split(run.model, split, list(run.cfg.features), budget, run.device)
    best: dict[int, tuple[float, str]] = {}
    for (i, target), (logprob, _) in zip(pairs, scores, strict=True):
        best[i] = max(best.get(i, (logprob, target)), (logprob, target))
    chosen = [best[i][1] for i in range(len(sentences))]
    return reading_accuracy([s.text for s in sentences], targets, chosen)


def main() -> None:
    """Score the pairs, and say how many the model has right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--source", type=Path, help="annotated text; default: the run's test set")
    parser.add_argument("--target", type=Path, help="its translation; default: beside it, as .de")
    add_options(parser)
    given = parser.parse_args()
    use_utf8()
    try:
        run = Run(given.run)
        found = contrast(run, *run.pairs(given))
        if found.accuracy is None:
            name = given.source or f"the test set of {given.run}"
            raise UserError(f"{name}: no two lines have the same source text")
    except UserError as error:
        fail(str(error))
    run.unknowns.say()
    say(f"{found.accuracy:.1%} of {found.readings} readings are the most probable of theirs")


if __name__ == "__main__":
    main()
