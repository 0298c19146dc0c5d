"""How much a run relies on its annotation: `python scripts/reliance.py RUN`.

The same weights translate a text with its true annotation, with all of it unknown, and with that of
other words: one permutation of the words moves all their values together, drawn `--draws` times.
The text is the run's test set, or `--source FILE.conllu --target FILE`; plain text is annotated as
in training. What follows from the pieces (subword tag, units of pieces) is left alone.
"""

import argparse
import statistics
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.controls import Tokens
from nmt_feat.data.prepare import WORD
from nmt_feat.data.store import EncodedSplit, encode_split
from nmt_feat.embedders.ids import UNK
from nmt_feat.errors import UserError, fail
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metrics import reading_accuracy, score
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.features.columns import FeatureVocab
from nmt_feat.runs.inputs import add_options
from nmt_feat.runs.trained_model import Run
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.sentences import Sentences


class Reliance:
    """A run, and a text with its translation, encoded with the places where words begin."""

    def __init__(
        self, run: Run, sentences: list[Sentence], targets: list[str], where: list[str]
    ) -> None:
        self.run, vocabs = run, run.encoder.features
        self.moved = {name: vocab for name, vocab in vocabs.items() if not vocab.of_pieces}
        if not self.moved:
            raise UserError(f"{run.folder}: has no features of words; there is nothing to replace")
        tag = FeatureVocab.build(FeatureConfig(column="subword_tag"), Counter("BIEO"))
        encoder = run.encoder.with_features(vocabs | {WORD: tag})
        described = encoder.describe(Sentences.of(sentences), where)
        encoded = encode_split(encoder, run.target, described, targets)
        self.true = run.attached(encoded, described.texts, where)
        whole = run.cfg.subword.kind == "none"  # each piece is a word
        begins = None if whole else [tag.id("B"), tag.id("O")]
        self.tokens = Tokens.of(self.true, self.moved, begins)

    def unknown(self) -> EncodedSplit:
        """All values of words unknown, as those of a sentence without annotation."""
        values = {name: np.full_like(ids, UNK) for name, ids in self.tokens.values.items()}
        return self.tokens.with_values(values, self.true)

    def shuffled(self, draw: int) -> EncodedSplit:
        """The values of other words, those of a word together."""
        order = np.random.default_rng(draw).permutation(len(self.tokens.starts))
        values = {name: ids[order] for name, ids in self.tokens.values.items()}
        return self.tokens.with_values(values, self.true)

    def scores(self, split: EncodedSplit) -> dict[str, float]:
        """BLEU, chrF and, where sources have several readings, the share of right ones."""
        run = self.run
        found = translate_split(
            run.model, split, list(run.cfg.features), run.cfg.decoding, run.device
        )
        best = [run.target.decode(hypotheses[0].ids) for hypotheses in found]
        scoring = choose_scoring(run.cfg.data)
        scores = score(best, split.target_texts, scoring.tokenized, scoring.tokenizer)
        values = {"BLEU": scores.bleu, "chrF": scores.chrf}
        reading = reading_accuracy(split.source_texts, split.target_texts, best).accuracy
        return values if reading is None else values | {"right readings, %": 100 * reading}


def main() -> None:
    """Translate with each annotation, and show the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--source", type=Path, help="a text; default: the run's test set")
    parser.add_argument("--target", type=Path, help="its translation; default: beside it, as .de")
    add_options(parser)
    parser.add_argument("--draws", type=int, default=3, help="permutations of the words")
    given = parser.parse_args()
    use_utf8()
    try:
        if given.draws < 1:
            raise UserError(f"--draws {given.draws}: must be at least 1")
        run = Run(given.run)
        pairs = run.pairs(given)
        run.split(*pairs)  # which counts what is unknown
        text = Reliance(run, *pairs)
        rows = {"true": [text.scores(text.true)], "unknown": [text.scores(text.unknown())]}
        rows["shuffled"] = [text.scores(text.shuffled(i)) for i in range(given.draws)]
    except UserError as error:
        fail(str(error))
    say("\t".join(["annotation", *rows["true"][0]]))
    for name, draws in rows.items():
        cells = []
        for key in draws[0]:
            values = [draw[key] for draw in draws]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        say("\t".join([name, *cells]))
    say(f"replaced: {', '.join(text.moved)}", file=sys.stderr)
    run.unknowns.say()
    seen = [f.dropout or f.sentence_dropout for f in run.cfg.features.values()]
    if not any(seen):
        say(
            "unknown: the run was trained without features.*.dropout, it hardly knows that value",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
