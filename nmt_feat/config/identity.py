"""The identity of a run: the settings that determine its trained model, and their history.

A run's folder is found by a hash of these settings, so that hash must not change while the program
grows:

- Settings that do not change the trained model are left out (`HARMLESS`): test sets, the search
  that translates them, locations of files, what is printed.
- A setting that was added after the first ones (`FIRST`) is left out at its default.
- A class that has moved has its first name (`earlier_formats.FIRST_NAMES`).
- Runs with an earlier identity are found by the name that they had then (`earlier_settings`), and
  their settings are converted to today's form (`upgrade_settings`).
"""

from __future__ import annotations

import copy
import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.names import to_snake_case
from nmt_feat.config.earlier_formats import SEARCH
from nmt_feat.config.schema import DecodingConfig, MethodConfig, TrainConfig

DIALS = ("classes", "erase")
"""Settings of features that take information away; see features/dials.py."""

FIRST = {
    "": "data annotator subword features combiner model optimizer trainer control seed",
    "data": "name source_lang target_lang tokenized limit hash",
    "subword": "kind joint vocab_size min_count character_coverage byte_fallback",
    "features.*": "_target_ column of file encoder layer precision live trained learning_rate n "
    "dim max_values min_count policy missing dropout sentence_dropout erase classes args",
    "combiner": "_target_ widths bias args",
    "model": "dim ffn_dim heads encoder_layers decoder_layers dropout attention_dropout "
    "activation_dropout tie source_words source_vectors source_frozen embedding_std",
    "optimizer": "_target_ lr betas eps weight_decay schedule warmup args",
    "trainer": "max_steps batch_tokens batch_by accumulate clip_norm label_smoothing precision "
    "fused_loss validate_every patience select average devices accelerator threads deterministic",
}
"""The settings that determined a run when the identity of runs was fixed, by group. `*` stands for
a name that users choose. This list never grows: hashes of runs depend on it."""

HARMLESS = {
    "": "decoding paths resume published logger metrics scale name tags license local",
    "data": "folder format factors train dev tests download vocab_size min_words max_pieces "
    "max_ratio processes readings terminology",
    "combiner": "name",
    "trainer": "progress log_every resume_exact wait_minutes max_skipped",
}
"""Settings that do not change the trained model, or change it only through the prepared data, whose
hash is part of the identity. A new setting of these sorts belongs here."""

VALIDATION = DecodingConfig(
    beam=1, length_penalty=1.0, max_ratio=2.0, max_extra=20, batch_tokens=8192, nbest=1
)
"""The search of validations: greedy, with the limits that `decoding` has by default."""


def earlier_settings(settings: Mapping[str, Any], cfg: TrainConfig, data: str) -> dict[str, Any]:
    """The settings of a run's first identity, which test sets and the search were part of.

    Args:
        settings: of its identity today.
        cfg: all its settings.
        data: the hash of the prepared data as it was then, with test sets.
    """
    earlier = copy.deepcopy(dict(settings))
    earlier["data"]["hash"] = data
    earlier["trainer"]["average"] = cfg.trainer.average
    earlier["decoding"] = {name: getattr(cfg.decoding, name) for name in SEARCH}
    return earlier


def is_earlier(settings: Mapping[str, Any]) -> bool:
    """Whether stored settings are those of the first identity."""
    return "decoding" in settings


def upgrade_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings in today's form; only the hash of the data stays as it is."""
    settings = copy.deepcopy(dict(stored))
    settings.pop("decoding", None)
    if is_earlier(stored) and settings.get("trainer", {}).get("select") == "best":
        settings["trainer"].pop("average", None)
    return settings


def validation_search(stored: Mapping[str, Any]) -> DecodingConfig:
    """The search of validations of a run with these stored settings.

    A run that was begun with an earlier identity continues with the limits that it began with.
    """
    decoding = stored.get("decoding", {})
    limits = {name: limit for name, limit in decoding.items() if name in SEARCH}
    return dataclasses.replace(VALIDATION, **limits | {"beam": 1, "nbest": 1})


def limits_of_validation(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of validations' translations that differ from today's, as settings."""
    search = validation_search(stored)
    limits = {name: getattr(search, name) for name in ("max_ratio", "max_extra")}
    earlier = {name: v for name, v in limits.items() if v != getattr(VALIDATION, name)}
    return {"decoding": earlier} if earlier else {}


def folder_name(cfg: TrainConfig, settings: dict[str, Any]) -> str:
    """`<combiner>-<features>-<control>-s<seed>-<hash8>`."""
    features = ["+".join(cfg.features)] if cfg.features else []
    control = [cfg.control] if cfg.control != "none" else []
    parts = [name_run_method(cfg), *features, *control, f"s{cfg.seed}", hash_json(settings)[:8]]
    return "-".join(parts)


def drop_neutral_settings(settings: dict[str, Any]) -> None:
    """Remove settings with values that mean the same as their absence."""
    for feature in (settings.get("features") or {}).values():
        for dial in DIALS:
            if not feature.get(dial):
                feature.pop(dial, None)
    model = settings.get("model") or {}
    if model.get("source_words"):
        del model["source_words"]
    if settings.get("control") == "none":
        del settings["control"]


def drop_defaults(settings: Mapping[str, Any], kind: type, group: str = "") -> dict[str, Any]:
    """The settings of a group, without those that are newer than `FIRST` and at their default.

    Args:
        settings: the group as a dictionary, nested as the schema is.
        kind: its dataclass in the schema.
        group: its dotted name, `*` for names that users choose.
    """
    first = FIRST.get(group, "").split()
    hints, defaults = typing.get_type_hints(kind), dataclasses.asdict(kind())
    remaining: dict[str, Any] = {}
    for name, value in settings.items():
        hint, path = hints.get(name), f"{group}.{name}".lstrip(".")
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            assert isinstance(hint, type)
            value = drop_defaults(value, hint, path)
            if name not in first and not value:
                continue
        elif (entry := _entry_type(hint)) and isinstance(value, Mapping):
            value = {key: drop_defaults(inner, entry, f"{path}.*") for key, inner in value.items()}
        if name in first or name not in defaults or value != defaults[name]:
            remaining[name] = value
    return remaining


def drop_harmless(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """The settings of a group without those of `HARMLESS`."""
    names = HARMLESS.get(group, "").split()
    return {name: value for name, value in settings.items() if name not in names}


def flatten_settings(settings: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten_settings(value, f"{path}{name}.")
        else:
            flat[path + name] = value
    return flat


def _entry_type(hint: Any) -> type | None:
    """The dataclass of a field's entries, if it is a dictionary of entries that users name."""
    entry = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
    return entry if isinstance(entry, type) and dataclasses.is_dataclass(entry) else None


def shorten_class_name(target: str | None) -> str:
    """The name of a class in tables: `nmt_feat.combiners.WordGate` is word_gate, `my.Gate` Gate."""
    if target is None:
        return "none"
    module, _, name = target.rpartition(".")
    return to_snake_case(name) if module.startswith("nmt_feat.") else name


def name_row_method(
    combiner: str | None, method: str | None = None, name: str | None = None
) -> str:
    """The name of a row's method in tables: `concat`, or with a method `output_gate+concat`.

    Args:
        combiner: the class of the combiner; None for words only.
        method: the class of the method; None in records from before there were methods.
        name: the name that the user gave the combiner.
    """
    combiner_name = name if combiner and name else shorten_class_name(combiner)
    if method in (None, MethodConfig._target_):
        return combiner_name
    return "+".join([shorten_class_name(method), *([combiner_name] if combiner else [])])


def name_run_method(cfg: TrainConfig) -> str:
    """The name in tables of the method of a run with these settings."""
    return name_row_method(cfg.combiner._target_, cfg.method._target_, cfg.combiner.name)


def is_combiner_name(name: str) -> bool:
    """Whether a combiner may have this name, with which names of folders begin."""
    return bool(re.fullmatch(r"\w[\w.-]*", name)) and name != "none"
