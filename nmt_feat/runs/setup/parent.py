"""A run that starts from the weights of another one, its parent.

table of pieces or values     copied row by row, by the name of the piece or the value
layer, combiner, embedder     copied whole, if all its tensors have the same shape and meaning

Weights that the parent lacks are new: they start as in a run without a parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nmt_feat.base.checksums import check_sums
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.embedders.ids import FIRST
from nmt_feat.errors import UserError, suggest
from nmt_feat.features.contextual import choose_device
from nmt_feat.model.transformer import Transformer
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.setup.artifacts import (
    CONFIG,
    WEIGHTS,
    LoadedModel,
    load_model,
    refuse_unfinished,
)
from nmt_feat.runs.setup.build_model import FEWEST_IDS, build_model
from nmt_feat.runs.setup.initial_vectors import freeze_rows
from nmt_feat.runs.stored.records import FINISHED, STARTED, read_record
from nmt_feat.runs.stored.settings import read_settings
from nmt_feat.text.files import hash_content
from nmt_feat.text.subwords import Subwords

FEATURE_MEANING = ("_target_", "kind", "column", "of", "n", "file", "encoder", "layer", "args")
"""The settings of a feature that say what its embedder reads."""
RowNames = list[str | int]
"""The piece or value of each row of a table; special values are numbers."""


@dataclass
class Inheritance:
    """What a model has inherited from its parent. Parts are named as in the model."""

    run: str
    hash: str
    """The parent's hash."""
    weights: str
    """The hash of the parent's weights."""
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By part: how many of its rows are copied, and of how many; of a part that is not a table,
    tensors are counted."""
    new: list[str] = field(default_factory=list)
    misfits: dict[str, str] = field(default_factory=dict)
    """For each new part that the parent has in another shape, both shapes."""
    frozen: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Parameters that are copied, or of which some rows are."""
    rows: dict[str, Tensor] = field(default_factory=dict)
    """For each parameter of which only some rows are copied, these rows."""

    def as_record(self) -> dict[str, Any]:
        """The entries for the run's record."""
        names = ("run", "hash", "weights", "taken", "new", "frozen")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> list[str]:
        """Lines for people: what is copied, what is new, what is frozen."""
        stacks = {"encoder": [0, 0], "decoder": [0, 0]}
        for part in (*self.taken, *self.new):
            if (stack := part.partition(".")[0]) in stacks:
                stacks[stack][0] += part in self.taken
                stacks[stack][1] += 1
        rows = {part: pair for part, pair in self.taken.items() if part.endswith(".words")}
        phrases = [
            f"{taken:,} of {total:,} rows of {part}" for part, (taken, total) in rows.items()
        ]
        phrases += [f"{n} of {total} layers of the {name}" for name, (n, total) in stacks.items()]
        others = [p for p in self.taken if p not in rows and p.partition(".")[0] not in stacks]
        lines = [f"init.run={self.run}: taken: {', '.join(phrases + others)}"]
        lines += self._describe_new([p for p in self.new if p.partition(".")[0] not in stacks])
        if self.frozen:
            lines.append(f"init.freeze: stays as it is: {', '.join(self.frozen)}")
        return lines

    def _describe_new(self, parts: Sequence[str]) -> list[str]:
        """Lines on new parts: `parts`, and all that the parent has in another shape."""
        by_misfit: dict[str, list[str]] = {}
        for part, misfit in self.misfits.items():
            by_misfit.setdefault(misfit, []).append(part)
        absent = ", ".join(part for part in parts if part not in self.misfits)
        phrases = [absent] if absent else []
        phrases += [f"{', '.join(alike)}: {misfit}" for misfit, alike in by_misfit.items()]
        lines = [f"init.run: new: {'; '.join(phrases)}"] if phrases else []
        if "source.words" in self.misfits:
            lines.append(
                "init.run: so all pieces of the source start anew, and rows that take this table "
                "are favoured: docs/how-to/pretrained.md, A fair comparison"
            )
        return lines


def check_parent(cfg: TrainConfig) -> None:
    """Refuse, before data is read, an unusable parent, and frozen parts that do not exist."""
    if not cfg.init.run:
        return
    folder = Path(cfg.init.run)
    refuse_unfinished(folder)
    check_sums(folder, skipped=("*.hyp", "*.parquet", STARTED))
    read_record(folder / FINISHED)
    settings = read_settings(folder / CONFIG)
    dim = settings.model.dim
    if settings.model.folder:
        raise UserError(
            f"init.run={folder}: has a pretrained model, whose layers differ; give a run without "
            "model.folder"
        )
    if dim != cfg.model.dim:
        raise UserError(
            f"init.run={folder}: its model.dim is {dim}, here it is {cfg.model.dim}, so no "
            f"tensor fits; set model.dim={dim}"
        )
    if cfg.init.freeze:
        _check_frozen_parts(cfg)


def _check_frozen_parts(cfg: TrainConfig) -> None:
    """Refuse an entry of `init.freeze` that names no part of the model."""
    sizes = dict.fromkeys(cfg.features, FEWEST_IDS)
    with torch.device("meta"):  # names are all that is needed
        model = build_model(cfg, sizes, FEWEST_IDS, FEWEST_IDS)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for entry in cfg.init.freeze:
        if not any(_is_inside(name, entry) for name in names):
            parts = dict.fromkeys(("encoder", "decoder", *(_name_part(n, model) for n in names)))
            raise UserError(
                f"init.freeze=[{entry}]: no part of the model; {suggest(entry, list(parts))}"
            )


def inherit_weights(
    model: TranslationModel, cfg: TrainConfig, encoder: SourceEncoder, target: Subwords
) -> Inheritance:
    """Copy the weights of a parent into an untrained model where they fit, and freeze parts."""
    assert isinstance(model, Transformer)
    folder = Path(str(cfg.init.run))
    settings = read_settings(folder / CONFIG)
    parent = load_model(folder, settings, choose_device(cfg.trainer.accelerator))
    assert isinstance(parent.model, Transformer)
    record = read_record(folder / FINISHED)
    inherited = Inheritance(str(folder), record.hash, hash_content(folder / WEIGHTS))
    for part, transfers in _plan_transfers(model, encoder, target, parent).items():
        agrees = _means_the_same(part, model, cfg, encoder, parent, settings)
        if not agrees or not all(transfer.fits for transfer in transfers):
            inherited.new.append(part)
            misfits = [transfer.describe_misfit(part) for transfer in transfers if agrees]
            if misfit := next(filter(None, misfits), None):
                inherited.misfits[part] = misfit
            continue
        counts = [_copy(transfer, inherited) for transfer in transfers]
        taken, total = map(sum, zip(*counts, strict=True))
        inherited.taken[part] = (taken, total)
    _freeze(model, cfg.init.freeze, inherited)
    return inherited


def _plan_transfers(
    model: Transformer, encoder: SourceEncoder, target: Subwords, parent: LoadedModel
) -> dict[str, list[Transfer]]:
    """By part of the model, its parameters with the parent's tensors of the same names."""
    assert isinstance(parent.model, Transformer)
    tensors = dict(parent.model.named_parameters(remove_duplicate=False))
    row_names = name_rows(model, encoder, target)
    parent_row_names = name_rows(parent.model, parent.encoder, parent.target)
    parts: dict[str, list[Transfer]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # has ready-made values: vectors of a file, an encoder
            continue
        name_there, rows = _name_in_parent(name, model, parent.model), None
        if name in row_names and name_there in parent_row_names:
            rows = row_names[name], parent_row_names[name_there]
        transfer = Transfer(name, parameter, tensors.get(name_there), rows)
        parts.setdefault(_name_part(name, model), []).append(transfer)
    return parts


class Transfer(NamedTuple):
    """A parameter, and the parent's tensor that may be copied into it."""

    name: str
    parameter: nn.Parameter
    source: Tensor | None
    """The parent's tensor; None if the parent has none of this name."""
    rows: tuple[RowNames, RowNames] | None
    """What the rows of a table stand for, here and in the parent; None for other parameters."""

    @property
    def fits(self) -> bool:
        """Whether the parent's tensor has the same shape, or rows of the same width."""
        if self.source is None:
            return False
        first = 1 if self.rows else 0
        return self.source.shape[first:] == self.parameter.shape[first:]

    def describe_misfit(self, part: str) -> str | None:
        """Both shapes, if the parent has this parameter of a `part` in another shape."""
        if self.source is None or self.fits:
            return None
        here, there = self.parameter.shape, self.source.shape
        if self.rows:
            return f"{here[-1]} wide here, {there[-1]} in the parent"
        name = self.name.removeprefix(f"{part}.")
        return f"{name} is {tuple(here)} here, {tuple(there)} in the parent"


def name_rows(model: Transformer, encoder: SourceEncoder, target: Subwords) -> dict[str, RowNames]:
    """For each parameter that is a table of pieces or values: what its rows stand for."""
    inserted = model.method.name_tokens(encoder.name_values())
    names: dict[str, RowNames] = {
        "source.words.weight": [*encoder.subwords.names, *inserted],
        "target.words.weight": list(target.names),
    }
    special: RowNames = list(range(FIRST))
    for feature, embedder in model.feature_embedding.features.items():
        vocabulary = encoder.features[feature]
        values = encoder.kinds[feature].name_ids(vocabulary) or vocabulary.values
        prefix = f"{_path_of(model.feature_embedding, model)}.features.{feature}"
        for path, module in embedder.named_modules(prefix=prefix):
            # An embedder may have further tables of another length, such as one of positions.
            if isinstance(module, nn.Embedding) and len(module.weight) == FIRST + len(values):
                names[f"{path}.weight"] = [*special, *values]
    return names


@torch.no_grad()
def _copy(transfer: Transfer, inherited: Inheritance) -> tuple[int, int]:
    """Copy a tensor, or rows of the same names; the number of copied ones, and of all."""
    parameter, source = transfer.parameter, transfer.source
    assert source is not None
    inherited.names.append(transfer.name)
    if transfer.rows is None:
        parameter.copy_(source)
        return 1, 1
    names, names_there = transfer.rows
    row_there = {name: row for row, name in enumerate(names_there)}
    pairs = [(row, row_there[name]) for row, name in enumerate(names) if name in row_there]
    rows, source_rows = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    parameter[rows] = source[source_rows]
    if len(rows) < len(parameter):
        inherited.rows[transfer.name] = rows
    return len(rows), len(parameter)


def _means_the_same(
    part: str,
    model: Transformer,
    cfg: TrainConfig,
    encoder: SourceEncoder,
    parent: LoadedModel,
    settings: TrainConfig,
) -> bool:
    """Whether a part of the model has the same meaning in the parent; shapes are checked elsewhere.

    `settings` are the parent's.
    """
    embedding = _path_of(model.feature_embedding, model)
    if part.startswith(f"{embedding}.features."):
        name = part.rpartition(".")[2]
        if name not in settings.features:
            return False
        here, there = cfg.features[name], settings.features[name]
        return all(getattr(here, key) == getattr(there, key) for key in FEATURE_MEANING)
    if part == f"{embedding}.combiner":
        combiner = model.feature_embedding.combiner
        combiner_there = parent.model.feature_embedding.combiner
        same_class = type(combiner) is type(combiner_there)
        # As lists, because the order of the parts matters.
        same_widths = [*combiner.widths.items()] == [*combiner_there.widths.items()]
        return same_class and same_widths and cfg.combiner.args == settings.combiner.args
    if part == "method":
        same_values = encoder.name_values() == parent.encoder.name_values()
        # As for encoder and decoder below: the shapes of layers do not tell the number of heads.
        same_heads = not model.method.has_encoders or cfg.model.heads == settings.model.heads
        return cfg.method == settings.method and same_values and same_heads
    if part.partition(".")[0] in ("encoder", "decoder"):
        # Such a decoder attends to the encoders of the features: which ones, no shape tells.
        attends_alike = not (part.startswith("decoder.") and model.method.attends_to_each) or (
            cfg.method == settings.method and [*cfg.features] == [*settings.features]
        )
        return cfg.model.heads == settings.model.heads and attends_alike
    return True


def _freeze(model: Transformer, entries: Sequence[str], inherited: Inheritance) -> None:
    """Remove the gradient of copied weights in these parts; new weights in them are trained."""
    # With model.tie=all one table has two names: either name freezes it, and it counts once.
    frozen_ids = {
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if any(_is_inside(name, entry) for entry in entries)
    }
    for name, parameter in model.named_parameters():
        if id(parameter) not in frozen_ids or name not in inherited.names:
            continue
        if (rows := inherited.rows.get(name)) is None:
            parameter.requires_grad_(False)
        else:
            freeze_rows(parameter, rows)
            model.source.fixed_count += len(rows) * parameter[0].numel()
        inherited.frozen.append(name.removesuffix(".weight"))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"init.freeze=[{','.join(entries)}]: nothing remains to be trained; leave a part out"
        )


def _is_inside(name: str, part: str) -> bool:
    """Whether a parameter (`encoder.0.norm.weight`) is a part or inside it (`encoder`)."""
    return f"{name}.".startswith(f"{part}.")


def _path_of(module: nn.Module, model: nn.Module) -> str:
    """The dotted name of a module in a model."""
    path: str = next(path for path, candidate in model.named_modules() if candidate is module)
    return path


def _name_part(name: str, model: Transformer) -> str:
    """The part of the model that a parameter belongs to, such as `encoder.0`."""
    embedding = _path_of(model.feature_embedding, model)
    for prefix, depth in ((f"{embedding}.features", 1), (f"{embedding}.combiner", 0)):
        if _is_inside(name, prefix):
            return ".".join(name.split(".")[: len(prefix.split(".")) + depth])
    names = name.split(".")
    return ".".join(names[: 1 if names[0] in ("method", "encoder_norm", "decoder_norm") else 2])


def _name_in_parent(name: str, model: Transformer, parent: Transformer) -> str:
    """A parameter's name in the parent, where features may be in another module."""
    # One table for both sides starts from the parent's target table, which has the right width.
    if name == "source.words.weight" and model.source.words is model.target.words:
        return "target.words.weight"
    path = _path_of(model.feature_embedding, model)
    for part in ("features", "combiner"):
        if _is_inside(name, f"{path}.{part}"):
            return f"{_path_of(parent.feature_embedding, parent)}{name.removeprefix(path)}"
    return name
