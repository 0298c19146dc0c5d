"""Methods that write features into the source: they add tokens to the splits of prepared data.

This happens before training, so that batches, budgets and search count the tokens that the model
reads. All tokens still have values of features: a tag has those of its word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nmt_feat.base.ragged import Ragged
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.instantiate import naming_failures
from nmt_feat.config.method_choice import build_method
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.alignment import Ids, SourceEncoder
from nmt_feat.data.building import WORD
from nmt_feat.data.prepare import Prepared
from nmt_feat.data.report import describe_split
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.methods import Method
from nmt_feat.text.sentences import Booleans


def find_word_begins(split: EncodedSplit, begins: Sequence[int] | None) -> Booleans:
    """Whether each piece is the first one of its word; false for end symbols.

    `begins`: the ids of the values of the feature `WORD` that begin a word; None if each piece is a
    word.
    """
    is_begin = np.ones(len(split.source.values), bool)
    if begins is not None:
        is_begin = np.isin(split.features[WORD], begins)
    is_begin[split.source.offsets[1:] - 1] = False
    return is_begin


def move_joined_values(
    split: EncodedSplit, vocabs: Mapping[str, FeatureVocab], begins: Booleans
) -> dict[str, Ids]:
    """The ids of features, where the first piece of each word has all values of its pieces.

    With `cover=join` and `policy=copy`, a piece that covers several words has the values of all of
    them, which only the last piece of a word does. So its value is moved to the first piece:

        pieces     ▁학   교에             words  학교, 에
        upos       NOUN  NOUN+ADP    ->   NOUN+ADP  NOUN+ADP

    A word that begins no piece, such as 에, has no tags but these.
    """
    features = dict(split.features)
    is_border = begins.copy()
    is_border[split.source.offsets[1:] - 1] = True
    starts, borders = np.flatnonzero(begins), np.flatnonzero(is_border)
    last_pieces = borders[np.searchsorted(borders, starts, side="right")] - 1
    for name, vocab in vocabs.items():
        if vocab.ends_joined:
            features[name] = features[name].copy()  # the split stays as it is
            features[name][starts] = features[name][last_pieces]
    return features


def insert_tokens(
    split: EncodedSplit, method: Method, begins: Booleans, encoder: SourceEncoder
) -> EncodedSplit:
    """The split with the method's tokens in its source; `encoder` has pieces and vocabularies."""
    source = split.source
    values = move_joined_values(split, encoder.features, begins)
    with naming_failures(type(method), Method):
        tokens, places = method.insert_tokens(source.values, values, begins, encoder.subwords.size)
    if tokens.shape != places.shape:
        raise UserError(
            f"{_name_class(method)}: insert_tokens gives {tokens.size:,} ids at {places.size:,} "
            "pieces; give each id a piece"
        )
    ends = np.append(0, np.cumsum(np.bincount(places, minlength=len(source.values))))
    features = {name: ids[places] for name, ids in split.features.items()}
    return split.with_source(Ragged(tokens, ends[source.offsets]), features)


def _name_class(method: Method) -> str:
    return f"{type(method).__module__}.{type(method).__qualname__}"


def interleave(cfg: TrainConfig, prepared: Prepared, begins: dict[str, Booleans]) -> None:
    """Put the tokens of the run's method into all splits; `begins` by split."""
    encoder = prepared.encoder
    method = build_method(cfg.method, cfg.model.dim, encoder.id_counts)
    size, tags = encoder.subwords.size, method.count_tokens(encoder.id_counts)

    def change(split: EncodedSplit, name: str) -> EncodedSplit:
        changed = insert_tokens(split, method, begins[name], encoder)
        if not ((ids := changed.source.values) < size + tags).all():
            raise UserError(
                f"{_name_class(method)}: insert_tokens gives the id {ids.max():,}; ids go up to "
                f"{size + tags - 1:,}, of {size:,} pieces and {tags:,} tokens of count_tokens"
            )
        return changed

    before = prepared.train.source_lengths
    prepared.train, prepared.dev = change(prepared.train, "train"), change(prepared.dev, "dev")
    prepared.tests = {name: change(split, name) for name, split in prepared.tests.items()}
    if redraw := prepared.redraw:
        prepared.redraw = lambda epoch: change(redraw(epoch), "train")
    for name, split in {"train": prepared.train, **prepared.tested_splits}.items():
        prepared.report.splits[name] = describe_split(split)
    after = prepared.train.source_lengths
    prepared.notes.append(
        f"method={shorten_class_name(cfg.method._target_)}: {int(begins['train'].sum()):,} words "
        f"of train have tags in the source: {after.mean():.1f} tokens a sentence in place of "
        f"{before.mean():.1f}, {after.max():,} at most in place of {before.max():,}, and a "
        f"vocabulary of {size + tags:,} in place of {size:,}"
    )
