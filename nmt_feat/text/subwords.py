"""From text to pieces with character spans, and back."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from nmt_feat.base.files import write_atomically
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.embedders.ids import BOS, EOS, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.text.files import one_line, rank_by_count
from nmt_feat.text.normalization import RULES_FILE, escape_reserved, unescape_reserved, write_rules
from nmt_feat.text.sentences import Booleans, DictionaryColumn, Integers, Sentences, slice_texts
from nmt_feat.text.units import visible_characters

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SAMPLE = 1_000_000
"""SentencePiece is trained on at most so many lines."""
MARK = "▁"  # stands for a space in SentencePiece's pieces, and for the start of a text

CUT = "\uffff"
"""Stands between two words for the trainer, which then makes no piece of both. It is not a
character of Unicode, so no text has it."""
_NO_MARK = b"\x1a\x02\x18\x00"
"""`normalizer_spec { add_dummy_prefix: false }` as a message of Protocol Buffers. Appended to
another message, it replaces this field."""
JOINER = "￭"  # of OpenNMT's tokeniser: no space on this side


class Lines(Protocol):
    """Texts whose number is known."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...


class Piece(NamedTuple):
    """A piece and the characters `[start, end)` of the raw text that it stands for."""

    id: int
    start: int
    end: int


class Pieces(NamedTuple):
    """The pieces of several texts, one text after another."""

    ids: NDArray[np.int32]
    counts: Integers  # the number of pieces of each text
    starts: Integers  # the position of each piece's first character in its text
    ends: Integers  # the position behind each piece's last character

    def rows(self, chosen: Booleans) -> Pieces:
        """The pieces of some of the texts."""
        if chosen.all():
            return self
        pieces = np.repeat(chosen, self.counts)
        return Pieces(self.ids[pieces], self.counts[chosen], self.starts[pieces], self.ends[pieces])


def cut_at_words(sentences: Sentences) -> Iterator[str]:
    """The texts with `CUT` behind each word but the last, for the trainer."""
    bounds = np.append(0, np.cumsum(sentences.counts)).tolist()
    for i, text in enumerate(sentences.texts):
        cuts = [0, *sentences.ends[bounds[i] : bounds[i + 1]].tolist()[:-1], len(text)]
        yield CUT.join(text[a:b] for a, b in pairwise(cuts))


class Subwords:
    """BPE or unigram pieces of raw text by SentencePiece (Kudo & Richardson 2018).

    `size` counts the four special ids.
    """

    def __init__(self, proto: bytes, escaped: bool = True) -> None:
        self._proto = proto
        self._escaped = escaped  # whether reserved characters are escaped; see normalization.py
        self._model = sentencepiece.SentencePieceProcessor(model_proto=proto)
        self.size: int = self._model.get_piece_size()
        names = map(self._model.id_to_piece, range(self.size))
        odd = (self._model.is_byte, self._model.is_control, self._model.is_unknown)
        self._lengths = np.array(  # in characters; 0 for pieces that are not text
            [0 if any(is_odd(i) for is_odd in odd) else len(name) for i, name in enumerate(names)]
        )

    @staticmethod
    def train(cfg: SubwordConfig, *texts: Lines) -> Subwords:
        """Train a model on the lines of `texts`. The same lines give the same bytes everywhere.

        If there are more than `SAMPLE` lines, SentencePiece sees so many of them, evenly spaced.
        """
        if cfg.kind in ("none", "given"):
            counts = Counter(word for text in chain(*texts) for word in text.split())
            words = [
                w for w in rank_by_count(counts) if counts[w] >= cfg.min_count and w not in SPECIAL
            ]
            return Words(cfg.kind, words[: cfg.vocab_size])
        lines: Iterator[str] = chain(*texts)
        count = sum(map(len, texts))
        if count > SAMPLE:
            lines = (text for i, text in enumerate(lines) if i * SAMPLE % count < SAMPLE)
        return Subwords(_train_sentencepiece(cfg, map(escape_reserved, lines)))

    @staticmethod
    def load(stem: Path) -> Subwords:
        """Load what `save(stem)` wrote."""
        if (words := stem.with_suffix(".json")).exists():
            return Words(**json.loads(words.read_bytes()))
        if (names := stem.with_suffix(".names.json")).exists():
            proto = stem.with_suffix(".model").read_bytes()
            return MappedSubwords(proto, json.loads(names.read_bytes()))
        escaped = stem.with_name(RULES_FILE).exists()
        return Subwords(stem.with_suffix(".model").read_bytes(), escaped)

    def save(self, stem: Path) -> None:
        """Write `stem.model` (SentencePiece's own format) or `stem.json` (a list of words)."""
        write_atomically(stem.with_suffix(".model"), self._proto)
        if self._escaped:
            write_rules(stem.parent)

    @property
    def names(self) -> list[str]:
        """The pieces by id, as they are written."""
        return [str(self._model.id_to_piece(i)) for i in range(self.size)]

    def encode(self, text: str) -> list[Piece]:
        """Cut a raw text into pieces, without BOS and EOS. Spans ascend and never overlap."""
        text = escape_reserved(text) if self._escaped else text
        encoded = self._model.encode(text, out_type="offset_mapping")
        pairs = zip(encoded["ids"], encoded["offsets"], strict=True)
        return [Piece(i, *span) for i, span in pairs]

    def surface(self, text: str, piece: Piece) -> str:
        """The visible characters of a piece of `text`, from which units are taken."""
        return visible_characters(text[piece.start : piece.end])

    def surfaces(self, texts: Sequence[str], pieces: Pieces) -> DictionaryColumn:
        """The surface of each piece of the texts, see `surface`."""
        texts_of_pieces = DictionaryColumn.of(
            slice_texts(texts, pieces.counts, pieces.starts, pieces.ends)
        )
        return texts_of_pieces.map(lambda text: self.surface(text, Piece(UNK, 0, len(text))))

    def find_glued(self, texts: Sequence[str], pieces: Pieces) -> Booleans:
        """Whether each piece belongs to the word of the piece before, despite a space between."""
        return np.zeros(len(pieces.ids), bool)

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the pieces of many texts; the same as by `encode`."""
        inputs = list(map(escape_reserved, texts)) if self._escaped else texts
        return list(self._model.encode(inputs))

    def pieces(self, texts: Sequence[str]) -> Pieces:
        """Cut texts into pieces, as `encode` does."""
        return self._locate_pieces(texts, mark=1)

    def _locate_pieces(self, texts: Sequence[str], mark: int) -> Pieces:
        """Cut texts into pieces; `mark`: how many marks the model puts before a text."""
        # If the pieces spell the text, with the mark before it, spans follow from their lengths.
        # Only other texts are encoded a second time, which is slow.
        rows = self.encode_ids(texts)
        counts = np.fromiter(map(len, rows), np.int64, len(rows))
        bounds = np.append(0, np.cumsum(counts))
        ids = np.fromiter(chain.from_iterable(rows), np.int32, bounds[-1])
        before = np.append(0, np.cumsum(self._lengths[ids]))  # characters before each piece
        ends = before[1:] - np.repeat(before[bounds[:-1]], counts) - mark
        starts = np.maximum(ends - self._lengths[ids], 0)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        spells = np.diff(before[bounds]) == lengths + mark
        for i in np.flatnonzero(~spells).tolist():
            for index, piece in enumerate(self.encode(texts[i]), bounds[i]):
                starts[index], ends[index] = piece.start, piece.end
        return Pieces(ids, counts, starts, ends)

    @cached_property
    def _unmarked(self) -> Subwords:
        """The same model without the mark before a text."""
        return Subwords(self._proto + _NO_MARK, self._escaped)

    def pieces_of_words(self, texts: Sequence[str], counts: Integers, ends: Integers) -> Pieces:
        """Cut texts behind each word, then into pieces; so no piece has parts of two words.

        A text has `counts` words, which end at `ends`. White space belongs to the word behind it.
        """
        parts, shifts, per_text = [], [], []  # where each part begins in its text
        bounds = np.append(0, np.cumsum(counts)).tolist()
        for i, text in enumerate(texts):
            cuts = [0, *ends[bounds[i] : bounds[i + 1]].tolist()[:-1], len(text)]
            spans = [(a, b) for a, b in pairwise(cuts) if a < b]
            # A space at the start of the text becomes the mark that otherwise begins it.
            parts += [" " * (a == 0) + text[a:b] for a, b in spans]
            shifts += [a - (a == 0) for a, _ in spans]
            per_text.append(len(spans))
        ids, counts, starts, ends = self._unmarked._locate_pieces(parts, mark=0)
        shift = np.repeat(np.array(shifts, np.int64), counts)
        first = np.append(0, np.cumsum(per_text))
        totals = np.append(0, np.cumsum(counts))[first]
        starts, ends = np.maximum(starts + shift, 0), np.maximum(ends + shift, 0)
        return Pieces(ids, np.diff(totals), starts, ends)

    def decode(self, ids: Iterable[int]) -> str:
        """Detokenised text on one line, without PAD, BOS and EOS; unknown pieces are shown."""
        text = one_line(str(self._model.decode([int(i) for i in ids])))
        return unescape_reserved(text) if self._escaped else text


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
        write_atomically(stem.with_suffix(".json"), content.encode())

    @property
    def names(self) -> list[str]:  # noqa: D102
        return self._words

    def encode(self, text: str) -> list[Piece]:  # noqa: D102
        matches = re.finditer(r"\S+", text)
        return [Piece(self._ids.get(m[0], UNK), m.start(), m.end()) for m in matches]

    def surface(self, text: str, piece: Piece) -> str:  # noqa: D102
        characters = super().surface(text, piece)
        if self._kind == "given":
            characters = characters.removesuffix("@@").strip(JOINER)
        return characters

    def find_glued(self, texts: Sequence[str], pieces: Pieces) -> Booleans:  # noqa: D102
        glued = np.zeros(len(pieces.ids), bool)
        if self._kind == "given":
            tokens = slice_texts(texts, pieces.counts, pieces.starts, pieces.ends)
            first = (np.cumsum(pieces.counts) - pieces.counts)[pieces.counts > 0]
            for i, (before, token) in enumerate(pairwise(["", *tokens])):
                if self._marked:
                    glued[i] = not token.startswith(MARK)
                else:
                    glued[i] = before.endswith(("@@", JOINER)) or token.startswith(JOINER)
            glued[first] = False
        return glued

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:  # noqa: D102
        return [[self._ids.get(word, UNK) for word in text.split()] for text in texts]

    def pieces(self, texts: Sequence[str]) -> Pieces:  # noqa: D102
        return _join_pieces(list(map(self.encode, texts)))

    def decode(self, ids: Iterable[int]) -> str:  # noqa: D102
        words = [self._words[i] for i in ids if i not in (PAD, BOS, EOS)]
        if self._kind == "none":
            return " ".join(words)
        if self._marked:
            return "".join(words).replace(MARK, " ").strip()
        joined = re.sub(f" {JOINER}|{JOINER} ", "", " ".join(words)).replace(JOINER, "")
        return re.sub(r"@@( |$)", "", joined)


class MappedSubwords(Subwords):
    """The pieces of a SentencePiece model, with the ids of another vocabulary.

    Args:
        proto: the model; it may change white space and characters.
        names: the pieces by id, the special ones first; other pieces of the model are unknown.
    """

    def __init__(self, proto: bytes, names: Sequence[str]) -> None:
        super().__init__(proto, escaped=False)
        ids = {name: id for id, name in enumerate(names) if id > EOS}
        self._ids = [ids.get(piece, UNK) for piece in super().names]
        self._names = list(names)
        self.size = len(names)

    def save(self, stem: Path) -> None:  # noqa: D102
        write_atomically(stem.with_suffix(".model"), self._proto)
        content = json.dumps(self._names, ensure_ascii=False)
        write_atomically(stem.with_suffix(".names.json"), content.encode())

    @property
    def names(self) -> list[str]:  # noqa: D102
        return self._names

    def encode(self, text: str) -> list[Piece]:  # noqa: D102
        return [piece._replace(id=self._ids[piece.id]) for piece in super().encode(text)]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:  # noqa: D102
        return [[self._ids[id] for id in row] for row in super().encode_ids(texts)]

    def pieces(self, texts: Sequence[str]) -> Pieces:  # noqa: D102
        return _join_pieces([self.encode(text) for text in texts])

    def decode(self, ids: Iterable[int]) -> str:  # noqa: D102
        return one_line(str(self._model.decode([self._names[id] for id in ids if id > EOS])))


def _join_pieces(rows: Sequence[Sequence[Piece]]) -> Pieces:
    """Join the pieces of texts, one text after another."""
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    ids, starts, ends = np.array(list(chain.from_iterable(rows)), np.int64).reshape(-1, 3).T
    return Pieces(ids.astype(np.int32), counts, starts, ends)


def _train_sentencepiece(cfg: SubwordConfig, texts: Iterator[str]) -> bytes:
    """Train SentencePiece; without normalisation, so that spans are those of the raw text."""
    model = io.BytesIO()
    # Set only if it is needed, because all settings become part of the model's bytes.
    cutting: dict[str, Any] = {"pretokenization_delimiter": CUT} if cfg.split_at_words else {}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts,
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
            **cutting,
        )
    except RuntimeError as error:
        message, size = str(error), f"subword.vocab_size={cfg.vocab_size}"
        if high := re.search(r"value <= (\d+)", message):
            raise UserError(
                f"{size}: too large for this text, {cfg.kind} finds at most {high[1]} pieces; "
                f"set subword.vocab_size={high[1]} or less"
            ) from None
        if low := re.search(r"required_chars\. \d+ vs (\d+)", message):
            raise UserError(
                f"{size}: too small for this text, its characters alone need {low[1]}; set "
                f"subword.vocab_size={low[1]} or more, or a lower subword.character_coverage"
            ) from None
        raise UserError(f"{size}: SentencePiece cannot train on this text: {message}") from None
    return model.getvalue()
