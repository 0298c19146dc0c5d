"""The folder of a pretrained model: which model it is, and whether it is complete.

Nothing here runs code from the folder; only JSON, SentencePiece's models and safetensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nmt_feat.base.checksums import hash_json
from nmt_feat.errors import UserError
from nmt_feat.pretrained.families import TYPES, Family, choose_family
from nmt_feat.text.files import hash_file_cached

PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
INDEX = "model.safetensors.index.json"
ADVICE = "as hf download NAME --local-dir FOLDER makes it"


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model of a known family.

    Args:
        path: the path of the folder.
        where: the setting that names it, for errors.
        config: the content of its config.json, with checked sizes and ids.
        tokenizer: the content of its tokenizer_config.json; empty without one.
        family: the kind of the model.
    """

    path: Path
    where: str
    config: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    family: Family

    def check_files(self) -> None:
        """Refuse a folder without tokeniser or without all weights.

        Whether the tokeniser fits the model is checked when its pieces are read.
        """
        for file in self.family.files:
            if not (self.path / file).is_file():
                raise UserError(
                    f"{self.where}: has no tokeniser ({file} is missing); download it again"
                )
        self._check_weights()

    def _check_weights(self) -> None:
        """Refuse weights that are incomplete, damaged, or in a file that could run code."""
        again = "download the model again"
        files = {path.name for path in self.list_weights()}
        if not files and any(path for pattern in PICKLES for path in self.path.glob(pattern)):
            raise UserError(
                f"{self.where}: its weights are a pickle, which can run code, and are not read; "
                "choose a revision with model.safetensors, or save the model again by "
                "transformers' save_pretrained"
            )
        needed = {"model.safetensors"}
        if (self.path / INDEX).is_file():
            shards = read_json(self.path / INDEX, self.where).get("weight_map")
            needed = set(shards.values()) if isinstance(shards, Mapping) else needed
        if missing := needed - files:
            raise UserError(f"{self.where}: {min(missing)} is missing; {again}")
        for name in sorted(needed):
            try:
                with safe_open(self.path / name, framework="numpy"):
                    pass
            except (SafetensorError, OSError):
                raise UserError(f"{self.where}: {name} is damaged; {again}") from None

    def list_weights(self) -> list[Path]:
        """The files of the weights."""
        return sorted(self.path.glob("model*.safetensors"))

    def hash_pieces(self, cache: Path) -> str:
        """Hash the files that determine how text is cut into pieces."""
        files = ("config.json", *self.family.files)
        return hash_json([hash_file_cached(self.path / file, cache) for file in files])

    def hash_weights(self, cache: Path) -> str:
        """Hash the files of the weights."""
        return hash_json([hash_file_cached(path, cache) for path in self.list_weights()])


def open_folder(name: str) -> ModelFolder:
    """Open the folder that `model.folder` names; it is an error if its model is unknown."""
    path, where = Path(name).expanduser(), f"model.folder={name}"
    if not path.is_dir():
        raise UserError(f"{where}: no such folder; give the folder of a model, {ADVICE}")
    config = read_json(path / "config.json", where)
    if (kind := config.get("model_type")) not in TYPES:
        reason = "" if config.get("is_encoder_decoder") else ", which has no encoder and decoder"
        raise UserError(f"{where}: a model of the type {kind}{reason}; known: {', '.join(TYPES)}")
    tokenizer = {}
    if (file := path / "tokenizer_config.json").is_file():
        tokenizer = read_json(file, where)
    if tokenizer.get("legacy_behaviour"):
        raise UserError(
            f"{where}: legacy_behaviour of its tokenizer_config.json puts codes of languages where "
            "they are not read; choose a model without it"
        )
    family = choose_family(config, tokenizer)
    for key, fallback in family.fallbacks.items():
        config[key] = config.get(key) or config.get(fallback)
    check_config(config, family, where)
    return ModelFolder(path, where, config, tokenizer, family)


def check_config(config: Mapping[str, Any], family: Family, where: str) -> None:
    """Refuse a configuration without the sizes and ids of its family, or with two vocabularies."""
    ids = ("pad_token_id", "eos_token_id", *([] if family.code else ["decoder_start_token_id"]))
    least = dict.fromkeys((*family.sizes.values(), "vocab_size"), 1) | dict.fromkeys(ids, 0)
    for key, bound in least.items():
        value = config.get(key)
        if not isinstance(value, int) or value < bound:
            raise UserError(f"{where}: config.json has no {key}; download the model again")
    if not config.get("share_encoder_decoder_embeddings", True):
        raise UserError(
            f"{where}: its two sides have separate tables, which is not supported; choose a model "
            "with one vocabulary"
        )


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read a JSON object from a file of the folder."""
    try:
        content = json.loads(path.read_bytes())
    except OSError:
        raise UserError(
            f"{where}: has no {path.name}; give the folder of a model, {ADVICE}"
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{where}: {path.name} is damaged; download the model again")
    return content
