"""Text to pieces with character spans, and back."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import sentencepiece

from nmt_feat.corpus.text import ranked
from nmt_feat.corpus.units import visible
from nmt_feat.errors import UserError
from nmt_feat.schema import SubwordConfig

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
MARK = "▁"  # SentencePiece writes a space so, and one more at the start of the text

JOINER = "￭"  # of OpenNMT's tokeniser: no space on this side


class Piece(NamedTuple):
    """A piece and the characters `[start, end)` of the raw text that it stands for."""

    id: int
    start: int
    end: int


class Subwords:
    """BPE or unigram pieces of raw text by SentencePiece (Kudo & Richardson 2018).

    `size` counts the four special ids.
    """

    def __init__(self, proto: bytes) -> None:
        self._proto = proto
        self._model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        self.size: int = self._model.get_piece_size()

    @staticmethod
    def train(cfg: SubwordConfig, texts: Sequence[str]) -> Subwords:
        """The model of `texts` (lines): the same bytes for the same lines, on any machine."""
        if cfg.kind in ("none", "given"):
            counts = Counter(word for text in texts for word in text.split())
            kept = [w for w, n in ranked(counts) if n >= cfg.min_count and w not in SPECIAL]
            return Words(cfg.kind, kept[: cfg.vocab_size])
        return Subwords(_train_sentencepiece(cfg, texts))

    @staticmethod
    def load(stem: Path) -> Subwords:
        """What `save(stem)` wrote."""
        if (words := stem.with_suffix(".json")).exists():
            return Words(**json.loads(words.read_bytes()))
        return Subwords(stem.with_suffix(".model").read_bytes())

    def save(self, stem: Path) -> None:
        """Write `stem.model` (SentencePiece's own format) or `stem.json` (a list of words)."""
        stem.with_suffix(".model").write_bytes(self._proto)

    def encode(self, text: str) -> list[Piece]:
        """Pieces of a raw text, without BOS and EOS; spans ascend and never overlap."""
        found = self._model.encode(text, out_type="offset_mapping")
        return [Piece(i, *span) for i, span in zip(found["ids"], found["offsets"], strict=True)]

    def surface(self, text: str, piece: Piece) -> str:
        """The visible characters of a piece of `text`: its units are taken of them."""
        return visible(text[piece.start : piece.end])

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, the same as `encode` gives."""
        return [[piece.id for piece in self.encode(text)] for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Detokenised text; PAD, BOS and EOS are left out, unknown pieces are shown."""
        return str(self._model.decode([int(i) for i in ids]))


class Words(Subwords):
    """Tokens between spaces: words (`none`) or the pieces of another toolkit (`given`)."""

    def __init__(self, kind: str, words: Sequence[str]) -> None:
        self._kind = kind
        self._words = [*SPECIAL, *words]
        self._ids = {word: i for i, word in enumerate(self._words) if i > EOS}
        self._marked = any(word.startswith(MARK) for word in words)
        self.size = len(self._words)

    def save(self, stem: Path) -> None:  # noqa: D102
        content = json.dumps({"kind": self._kind, "words": self._words[4:]}, ensure_ascii=False)
        stem.with_suffix(".json").write_text(content, encoding="utf-8")

    def encode(self, text: str) -> list[Piece]:  # noqa: D102
        found = re.finditer(r"\S+", text)
        return [Piece(self._ids.get(m[0], UNK), m.start(), m.end()) for m in found]

    def surface(self, text: str, piece: Piece) -> str:  # noqa: D102
        shown = super().surface(text, piece)
        if self._kind == "given":
            shown = shown.removesuffix("@@").strip(JOINER)
        return shown

    def decode(self, ids: Iterable[int]) -> str:  # noqa: D102
        words = [self._words[i] for i in ids if i not in (PAD, BOS, EOS)]
        if self._kind == "none":
            return " ".join(words)
        if self._marked:
            return "".join(words).replace(MARK, " ").strip()
        joined = re.sub(f" {JOINER}|{JOINER} ", "", " ".join(words)).replace(JOINER, "")
        return re.sub(r"@@( |$)", "", joined)


def _train_sentencepiece(cfg: SubwordConfig, texts: Sequence[str]) -> bytes:
    """SentencePiece's model file. No normalisation, so that spans are those of the raw text."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=cfg.kind,
            vocab_size=cfg.vocab_size,
            character_coverage=cfg.character_coverage,
            byte_fallback=cfg.byte_fallback,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 30,  # its default drops lines above 4,192 bytes
            num_threads=1,  # the unigram model depends on the number of threads
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            unk_surface="⁇",
            minloglevel=2,
        )
    except RuntimeError as error:
        said, size = str(error), f"subword.vocab_size={cfg.vocab_size}"
        if high := re.search(r"value <= (\d+)", said):
            raise UserError(
                f"{size}: too large for this text, {cfg.kind} finds at most {high[1]} pieces; "
                f"set data.vocab_size={high[1]} or less"
            ) from None
        if low := re.search(r"required_chars\. \d+ vs (\d+)", said):
            raise UserError(
                f"{size}: too small for this text, its characters alone need {low[1]}; set "
                f"data.vocab_size={low[1]} or more, or a lower subword.character_coverage"
            ) from None
        raise UserError(f"{size}: SentencePiece cannot train on this text: {said}") from None
    return model.getvalue()
