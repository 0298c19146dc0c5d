"""The pieces of a pretrained model, their ids, and the codes of its languages.

Only the list of languages needs `transformers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from nmt_feat.embedders.ids import BOS
from nmt_feat.encoders.states import transformers
from nmt_feat.errors import UserError, suggest
from nmt_feat.pretrained.families import FAIRSEQ
from nmt_feat.pretrained.folder import ModelFolder, read_json
from nmt_feat.text.subwords import SPECIAL, MappedSubwords, Subwords


def read_pieces(folder: ModelFolder) -> tuple[MappedSubwords, MappedSubwords]:
    """Read the pieces of source and target, with the ids that training uses ("ours")."""
    pieces = {id: piece for piece, id in read_vocabulary(folder).items()}
    ids = order_ids(folder, pieces)[len(SPECIAL) :]
    names = [*SPECIAL, *(pieces.get(id, f"<unnamed {id}>") for id in ids)]
    family = folder.family
    try:
        source, target = (
            MappedSubwords((folder.path / file).read_bytes(), names)
            for file in (family.source, family.target)
        )
    except (OSError, RuntimeError):
        raise _damaged_tokenizer(folder) from None
    return source, target


def read_vocabulary(folder: ModelFolder) -> dict[str, int]:
    """The model's ids of all pieces and codes of languages."""
    family, size = folder.family, folder.config["vocab_size"]
    vocabulary = _number_pieces(folder)
    is_gapless = set(vocabulary.values()) == set(range(len(vocabulary)))
    for code in map(family.code.format, read_languages(folder)):
        vocabulary[code] = len(vocabulary)
    if family.numbers == "fairseq":
        vocabulary["<mask>"] = len(vocabulary)
    if not is_gapless or not len(vocabulary) <= size <= len(vocabulary) + family.unnamed:
        raise UserError(
            f"{folder.where}: {family.files[-1]} has {len(vocabulary)} pieces, the model {size}; "
            "give the tokeniser of this model"
        )
    return vocabulary


def _number_pieces(folder: ModelFolder) -> dict[str, int]:
    family = folder.family
    if family.numbers == "vocab.json":
        return read_json(folder.path / "vocab.json", folder.where)
    try:
        names = Subwords((folder.path / family.source).read_bytes(), escaped=False).names
    except (OSError, RuntimeError):
        raise _damaged_tokenizer(folder) from None
    if family.numbers == "fairseq":
        names = [*FAIRSEQ, *names[len(FAIRSEQ) - 1 :]]
    return {piece: id for id, piece in enumerate(names)}


def _damaged_tokenizer(folder: ModelFolder) -> UserError:
    return UserError(f"{folder.where}: its tokeniser is damaged; download it again")


def read_languages(folder: ModelFolder) -> list[str]:
    """The languages that have codes, in the order of their ids, from `transformers`."""
    if not folder.family.code:
        return []
    transformers()  # an extra
    languages = import_module(folder.family.codes).FAIRSEQ_LANGUAGE_CODES
    if isinstance(languages, Mapping):  # M2M-100 has two lists
        size = folder.tokenizer.get("language_codes", "m2m100")
        if not (languages := languages.get(size)):
            raise UserError(f"{folder.where}: its languages, {size!r}, are not known; give M2M-100")
    return list(languages)


def describe_model(
    folder: ModelFolder, cache: Path, languages: Sequence[str], prefix: str | None = None
) -> dict[str, Any]:
    """Collect everything from which the model is built.

    Args:
        folder: the model's folder.
        cache: the folder that stores sums of large files.
        languages: source and target language, for a model with codes of languages.
        prefix: a text before each source.

    Returns:
        The content of config.json; the model's ids by ours (`ids`); the hash of its weights
        (`weights`); the ids of the prefix, if there is one (`prefix_ids`). For a model with codes
        also those of source and target (`codes`), and `code_is_last`, see `Family`.
    """
    vocabulary = read_vocabulary(folder)
    pieces = {id: piece for piece, id in vocabulary.items()}
    described = {**folder.config, "weights": folder.hash_weights(cache)}
    family = folder.family
    if not family.code:
        ids = order_ids(folder, pieces)
        if prefix:
            described["prefix_ids"] = cut_prefix(folder, prefix, vocabulary, ids)
        return described | {"ids": ids}
    if prefix:
        raise UserError(
            f"{folder.where} model.prefix={prefix}: this model has codes of languages before its "
            "source; leave the prefix out"
        )
    check_languages(folder, languages)
    source, target = (vocabulary[family.code.format(language)] for language in languages)
    if family.code_is_last:
        described["code_is_last"] = True
    ids = order_ids(folder, pieces, target)
    return described | {"ids": ids, "codes": [source, target]}


def check_languages(folder: ModelFolder, languages: Sequence[str]) -> None:
    """Refuse languages that the model has no code for."""
    all_languages = read_languages(folder)
    for language in languages:
        if language not in all_languages:
            near = [name for name in all_languages if name.startswith(language)] or all_languages
            raise UserError(
                f"{folder.where}: has no language {language!r}; set "
                f"model.languages=[SOURCE,TARGET], {suggest(language, near)}"
            )


def cut_prefix(
    folder: ModelFolder, prefix: str, vocabulary: Mapping[str, int], ids: Sequence[int]
) -> list[int]:
    """The model's ids of a text before each source; it may be one piece, or is cut into pieces."""
    if prefix in vocabulary:
        return [vocabulary[prefix]]
    if prefix.startswith(">>"):  # a language's code, as Marian has it
        codes = [piece for piece in vocabulary if piece.startswith(">>")]
        raise UserError(
            f"{folder.where} model.prefix={prefix}: no such code; {suggest(prefix, codes)}"
        )
    source, _ = read_pieces(folder)
    return [ids[piece.id] for piece in source.encode(prefix)]


def order_ids(
    folder: ModelFolder, pieces: Mapping[int, str], begin: int | None = None
) -> list[int]:
    """The model's ids in the order of ours: padding, unknown, begin, end, then all others.

    `begin` is the id of a language's code, if a target begins with it. The id that begins a target
    may have another role, too (padding in Marian and T5), and then stands here twice. The order of
    the others does not depend on `begin`.
    """
    config = folder.config
    unknown = next((id for id, piece in pieces.items() if piece == "<unk>"), config["pad_token_id"])
    start = config["eos_token_id" if folder.family.code else "decoder_start_token_id"]
    special = [config["pad_token_id"], unknown, start, config["eos_token_id"]]
    others = [id for id in range(config["vocab_size"]) if id not in special]
    special[BOS] = start if begin is None else begin
    return [*special, *others]
