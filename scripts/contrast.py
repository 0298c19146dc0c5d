"""Reading accuracy by forced scoring: `python scripts/contrast.py RUN`.

Of the German of all readings of an English sentence, does the model find that of the annotated one
the most probable? No search takes part. The sentences are the embedded corpus's test set, or
`--source FILE.conllu --target FILE`, where equal English lines are readings of one another.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from nmt_feat.apply import Run
from nmt_feat.corpus.conllu import Sentence
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.metrics import Reading, reading_accuracy
from nmt_feat.resources import resource
from nmt_feat.search import score_split
from nmt_feat.terminal import say, use_utf8


def contrast(run: Run, sentences: list[Sentence], targets: list[str], where: str) -> Reading:
    """The accuracy when each sentence's translation is its most probable reading's."""
    readings: dict[str, dict[str, None]] = defaultdict(dict)
    for sentence, target in zip(sentences, targets, strict=True):
        readings[sentence.text][target] = None
    pairs = [(i, target) for i, s in enumerate(sentences) for target in readings[s.text]]
    split = run.split(
        [sentences[i] for i, _ in pairs],
        [target for _, target in pairs],
        [f"{where}: sentence {i + 1}" for i, _ in pairs],
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
    test = resource("data/embedded") / "test.conllu"
    parser.add_argument("--source", type=Path, default=test, help="annotated English, CoNLL-U")
    parser.add_argument("--target", type=Path, help="its German; default: beside it, as .de")
    given = parser.parse_args()
    use_utf8()
    target = given.target or given.source.with_suffix(".de")
    try:
        run = Run(given.run)
        sentences, targets, _ = run.read(str(given.source), str(target))
        found = contrast(run, sentences, targets, str(given.source))
        if found.accuracy is None:
            raise UserError(f"{given.source}: no two lines have the same English")
    except UserError as error:
        fail(str(error))
    say(f"{found.accuracy:.1%} of {found.readings} readings are the most probable of theirs")


if __name__ == "__main__":
    main()
