"""The pieces of a pretrained model, their ids, and the codes of its languages.

Only the list of languages needs `transformers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from nmt_feat.embedders.ids import BOS
from nmt_feat.encoders.states import import_transformers
from nmt_feat.errors import UserError, suggest
from nmt_feat.pretrained.families import FAIRSEQ
from nmt_feat.pretrained.folder import ModelFolder, read_json
from nmt_feat.text.subwords import SPECIAL, MappedSubwords, Subwords


class ModelPieces:
    """The pieces and languages of a model; they are read on their first use.

    Args:
        folder: the model's folder.
    """

    def __init__(self, folder: ModelFolder) -> None:
        self.folder, self.family = folder, folder.family

    @cached_property
    def subwords(self) -> tuple[MappedSubwords, MappedSubwords]:
        """The pieces of source and target, with the ids that training uses ("ours")."""
        pieces = {id: piece for piece, id in self.vocabulary.items()}
        ids = self.order_ids()[len(SPECIAL) :]
        names = [*SPECIAL, *(pieces.get(id, f"<unnamed {id}>") for id in ids)]
        files = (self.family.source, self.family.target)
        try:
            models = {
                file: MappedSubwords((self.folder.path / file).read_bytes(), names)
                for file in dict.fromkeys(files)
            }
        except (OSError, RuntimeError):
            raise self._damaged_tokenizer() from None
        source, target = (models[file] for file in files)
        return source, target

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The model's ids of all pieces and codes of languages."""
        family, size = self.family, self.folder.config["vocab_size"]
        vocabulary = self._number_pieces()
        is_gapless = set(vocabulary.values()) == set(range(len(vocabulary)))
        for code in map(family.code.format, self.languages):
            vocabulary[code] = len(vocabulary)
        if family.numbers == "fairseq":
            vocabulary["<mask>"] = len(vocabulary)
        if not is_gapless or not len(vocabulary) <= size <= len(vocabulary) + family.unnamed:
            raise UserError(
                f"{self.folder.where}: {family.files[-1]} has {len(vocabulary)} pieces, the model "
                f"{size}; give the tokeniser of this model"
            )
        return vocabulary

    def _number_pieces(self) -> dict[str, int]:
        path, family = self.folder.path, self.family
        if family.numbers == "vocab.json":
            return read_json(path / "vocab.json", self.folder.where)
        try:
            names = Subwords((path / family.source).read_bytes(), escaped=False).names
        except (OSError, RuntimeError):
            raise self._damaged_tokenizer() from None
        if family.numbers == "fairseq":
            names = [*FAIRSEQ, *names[len(FAIRSEQ) - 1 :]]
        return {piece: id for id, piece in enumerate(names)}

    def _damaged_tokenizer(self) -> UserError:
        return UserError(f"{self.folder.where}: its tokeniser is damaged; download it again")

    @cached_property
    def languages(self) -> list[str]:
        """The languages that have codes, in the order of their ids, from `transformers`."""
        if not self.family.code:
            return []
        import_transformers()  # an extra
        languages = import_module(self.family.codes).FAIRSEQ_LANGUAGE_CODES
        if isinstance(languages, Mapping):  # M2M-100 has two lists
            size = self.folder.tokenizer.get("language_codes", "m2m100")
            if not (languages := languages.get(size)):
                raise UserError(
                    f"{self.folder.where}: its languages, {size!r}, are not known; give M2M-100"
                )
        return list(languages)

    def describe_model(
        self, cache: Path, languages: Sequence[str], prefix: str | None
    ) -> dict[str, Any]:
        """Collect everything from which the model is built.

        Args:
            cache: the folder that stores sums of large files.
            languages: source and target language, for a model with codes of languages.
            prefix: a text before each source.

        Returns:
            The content of config.json; the model's ids by ours (`ids`); the hash of its weights
            (`weights`); the ids of the prefix, if there is one (`prefix_ids`). For a model with
            codes also those of source and target (`codes`), and `code_is_last`, see `Family`.
        """
        family, vocabulary = self.family, self.vocabulary
        described = {**self.folder.config, "weights": self.folder.hash_weights(cache)}
        if not family.code:
            ids = self.order_ids()
            if prefix:
                described["prefix_ids"] = self._cut_prefix(prefix, ids)
            return described | {"ids": ids}
        if prefix:
            raise UserError(
                f"{self.folder.where} model.prefix={prefix}: this model has codes of languages "
                "before its source; leave the prefix out"
            )
        self._check_languages(languages)
        source, target = (vocabulary[family.code.format(language)] for language in languages)
        if family.code_is_last:
            described["code_is_last"] = True
        return described | {"ids": self.order_ids(target), "codes": [source, target]}

    def _check_languages(self, languages: Sequence[str]) -> None:
        """Refuse languages that the model has no code for."""
        for name in languages:
            if name not in self.languages:
                near = [code for code in self.languages if code.startswith(name)]
                raise UserError(
                    f"{self.folder.where}: has no language {name!r}; set "
                    f"model.languages=[SOURCE,TARGET], {suggest(name, near or self.languages)}"
                )

    def _cut_prefix(self, prefix: str, ids: Sequence[int]) -> list[int]:
        """The model's ids of a text before each source: those of one piece, or of several."""
        if prefix in self.vocabulary:
            return [self.vocabulary[prefix]]
        if prefix.startswith(">>"):  # a language's code, as Marian has it
            codes = [piece for piece in self.vocabulary if piece.startswith(">>")]
            raise UserError(
                f"{self.folder.where} model.prefix={prefix}: no such code; {suggest(prefix, codes)}"
            )
        return [ids[piece.id] for piece in self.subwords[0].encode(prefix)]

    def order_ids(self, begin: int | None = None) -> list[int]:
        """The model's ids in the order of ours: padding, unknown, begin, end, then all others.

        `begin` is the id of a language's code, if a target begins with it. The id that begins a
        target may have another role, too (padding in Marian and T5), and then stands here twice.
        The order of the others does not depend on `begin`.
        """
        config = self.folder.config
        padding, end = config["pad_token_id"], config["eos_token_id"]
        start = end if self.family.code else config["decoder_start_token_id"]
        special = [padding, self.vocabulary.get("<unk>", padding), start, end]
        others = [id for id in range(config["vocab_size"]) if id not in special]
        special[BOS] = start if begin is None else begin
        return [*special, *others]
