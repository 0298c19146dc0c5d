"""The folder of a pretrained model: what it is, its pieces, and whether it is whole.

Nothing here runs code of the folder, which has JSON, SentencePiece's models and safetensors; and
only names of languages need `transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nmt_feat.base.checksums import hash_json
from nmt_feat.embedders.ids import BOS
from nmt_feat.encoders.states import transformers
from nmt_feat.errors import UserError, suggest
from nmt_feat.pretrained.families import FAIRSEQ, T5, TYPES, Family, choose_family
from nmt_feat.text.files import hash_file_cached
from nmt_feat.text.subwords import SPECIAL, MappedSubwords, Subwords

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
    if (kind := config.get("model_type")) not in TYPES:
        reason = "" if config.get("is_encoder_decoder") else ", which has no encoder and decoder"
        raise UserError(f"{where}: a model of the type {kind}{reason}; known: {', '.join(TYPES)}")
    if kind in T5:  # its decoder has as many layers if it does not say otherwise
        config["num_decoder_layers"] = config.get("num_decoder_layers") or config.get("num_layers")
    family = read_family(name, config)
    ids = ("pad_token_id", "eos_token_id", *([] if family.code else ["decoder_start_token_id"]))
    least = dict.fromkeys((*family.sizes.values(), "vocab_size"), 1) | dict.fromkeys(ids, 0)
    for key, bound in least.items():
        value = config.get(key)
        if not isinstance(value, int) or value < bound:
            raise UserError(f"{where}: config.json has no {key}; download the model again")
    if not config.get("share_encoder_decoder_embeddings", True):
        raise UserError(
            f"{where}: its two sides have tables of their own, which are not read; choose a model "
            "with one vocabulary"
        )
    return config


def read_family(name: str, config: Mapping[str, Any]) -> Family:
    """The family of the model in a folder."""
    path, tokenizer = Path(name).expanduser() / "tokenizer_config.json", {}
    if path.is_file():
        tokenizer = read_json(path, f"model.folder={name}")
    if tokenizer.get("legacy_behaviour"):
        raise UserError(
            f"model.folder={name}: legacy_behaviour of its tokenizer_config.json puts codes of "
            "languages where they are not read; choose a model without it"
        )
    return choose_family(config, tokenizer)


def check_folder(name: str) -> dict[str, Any]:
    """The configuration of a folder that has its tokeniser and all weights.

    Whether the tokeniser fits shows when `read_pieces` reads it.
    """
    config = read_config(name)
    folder, where = Path(name).expanduser(), f"model.folder={name}"
    for file in read_family(name, config).files:
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
    family = read_family(name, config)
    pieces = {id: piece for piece, id in read_vocabulary(name, config).items()}
    ids = order_ids(config, pieces, family)[len(SPECIAL) :]
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
    family = read_family(name, config)
    vocabulary = _number_pieces(folder, family, where)
    whole = set(vocabulary.values()) == set(range(len(vocabulary)))
    for code in map(family.code.format, read_languages(name, family)):
        vocabulary[code] = len(vocabulary)
    if family.numbers == "fairseq":
        vocabulary["<mask>"] = len(vocabulary)
    if not whole or not len(vocabulary) <= size <= len(vocabulary) + family.unnamed:
        raise UserError(
            f"{where}: {family.files[-1]} has {len(vocabulary)} pieces, the model {size}; give the "
            "tokeniser of this model"
        )
    return vocabulary


def _number_pieces(folder: Path, family: Family, where: str) -> dict[str, int]:
    if family.numbers == "vocab.json":
        return read_json(folder / "vocab.json", where)
    try:
        names = Subwords((folder / family.source).read_bytes(), escaped=False).names
    except (OSError, RuntimeError):
        raise UserError(f"{where}: its tokeniser is damaged; download it again") from None
    if family.numbers == "fairseq":
        names = [*FAIRSEQ, *names[len(FAIRSEQ) - 1 :]]
    return {piece: id for id, piece in enumerate(names)}


def read_languages(name: str, family: Family) -> list[str]:
    """The languages that have codes, in the order of their ids, which `transformers` knows."""
    if not family.code:
        return []
    transformers()  # an extra
    languages = import_module(family.codes).FAIRSEQ_LANGUAGE_CODES
    if isinstance(languages, Mapping):  # M2M-100's, in two sizes
        where = f"model.folder={name}"
        file = Path(name).expanduser() / "tokenizer_config.json"
        size = read_json(file, where).get("language_codes", "m2m100")
        if not (languages := languages.get(size)):
            raise UserError(f"{where}: its languages, {size!r}, are not known; give M2M-100")
    return list(languages)


def describe(
    name: str, cache: Path, languages: Sequence[str], prefix: str | None = None
) -> dict[str, Any]:
    """What a model is built from.

    Returns:
        Its configuration, its ids by ours (`ids`), and the hash of its weights (`weights`); the ids
        of the text before each source (`prefix_ids`), if there is any. Of a model of several
        languages the codes of source and target (`codes`), for `languages`, and whether that of the
        source is its last piece (`code_is_last`).
    """
    config = read_config(name)
    vocabulary = read_vocabulary(name, config)
    pieces = {id: piece for piece, id in vocabulary.items()}
    described = config | {"weights": hash_weights(name, cache)}
    family = read_family(name, config)
    if not family.code:
        ids = order_ids(config, pieces, family)
        if prefix:
            described["prefix_ids"] = cut_prefix(name, prefix, vocabulary, ids)
        return described | {"ids": ids}
    if prefix:
        raise UserError(
            f"model.folder={name} model.prefix={prefix}: this model has codes of languages before "
            "its source; leave the prefix out"
        )
    all_languages = read_languages(name, family)
    for language in languages:
        if language not in all_languages:
            near = [one for one in all_languages if one.startswith(language)] or all_languages
            raise UserError(
                f"model.folder={name}: has no language {language!r}; set "
                f"model.languages=[SOURCE,TARGET], {suggest(language, near)}"
            )
    source, target = (vocabulary[family.code.format(language)] for language in languages)
    if family.code_is_last:
        described["code_is_last"] = True
    ids = order_ids(config, pieces, family, target)
    return described | {"ids": ids, "codes": [source, target]}


def cut_prefix(
    name: str, prefix: str, vocabulary: Mapping[str, int], ids: Sequence[int]
) -> list[int]:
    """The model's ids of a text before each source: a piece as a whole, or cut as any text."""
    if prefix in vocabulary:
        return [vocabulary[prefix]]
    if prefix.startswith(">>"):  # a language's code, as Marian has it
        codes = [piece for piece in vocabulary if piece.startswith(">>")]
        raise UserError(
            f"model.folder={name} model.prefix={prefix}: no such code; {suggest(prefix, codes)}"
        )
    source, _ = read_pieces(name)
    return [ids[piece.id] for piece in source.encode(prefix)]


def order_ids(
    config: Mapping[str, Any], pieces: Mapping[int, str], family: Family, begin: int | None = None
) -> list[int]:
    """The model's ids in the order of ours: padding, unknown, begin, end, then all others.

    What begins a target, `begin` if that is the code of a language, has another role too (Marian,
    T5: padding), so that one id stands twice. The order of the others does not depend on it.
    """
    unknown = next((id for id, piece in pieces.items() if piece == "<unk>"), config["pad_token_id"])
    start = config["eos_token_id" if family.code else "decoder_start_token_id"]
    special = [config["pad_token_id"], unknown, start, config["eos_token_id"]]
    others = [id for id in range(config["vocab_size"]) if id not in special]
    special[BOS] = start if begin is None else begin
    return [*special, *others]


def hash_pieces(name: str, cache: Path) -> str:
    """Hash of what cuts text into pieces."""
    folder, family = Path(name).expanduser(), read_family(name, read_config(name))
    files = ("config.json", *family.files)
    return hash_json([hash_file_cached(folder / file, cache) for file in files])


def hash_weights(name: str, cache: Path) -> str:
    """Hash of the weights."""
    files = list_weights(Path(name).expanduser())
    return hash_json([hash_file_cached(path, cache) for path in files])
