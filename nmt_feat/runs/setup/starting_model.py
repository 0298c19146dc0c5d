"""The model that training starts from, and the number of its parameters (`control=matched`)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from nmt_feat.config.identity import name_run_method
from nmt_feat.config.schema import CombinerConfig, MethodConfig, TrainConfig
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError, short_repr
from nmt_feat.features import Contextual
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.pretrained.lora import MATRICES
from nmt_feat.pretrained.model import PARTS, PretrainedModel
from nmt_feat.runs.setup.artifacts import build_run_model
from nmt_feat.runs.setup.initial_vectors import set_initial_vectors
from nmt_feat.runs.setup.parent import Inheritance, inherit_weights


def match_parameters(cfg: TrainConfig, console: Console) -> TrainConfig:
    """Settings of words only, with a `model.ffn_dim` that gives as many parameters as `cfg` has.

    The data is prepared with the features, because tables are as large as their vocabularies.

    Raises:
        UserError: the numbers differ by more than 0.5 %.
    """
    prepared = prepare(cfg, cfg.features)
    plain = copy.deepcopy(cfg)
    plain.combiner, plain.features, plain.method = CombinerConfig(), {}, MethodConfig()
    plain.model.source_words = True

    def count_with_width(cfg: TrainConfig, ffn_dim: int) -> int:
        changed = copy.deepcopy(cfg)
        changed.model.ffn_dim = ffn_dim
        vocabs = {name: prepared.encoder.features[name] for name in cfg.features}
        encoder = prepared.encoder.with_features(vocabs)
        return count_parameters(build_run_model(changed, encoder, prepared.target))["total"]

    width, goal = cfg.model.ffn_dim, count_with_width(cfg, cfg.model.ffn_dim)
    count = count_with_width(plain, width)
    per_width = count_with_width(plain, width + 1) - count  # the number is linear in the width
    plain.model.ffn_dim = max(1, width + round((goal - count) / per_width))
    total = count_with_width(plain, plain.model.ffn_dim)
    name = name_run_method(cfg)
    if abs(total / goal - 1) > 0.005:
        raise UserError(
            f"control=matched: model.ffn_dim={plain.model.ffn_dim} gives {total:,} parameters, "
            f"{name} has {goal:,}; widen the model"
        )
    console.print(
        f"control=matched: words only with model.ffn_dim={plain.model.ffn_dim}, not {width}: "
        f"{total:,} parameters, {name} has {goal:,}"
    )
    return plain


class StartingModel(NamedTuple):
    """The model that training starts from."""

    model: TranslationModel
    notes: list[str]
    """Notes for the user on its start, one in a line."""
    inheritance: Inheritance | None = None
    """The weights that it has from another run or from a pretrained model."""

    @property
    def inherited(self) -> list[str]:
        """The names of the parameters with such weights."""
        return self.inheritance.names if self.inheritance else []


def build_untrained(cfg: TrainConfig, prepared: Prepared) -> StartingModel:
    """The model that training starts from, with ready-made vectors and weights trained before."""
    model = build_run_model(cfg, prepared.encoder, prepared.target)
    refuse_long_pairs(model, prepared)
    notes = set_initial_vectors(model, cfg, prepared)
    kinds = choose_kinds(cfg.features)
    for name, embedder in model.feature_embedding.features.items():
        notes += kinds[name].describe_embedder(embedder)
    if isinstance(model, PretrainedModel):
        return _start_from_pretrained(model, cfg, notes)
    if not cfg.init.run:
        return StartingModel(model, notes)
    inheritance = inherit_weights(model, cfg, prepared.encoder, prepared.target)
    return StartingModel(model, notes + inheritance.describe(), inheritance)


def refuse_long_pairs(model: TranslationModel, prepared: Prepared) -> None:
    """Refuse pairs, before anything is trained or translated, that the model cannot read."""
    for name, split in {"train": prepared.train, **prepared.tested_splits}.items():
        sides = {
            "source": (split.source_lengths + len(split.tags) - 1, model.longest_source),
            "target": (split.target_lengths - 1, model.longest_target),
        }
        for side, (lengths, most) in sides.items():
            row = int(lengths.argmax())
            if lengths[row] <= most:
                continue
            advice = "shorten it, or leave the pair out"
            if name == "train":
                advice = f"set data.max_pieces={most}"
            raise UserError(
                f"{name}: the {side} {short_repr(split.texts(side)[row])} has {lengths[row]:,} "
                f"pieces, the pretrained model reads {most:,} at most; {advice}"
            )


def _start_from_pretrained(
    model: PretrainedModel, cfg: TrainConfig, notes: list[str]
) -> StartingModel:
    folder = open_folder(str(cfg.model.folder))
    if not model.external_weights:  # otherwise they are loaded already
        model.load_weights(folder.path)
    names = [name for name, _ in model.named_parameters() if name.partition(".")[0] in PARTS]
    weights = folder.hash_weights(Path(cfg.paths.cache))
    inheritance = Inheritance(str(cfg.model.folder), "", weights, names=names)
    taken = [name for name in names if MATRICES not in name]
    inheritance.taken = {
        part: (count, count) for part in PARTS if (count := sum(n.startswith(part) for n in taken))
    }
    inheritance.frozen = (
        list(inheritance.taken) if cfg.init.lora.rank else sorted(model.external_weights)
    )
    total = sum(parameter.numel() for parameter in model.network.parameters())
    trained = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    note = f"{folder.where}: {total:,} parameters; {trained:,} of them are trained"
    return StartingModel(model, [*notes, note], inheritance)


def count_parameters(model: TranslationModel) -> dict[str, int]:
    """The numbers of trainable parameters of a model.

    Returns:
        Of the whole model (`total`), the combiner, the features' embedders (`features`); if there
        are any, of trained language models (`encoders`), which are not counted as embedders; and of
        the rest of the method (`method`).
    """
    source = model.feature_embedding
    parts = {
        "total": model,
        "combiner": source.combiner,
        "features": source.features,
        "method": model.method,
    }
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in parts.items()
    }
    counts["total"] -= model.source.fixed_count
    if source is not model.source:  # combiner and embedders are inside of the method
        counts["method"] -= counts["combiner"] + counts["features"]
    if not counts["method"]:
        del counts["method"]
    encoders = [f.encoder for f in source.features.values() if isinstance(f, Contextual)]
    if trained := [p for e in encoders if e is not None for p in e.parameters()]:
        counts["encoders"] = sum(p.numel() for p in trained if p.requires_grad)
        counts["features"] -= counts["encoders"]
    return counts
