"""What makes a run another run: the settings that determine the trained model, and their history.

A run is found by these settings. So they must stay as they are while the program grows: a setting
that came after the first ones, `FIRST`, counts only where it is not at its default.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

FIRST = {
    "": "data annotator subword features combiner model optimizer trainer decoding control seed",
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
    "decoding": "beam length_penalty max_ratio max_extra batch_tokens nbest",
}
"""The settings that determined a run when the identity of runs was fixed, by group; `*` is a name
that users choose. This list never grows: hashes of runs depend on it."""

HARMLESS = {
    "": "paths resume published logger scale",
    "data": "folder format factors train dev tests download vocab_size min_words max_pieces "
    "max_ratio processes readings",
    "trainer": "progress log_every resume_exact wait_minutes max_skipped",
}
"""Settings that do not change the trained model, or do so by the prepared data alone, whose hash
counts. A new setting that changes neither belongs here."""


def drop_defaults(settings: Mapping[str, Any], kind: type, group: str = "") -> dict[str, Any]:
    """The settings of a group, without those that came after `FIRST` and are at their default.

    Args:
        settings: the group as a dictionary, nested as the schema is.
        kind: its dataclass in the schema.
        group: its dotted name, `*` for names that users choose.
    """
    first = FIRST.get(group, "").split()
    hints, defaults = typing.get_type_hints(kind), _defaults(kind)
    remaining: dict[str, Any] = {}
    for name, value in settings.items():
        hint, path = hints.get(name), f"{group}.{name}".lstrip(".")
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            assert isinstance(hint, type)
            value = drop_defaults(value, hint, path)
            if name not in first and not value:
                continue
        elif (entry := _entry_type(hint)) and isinstance(value, Mapping):
            value = {key: drop_defaults(one, entry, f"{path}.*") for key, one in value.items()}
        if name in first or name not in defaults or value != defaults[name]:
            remaining[name] = value
    return remaining


def drop_harmless(settings: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """The settings of a group without those of `HARMLESS`."""
    names = HARMLESS.get(group, "").split()
    return {name: value for name, value in settings.items() if name not in names}


def _defaults(kind: type) -> dict[str, Any]:
    """The defaults of a dataclass by field, as dictionaries where they are dataclasses."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
            is_group = dataclasses.is_dataclass(default) and not isinstance(default, type)
            found[field.name] = dataclasses.asdict(default) if is_group else default
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def _entry_type(hint: Any) -> type | None:
    """The dataclass of the entries that users name, if a field is a dictionary of such."""
    entry = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
    return entry if isinstance(entry, type) and dataclasses.is_dataclass(entry) else None
