"""A pretrained model in a run: its settings are checked and completed, and it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nmt_feat.combiners import Combiner
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.config.schema import LoraConfig, ModelConfig, TrainConfig
from nmt_feat.embedders.categorical import Categorical
from nmt_feat.embedders.sequence import Max, Mean, Sum
from nmt_feat.errors import UserError, suggest
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.pretrained.families import SIZES, Family, choose_family
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.pretrained.lora import choose_layers, peft
from nmt_feat.pretrained.model import PARTS, PretrainedModel, build_network
from nmt_feat.pretrained.pieces import ModelPieces
from nmt_feat.runs.setup.build_model import FEWEST_IDS, build_feature_parts

USABLE_COMBINERS = "none, add, weighted_sum, additive_gate, concat_project, gate or word_gate"
"""The combiners that can start as the word alone."""
FREE_SETTINGS = ("folder", "languages", "prefix", "embedding_std")
"""Settings of the model that every pretrained model leaves free; those of dropout are added."""


def complete_pretrained(cfg: TrainConfig) -> None:
    """Set the sizes of a pretrained model, if there is one; refuse settings that contradict it."""
    if not cfg.model.folder:
        if cfg.subword.kind == "pretrained":
            raise UserError(
                "subword.kind=pretrained: follows from model.folder=FOLDER; set that, or another"
            )
        return
    where = f"model.folder={cfg.model.folder}"
    folder = open_folder(cfg.model.folder)
    folder.check_files()
    config, family = folder.config, folder.family
    pieces = ModelPieces(folder)
    source, _ = pieces.subwords
    for name, value, default in _other_settings(cfg, family):
        if value != default:
            raise UserError(f"{where} {name}={value}: does not go with a pretrained model")
    for name, key in family.sizes.items():
        value = getattr(cfg.model, name)
        if value not in (config[key], getattr(ModelConfig, name)):
            raise UserError(
                f"{where} model.{name}={value}: the pretrained model has {config[key]}; leave it "
                "out"
            )
        setattr(cfg.model, name, config[key])
    for entry in cfg.init.freeze:
        if entry.partition(".")[0] not in PARTS:
            raise UserError(f"init.freeze=[{entry}]: no such part; {suggest(entry, PARTS)}")
        if entry.partition(".")[0] == "output" and has_one_table(config):
            raise UserError(
                f"init.freeze=[{entry}]: the output layer of this model is the table of its words; "
                "freeze words"
            )
    if cfg.init.lora.rank:
        _complete_lora(cfg.init.lora, config, family)
    _describe_model(cfg, pieces)  # a language that the model lacks is an error
    cfg.subword = SubwordConfig(kind="pretrained", vocab_size=source.size)


def has_one_table(config: Mapping[str, Any]) -> bool:
    """Whether a pretrained model has one table for its words and its output layer."""
    with torch.device("meta"):
        network = build_network(config, {})
    return network.get_output_embeddings().weight is network.get_input_embeddings().weight


def choose_dropouts(model: ModelConfig, family: Family) -> dict[str, float]:
    """The settings of dropout under the names of the pretrained model's configuration."""
    return {key: getattr(model, name) for name, key in family.dropouts.items()}


def _complete_lora(settings: LoraConfig, config: Mapping[str, Any], family: Family) -> None:
    """Choose the layers that LoRA trains; refuse names of no layer, before a model is built."""
    peft()
    settings.modules = sorted(set(settings.modules or family.projections))
    with torch.device("meta"):
        choose_layers(build_network(config, {}), settings.modules)


def _other_settings(cfg: TrainConfig, family: Family) -> list[tuple[str, Any, Any]]:
    """Name, value and required value of settings that do not go with a model of this family."""
    free = {*FREE_SETTINGS, *SIZES, *family.dropouts}
    model = [f.name for f in fields(ModelConfig) if f.name not in free]
    settings = [(f"model.{n}", getattr(cfg.model, n), getattr(ModelConfig(), n)) for n in model]
    subword = [f.name for f in fields(SubwordConfig) if f.name not in ("vocab_size", "kind")]
    settings += [
        (f"subword.{n}", getattr(cfg.subword, n), getattr(SubwordConfig, n)) for n in subword
    ]
    kind = "bpe" if cfg.subword.kind == "pretrained" else cfg.subword.kind
    settings.append(("subword", kind, "bpe"))
    settings.append(("method", shorten_class_name(cfg.method._target_), "embedding"))
    settings.append(("init.run", cfg.init.run, None))
    settings.append(("control", cfg.control if cfg.control == "matched" else "none", "none"))
    return settings


def check_start(cfg: TrainConfig) -> None:
    """Refuse combiners and features with which the run would not start as the pretrained model."""
    if cfg.model.folder:
        for name, feature in cfg.features.items():
            if feature.policy == "tag":
                raise UserError(
                    f"features.{name}.policy=tag: a token before the sentence changes what a "
                    f"pretrained model reads; set features.{name}.policy=copy"
                )
        parts = build_feature_parts(cfg, dict.fromkeys(cfg.features, FEWEST_IDS))
        start_as_word(parts.combiner, parts.embedders)


@torch.no_grad()
def start_as_word(combiner: Combiner, embedders: Mapping[str, nn.Module]) -> None:
    """Set weights with which the combiner returns the word, whatever the features are."""
    name = shorten_class_name(f"{type(combiner).__module__}.{type(combiner).__qualname__}")
    if not combiner.start_as_word():
        raise UserError(
            f"combiner={name}: cannot start as the word alone, which a pretrained model needs; "
            f"choose {USABLE_COMBINERS}"
        )
    if not combiner.needs_zero_parts:
        return
    for feature, embedder in embedders.items():
        if not isinstance(embedder, Categorical | Mean | Max | Sum):
            raise UserError(
                f"combiner={name} features.{feature}: {type(embedder).__name__} does not start at "
                "zero, which a pretrained model needs; choose concat_project, gate or word_gate"
            )
        embedder.table.weight.zero_()


def describe_pretrained(cfg: TrainConfig) -> dict[str, Any]:
    """The description from which the pretrained model of the settings is built."""
    return _describe_model(cfg, ModelPieces(open_folder(str(cfg.model.folder))))


def _describe_model(cfg: TrainConfig, pieces: ModelPieces) -> dict[str, Any]:
    cache = Path(cfg.paths.cache)
    return pieces.describe_model(cache, choose_languages(cfg), cfg.model.prefix)


def choose_languages(cfg: TrainConfig) -> list[str]:
    """The names of source and target language in the pretrained model."""
    return cfg.model.languages or [cfg.data.source_lang, cfg.data.target_lang]


def build_pretrained(
    cfg: TrainConfig, id_counts: Mapping[str, int], description: Mapping[str, Any]
) -> PretrainedModel:
    """The model with random weights, whose combiner returns the word.

    Args:
        cfg: the settings.
        id_counts: size of each feature's vocabulary, special values included.
        description: of the pretrained model, see `ModelPieces.describe_model`.
    """
    parts = build_feature_parts(cfg, id_counts)
    start_as_word(parts.combiner, parts.embedders)
    added_keys = ("ids", "codes", "code_is_last", "prefix_ids", "weights")
    config = {name: value for name, value in description.items() if name not in added_keys}
    with isolated_generator(cfg.seed, "transformer"):
        built = PretrainedModel(
            config,
            list(description["ids"]),
            tuple(description["codes"]) if "codes" in description else None,
            description.get("code_is_last", False),
            description.get("prefix_ids", ()),
            parts.embedders,
            parts.combiner,
            parts.masked,
            choose_dropouts(cfg.model, choose_family(config)),
        )
    if cfg.init.lora.rank:
        with isolated_generator(cfg.seed, "lora"):
            built.add_lora(cfg.init.lora)
    if cfg.init.freeze:
        built.freeze_parts(cfg.init.freeze)
    if built.external_weights:
        _load_kept_weights(built, cfg, description["weights"])
    return built


def _load_kept_weights(model: PretrainedModel, cfg: TrainConfig, weights: str) -> None:
    """Load frozen weights, which the run does not store; their hash has to be `weights` still."""
    folder = open_folder(str(cfg.model.folder))
    folder.check_files()
    if folder.hash_weights(Path(cfg.paths.cache)) != weights:
        raise UserError(
            f"{folder.where}: its weights have changed since training, and the run does not store "
            "its frozen parts; put the folder of training there"
        )
    model.load_weights(folder.path)
