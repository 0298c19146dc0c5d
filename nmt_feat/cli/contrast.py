"""Reading accuracy by forced scoring: `nmt-feat contrast RUN`.

Of the translations of all readings of a sentence, does the model find that of the annotated one
the most probable? No search takes part. The sentences are the run's test set, or
`--source FILE.conllu --target FILE`, where equal source lines are readings of one another.
"""

from collections import defaultdict

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.cli.texts import add_run_options, make_parser, read_pairs
from nmt_feat.errors import UserError
from nmt_feat.evaluation.metrics import Reading, reading_accuracy
from nmt_feat.evaluation.split_decoding import score_split
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.conllu import Sentence


def contrast_readings(
    model: TrainedModel, sentences: list[Sentence], targets: list[str], where: list[str]
) -> Reading:
    """The accuracy when each sentence's translation is its most probable reading's."""
    readings: dict[str, dict[str, None]] = defaultdict(dict)
    for sentence, target in zip(sentences, targets, strict=True):
        readings[sentence.text][target] = None
    pairs = [(i, target) for i, s in enumerate(sentences) for target in readings[s.text]]
    model.encode_pairs(sentences, targets, where)
    split = model.encode_pairs(
        [sentences[i] for i, _ in pairs],
        [target for _, target in pairs],
        [where[i] for i, _ in pairs],
        count=False,  # each sentence is counted above, once
    )
    budget = model.cfg.trainer.batch_tokens
    scores = score_split(model.model, split, model.feature_names, budget, model.device)
    best: dict[int, tuple[float, str]] = {}
    for (i, target), (logprob, _) in zip(pairs, scores, strict=True):
        best[i] = max(best.get(i, (logprob, target)), (logprob, target))
    chosen = [best[i][1] for i in range(len(sentences))]
    return reading_accuracy([s.text for s in sentences], targets, chosen)


def main() -> None:
    """Score the pairs, and say how many the model has right."""
    parser = make_parser(__doc__)
    add_run_options(parser)
    options = parser.parse_args()
    use_utf8()
    model = TrainedModel(options.run)
    reading = contrast_readings(model, *read_pairs(model, options))
    if reading.accuracy is None:
        name = options.source or f"the test set of {options.run}"
        raise UserError(f"{name}: no two lines have the same source text")
    model.unknowns.say()
    say(f"{reading.accuracy:.1%} of {reading.readings} readings are the most probable of theirs")
