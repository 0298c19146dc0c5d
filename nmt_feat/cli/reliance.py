"""How much a run relies on its annotation: `nmt-feat reliance RUN`.

The same weights translate a text three times: with its true annotation, with unknown values, and
with the values of other words. For these, one permutation of the words moves all their values
together; `--draws` says how many permutations are drawn. Values of whole sentences, such as a
domain, move from sentence to sentence. The text is the run's test set, or
`--source FILE.conllu --target FILE`; plain text is annotated as in training. Features that follow
from the pieces (subword tag, units of pieces) stay as they are.
"""

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import add_run_options, make_parser, read_pairs
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.alignment import Ids
from nmt_feat.data.building import WORD
from nmt_feat.data.controls import find_carriers
from nmt_feat.data.interleaving import find_word_begins
from nmt_feat.data.store import EncodedSplit, encode_split
from nmt_feat.embedders.ids import UNK
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.readings import measure_readings
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.evaluation.split_decoding import translate_split
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import VocabularyBasis
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence


class Reliance:
    """A run, and an encoded text with its translation, in which the words can change values."""

    def __init__(
        self, model: TrainedModel, sentences: list[Sentence], targets: list[str], where: list[str]
    ) -> None:
        self.model, vocabs = model, model.encoder.features
        kinds = model.encoder.kinds
        self.moved = {name: v for name, v in vocabs.items() if not kinds[name].of_pieces}
        if not self.moved:
            raise UserError(
                f"{model.folder}: has no features of words; there is nothing to replace"
            )
        # A feature that the run need not have: which pieces begin a word (B, or O alone).
        tags = choose_kind(WORD, FeatureConfig(column="subword_tag"))
        tag = tags.build_vocabulary(Counter("BIEO"), VocabularyBasis())
        encoder = model.encoder.with_features(vocabs | {WORD: tag})
        described = model.describe_sentences(sentences, where, encoder)
        encoded = encode_split(encoder, model.target, described, targets)
        self.true = model.attach_states(encoded, described.words.texts, where)
        whole = model.cfg.subword.kind == "none"  # each piece is a word
        begins = None if whole else [tag.id_of("B"), tag.id_of("O")]
        self.begins = find_word_begins(self.true, begins)
        self.carriers = find_carriers(self.true, self.moved, kinds, begins)

    def make_unknown(self) -> EncodedSplit:
        """The text with unknown values, like a sentence without annotation."""

        def erase(values: dict[str, Ids]) -> dict[str, Ids]:
            return {name: np.full_like(ids, UNK) for name, ids in values.items()}

        return self._replace_values(erase)

    def shuffle_words(self, draw: int) -> EncodedSplit:
        """The text with the values of other words; all values of a word move together."""
        random = np.random.default_rng(draw)

        def shuffle(values: dict[str, Ids]) -> dict[str, Ids]:
            order = random.permutation(len(next(iter(values.values()))))
            return {name: ids[order] for name, ids in values.items()}

        return self._replace_values(shuffle)

    def _replace_values(self, change: Callable[[dict[str, Ids]], dict[str, Ids]]) -> EncodedSplit:
        """The text with other values: `change` gets those of all words, then of all sentences."""
        split = self.true
        for carriers in self.carriers.values():
            tokens = replace(carriers, split=split)
            split = tokens.with_values(change(tokens.values), split)
        return split

    def score_translations(self, split: EncodedSplit) -> dict[str, float]:
        """BLEU, chrF and, where sources have several readings, the share of right ones."""
        model, cfg = self.model, self.model.cfg
        split = model.insert_tokens(split, self.begins)
        results = translate_split(
            model.model, split, model.feature_names, cfg.decoding, model.device
        )
        best = [model.target.decode(hypotheses[0].ids) for hypotheses in results]
        scoring = choose_scoring(cfg.data)
        scores = score_translations(best, split.target_texts, scoring)
        values = {"BLEU": scores.bleu, "chrF": scores.chrf}
        reading = measure_readings(split.source_texts, split.target_texts, best).accuracy
        return values if reading is None else values | {"right readings, %": 100 * reading}


def format_rows(rows: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """A line for each annotation: the mean of each score over its draws, and their spread."""
    yield "\t".join(["annotation", *rows["true"][0]])
    for name, draws in rows.items():
        cells = []
        for key in draws[0]:
            values = [draw[key] for draw in draws]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        yield "\t".join([name, *cells])


def main() -> None:
    """Translate with each annotation, and show the scores."""
    parser = make_parser(__doc__)
    add_run_options(parser)
    parser.add_argument("--draws", type=int, default=3, help="permutations of the words")
    options = parser.parse_args()
    if options.draws < 1:
        raise UserError(f"--draws {options.draws}: must be at least 1")
    model = TrainedModel(options.run)
    pairs = read_pairs(model, options)
    model.encode_pairs(*pairs)  # which counts what is unknown
    text = Reliance(model, *pairs)
    shuffled = [text.shuffle_words(draw) for draw in range(options.draws)]
    variants = {"true": [text.true], "unknown": [text.make_unknown()], "shuffled": shuffled}
    rows = {name: [*map(text.score_translations, splits)] for name, splits in variants.items()}
    for line in format_rows(rows):
        say(line)
    say(f"replaced: {', '.join(text.moved)}", file=sys.stderr)
    model.unknowns.say()
    if not any(f.dropout or f.sentence_dropout for f in model.cfg.features.values()):
        say(
            "unknown: trained without features.*.dropout, the run hardly knows this value",
            file=sys.stderr,
        )
