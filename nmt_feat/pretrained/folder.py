"""The folder of a pretrained model: what it is, its pieces, and whether it is whole.

Nothing here runs code of the folder, which has JSON, SentencePiece's models and safetensors; and
only names of languages need `transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nmt_feat.base.checksums import hash_json
from nmt_feat.embedders.ids import BOS
from nmt_feat.encoders.states import transformers
from nmt_feat.errors import UserError, suggest
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.subwords import SPECIAL, MappedSubwords


@dataclass(frozen=True)
class Family:
    """What the folders of one kind of model have."""

    source: str
    """SentencePiece's model of the source side."""
    target: str
    codes: bool = False
    """Whether codes of languages, `__en__`, begin source and target."""
    projections: tuple[str, str] = ("q_proj", "v_proj")
    """What its layers call the projections of queries and values, where LoRA is by default."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the tokeniser."""
        return (*dict.fromkeys((self.source, self.target)), "vocab.json")


FAMILIES = {
    "marian": Family("source.spm", "target.spm"),
    "m2m_100": Family("sentencepiece.bpe.model", "sentencepiece.bpe.model", codes=True),
}
UNNAMED = 16
"""Rows at most of a table that no piece has, as M2M-100 pads its table."""
SIZES = {
    "dim": "d_model",
    "ffn_dim": "encoder_ffn_dim",
    "heads": "encoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
}
"""By setting of the model what a configuration calls it."""
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
INDEX = "model.safetensors.index.json"


def read_json(path: Path, where: str) -> dict[str, Any]:
    """A JSON object of the folder."""
    try:
        content = json.loads(path.read_bytes())
    except OSError:
        raise UserError(
            f"{where}: has no {path.name}; give the folder of a model, as "
            "hf download NAME --local-dir FOLDER makes it"
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{where}: {path.name} is damaged; download the model again")
    return content


def read_config(name: str) -> dict[str, Any]:
    """The configuration of the model in a folder; an error where it is none that is known."""
    folder, where = Path(name).expanduser(), f"model.folder={name}"
    if not folder.is_dir():
        raise UserError(
            f"{where}: no such folder; give that of a model, as "
            "hf download NAME --local-dir FOLDER makes it"
        )
    config = read_json(folder / "config.json", where)
    family = config.get("model_type")
    if family not in FAMILIES:
        reason = "" if config.get("is_encoder_decoder") else ", which has no encoder and decoder"
        raise UserError(
            f"{where}: a model of the type {family}{reason}; known: {', '.join(FAMILIES)}"
        )
    sizes = {key: config.get(key) for key in (*SIZES.values(), "vocab_size")}
    for key, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{where}: config.json has no {key}; download the model again")
    if not config.get("share_encoder_decoder_embeddings", True):
        raise UserError(
            f"{where}: its two sides have tables of their own, which are not read; choose a model "
            "with one vocabulary"
        )
    return config


def check_folder(name: str) -> dict[str, Any]:
    """The configuration of a folder that has its tokeniser and all weights.

    Whether the tokeniser fits shows when `read_pieces` reads it.
    """
    config = read_config(name)
    folder, where = Path(name).expanduser(), f"model.folder={name}"
    for file in FAMILIES[config["model_type"]].files:
        if not (folder / file).is_file():
            raise UserError(f"{where}: has no tokeniser ({file} is missing); download it again")
    _check_weights(folder, where)
    return config


def list_weights(folder: Path) -> list[Path]:
    """The files of the weights."""
    return sorted(folder.glob("model*.safetensors"))


def _check_weights(folder: Path, where: str) -> None:
    """Refuse weights that are missing in whole or in part, or whose file could run code."""
    again = "download the model again"
    files = {path.name for path in list_weights(folder)}
    if not files and any(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise UserError(
            f"{where}: its weights are a pickle, which can run code, and are not read; choose a "
            "revision with model.safetensors, or save the model again by transformers' "
            "save_pretrained"
        )
    needed = {"model.safetensors"}
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX, where).get("weight_map")
        needed = set(shards.values()) if isinstance(shards, Mapping) else needed
    if missing := needed - files:
        raise UserError(f"{where}: {min(missing)} is missing; {again}")
    for name in sorted(needed):
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except (SafetensorError, OSError):
            raise UserError(f"{where}: {name} is damaged; {again}") from None


def read_pieces(name: str) -> tuple[MappedSubwords, MappedSubwords]:
    """The pieces of source and target, with the ids that training has for them."""
    folder, where = Path(name).expanduser(), f"model.folder={name}"
    config = read_config(name)
    family = FAMILIES[config["model_type"]]
    pieces = {id: piece for piece, id in read_vocabulary(name, config).items()}
    ids = order_ids(config, pieces)[len(SPECIAL) :]
    names = [*SPECIAL, *(pieces.get(id, f"<unnamed {id}>") for id in ids)]
    try:
        source, target = (
            MappedSubwords((folder / file).read_bytes(), names)
            for file in (family.source, family.target)
        )
    except (OSError, RuntimeError):
        raise UserError(f"{where}: its tokeniser is damaged; download it again") from None
    return source, target


def read_vocabulary(name: str, config: Mapping[str, Any]) -> dict[str, int]:
    """The ids of all pieces and codes of languages, by the model."""
    folder, where, size = Path(name).expanduser(), f"model.folder={name}", config["vocab_size"]
    vocabulary = read_json(folder / "vocab.json", where)
    whole, rows_without = set(vocabulary.values()) == set(range(len(vocabulary))), 0
    if FAMILIES[config["model_type"]].codes:
        for code in _read_codes(folder, where):
            vocabulary[code] = len(vocabulary)
        rows_without = UNNAMED
    if not whole or not len(vocabulary) <= size <= len(vocabulary) + rows_without:
        raise UserError(
            f"{where}: vocab.json has {len(vocabulary)} pieces, the model {size}; give the "
            "tokeniser of this model"
        )
    return vocabulary


def _read_codes(folder: Path, where: str) -> list[str]:
    """The codes of languages, `__en__`, in the order of their ids, which `transformers` knows."""
    transformers()  # an extra
    module = import_module("transformers.models.m2m_100.tokenization_m2m_100")
    name = read_json(folder / "tokenizer_config.json", where).get("language_codes", "m2m100")
    if not (codes := module.FAIRSEQ_LANGUAGE_CODES.get(name)):
        raise UserError(f"{where}: its languages, {name!r}, are not known; give M2M-100")
    return [f"__{code}__" for code in codes]


def describe(name: str, cache: Path, languages: Sequence[str]) -> dict[str, Any]:
    """What a model is built from: its configuration, its ids by ours, the hash of its weights.

    Of a model of several languages also the codes before source and target, for `languages`.
    """
    config = read_config(name)
    vocabulary = read_vocabulary(name, config)
    pieces = {id: piece for piece, id in vocabulary.items()}
    described = config | {"weights": hash_weights(name, cache)}
    if not FAMILIES[config["model_type"]].codes:
        return described | {"ids": order_ids(config, pieces)}
    source, target = (find_code(name, vocabulary, language) for language in languages)
    return described | {"ids": order_ids(config, pieces, target), "codes": [source, target]}


def find_code(name: str, vocabulary: Mapping[str, int], language: str) -> int:
    """The id of a language's code."""
    if (code := f"__{language}__") in vocabulary:
        return vocabulary[code]
    languages = [piece.strip("_") for piece in vocabulary if piece.startswith("__")]
    raise UserError(
        f"model.folder={name}: has no language {language!r}; set model.languages=[SOURCE,TARGET], "
        f"{suggest(language, languages)}"
    )


def order_ids(
    config: Mapping[str, Any], pieces: Mapping[int, str], begin: int | None = None
) -> list[int]:
    """The model's ids in the order of ours: padding, unknown, begin, end, then all others.

    What begins a target, `begin` if that is the code of a language, has another role too (Marian:
    padding), so that one id stands twice. The order of the others does not depend on it.
    """
    unknown = next((id for id, piece in pieces.items() if piece == "<unk>"), config["pad_token_id"])
    start = config["decoder_start_token_id"]
    special = [config["pad_token_id"], unknown, start, config["eos_token_id"]]
    others = [id for id in range(config["vocab_size"]) if id not in special]
    special[BOS] = start if begin is None else begin
    return [*special, *others]


def hash_pieces(name: str, cache: Path) -> str:
    """Hash of what cuts text into pieces."""
    folder, family = Path(name).expanduser(), read_config(name)["model_type"]
    files = ("config.json", *FAMILIES[family].files)
    return hash_json([hash_file_cached(folder / file, cache) for file in files])


def hash_weights(name: str, cache: Path) -> str:
    """Hash of the weights."""
    files = list_weights(Path(name).expanduser())
    return hash_json([hash_file_cached(path, cache) for path in files])
