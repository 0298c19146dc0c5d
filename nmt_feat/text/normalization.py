"""The normal form of text: composed characters, one space between words, none at the ends.

All text is brought into normal form when it is read: for training, annotation, translation and
scoring. So canonically equivalent texts have the same pieces. SentencePiece reserves three
characters; in its input they are replaced by characters that no text has.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nmt_feat.base.files import write_atomically
from nmt_feat.base.typed_json import load_json
from nmt_feat.text.conllu import TEXT_COMMENT, Sentence, Word, sentence_end
from nmt_feat.text.files import Block, compute_cached, line_end, read_blocks
from nmt_feat.text.sentences import ANNOTATION, DictionaryColumn, Integers, Sentences

RULES = {
    "unicode": "NFC",
    "white_space": "one space between words, none at the ends",
    "reserved_characters": "escaped",
}
"""The rules of normal form, as a run's record has them."""
RULES_FILE = "normal_form.json"
"""The file with the rules beside the subword models of a run; runs before the rules lack it."""

ESCAPES = str.maketrans({"\0": "\ufdd0", "▁": "\ufdd1", "▅": "\ufdd5"})
"""Noncharacters of Unicode that replace the characters that SentencePiece reserves. The length
stays the same, and so do spans."""
_UNESCAPES = {ord(escape): chr(reserved) for reserved, escape in ESCAPES.items()}
_NO_CHARACTERS = dict.fromkeys(_UNESCAPES, "\ufffd")
RESERVED = "".join(map(chr, ESCAPES))

_OTHER_SPACES = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and c not in " \n")
NORMAL, ESCAPED = "normal", "escaped"
"""The two effects of the rules on a text: normal form, and escapes of reserved characters."""


def normalize_line(text: str) -> str:
    """Bring a line into normal form: NFC, one space for white space, none at the ends."""
    if text.isascii():  # composed, and without noncharacters
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", text).translate(_NO_CHARACTERS).split())


def is_normal(text: str) -> bool:
    """Whether a line, or several with line feeds between, is in normal form."""
    if "  " in text or "\n " in text or " \n" in text or text.strip(" ") != text:
        return False
    if any(space in text for space in _OTHER_SPACES):
        return False
    if text.isascii():
        return True
    has_noncharacter = any(chr(code) in text for code in _NO_CHARACTERS)
    return not has_noncharacter and unicodedata.is_normalized("NFC", text)


def normalize_lines(texts: Sequence[str]) -> list[str]:
    """Bring lines of text into normal form."""
    if is_normal("\n".join(texts)):  # a fast check of all
        return list(texts)
    return [text if is_normal(text) else normalize_line(text) for text in texts]


@lru_cache(maxsize=1)
def _units() -> re.Pattern[str]:
    """Matches a run of white space, or a character with the marks that may be composed with it."""
    characters = map(chr, range(0x20000))  # later ones have no marks that can be composed
    marks = "".join(c for c in characters if unicodedata.category(c)[0] == "M")
    # Vowels and trailing consonants of Korean syllables are letters.
    return re.compile(f"\\s+|\\S[{marks}\u1160-\u11ff\ud7b0-\ud7ff]*")


def normalize_with_places(text: str) -> tuple[str, Integers]:
    """Bring a text into normal form.

    Returns:
        The new text; and the position in it of each character of the old text, and of its end. In a
        group of characters that changes, all but the first have the position behind the new group.
    """
    parts: list[str] = []
    places: list[int] = []
    length = 0
    for unit in _units().finditer(text):
        before = unit[0]
        after = normalize_line(before) or (" " if parts else "")
        later_places = range(length + 1, length + len(before))
        places.append(length)
        length += len(after)
        places += later_places if after == before else [length] * len(later_places)
        parts.append(after)
    normal = "".join(parts).rstrip(" ")
    return normal, np.minimum([*places, length], len(normal)).astype(np.int64)


def normalize_sentences(sentences: Sentences) -> Sentences:
    """Bring texts and values of sentences into normal form; spans of words follow."""
    texts = normalize_lines(sentences.texts)
    starts, ends = sentences.starts, sentences.ends
    behind = np.cumsum(sentences.counts)
    changed = [i for i, text in enumerate(texts) if text != sentences.texts[i]]
    if changed:
        starts, ends = starts.copy(), ends.copy()
    for i in changed:
        texts[i], places = normalize_with_places(sentences.texts[i])
        words = slice(behind[i] - sentences.counts[i], behind[i])
        starts[words], ends[words] = places[starts[words]], places[ends[words]]
    values = {}
    for name, strings in sentences.annotation.items():
        coded = DictionaryColumn.of(strings)
        normal = normalize_lines(coded.values)
        values[name] = strings
        if normal != coded.values:
            values[name] = coded.map(dict(zip(coded.values, normal, strict=True)).__getitem__)
            values[name] = values[name].strings()
    return replace(sentences, texts=texts, starts=starts, ends=ends, annotation=values)


def normalize_sentence(sentence: Sentence, values: bool = True) -> Sentence:
    """Bring a sentence's text, and the values of its words if `values`, into normal form."""
    text, words = sentence.text, sentence.words
    if values:
        words = tuple(map(_normalize_values, words))
    if not is_normal(text):
        text, places = normalize_with_places(text)
        spans = [(int(places[word.start]), int(places[word.end])) for word in words]
        words = tuple(
            word._replace(form=text[start:end], start=start, end=end)
            for word, (start, end) in zip(words, spans, strict=True)
        )
    return sentence._replace(text=text, words=words)


def _normalize_values(word: Word) -> Word:
    odd = {n: value for n in ANNOTATION if not is_normal(value := getattr(word, n))}
    normal: dict[str, Any] = {name: normalize_line(value) for name, value in odd.items()}
    return word._replace(**normal) if normal else word


def escape_reserved(text: str) -> str:
    """Replace the characters that SentencePiece reserves."""
    has_reserved = any(character in text for character in RESERVED)
    return text.translate(ESCAPES) if has_reserved else text


def unescape_reserved(text: str) -> str:
    """Undo `escape_reserved`."""
    return text if text.isascii() else text.translate(_UNESCAPES)


def rules_of_file(path: Path, kind: str, cache: Path) -> set[str]:
    """Which of the rules, `NORMAL` and `ESCAPED`, change a file's text.

    `kind`: one of `formats.FORMATS`, or `tokens` for values with spaces between. The result for a
    large file is stored in the folder `cache`.
    """
    return set(compute_cached(path, cache, f"rules {kind}", lambda: _rules_of_file(path, kind)))


def _rules_of_file(path: Path, kind: str) -> list[str]:
    end = sentence_end if kind == "conllu" else line_end
    rules: set[str] = set()
    for block in read_blocks(path, end):
        rules |= _rules_of_block(block, kind)
        if len(rules) == 2:
            break
    return sorted(rules)


def _rules_of_block(block: Block, kind: str) -> set[str]:
    lines = block.lines()
    whole = "\n".join(lines)
    if kind == "jsonl":
        lines = list(_strings_of_json(lines))
        whole = "\n".join(lines)
        normal = is_normal(whole)
    elif kind == "text":
        normal = is_normal(whole)
    elif kind == "conllu":
        plain = whole.replace("\t", "\n")
        normal = is_normal(plain) or all(map(is_normal, _strings_of_conllu(lines)))
    else:  # white space between tokens does not belong to the text
        normal = is_normal("\n".join(whole.split()))
    rules = set() if normal else {NORMAL}
    return rules | {ESCAPED} if any(character in whole for character in RESERVED) else rules


def _strings_of_conllu(lines: Iterable[str]) -> Iterator[str]:
    """The columns and the texts of lines, without other comments."""
    for line in lines:
        if not line.startswith("#"):
            yield from () if line.isspace() else line.split("\t")
        elif match := TEXT_COMMENT.fullmatch(line):
            yield match[1]


def _strings_of_json(lines: Iterable[str]) -> Iterator[str]:
    """The texts and the values of words. Broken lines are skipped; `parse_jsonl` refuses them."""
    for line in lines:
        try:
            content = load_json(line)
        except ValueError:
            continue
        if not isinstance(content, dict):
            continue
        words, factors = content.get("words"), content.get("factors")
        values = [content.get("text"), *(factors if isinstance(factors, list) else ())]
        for word in words if isinstance(words, list) else ():
            values += word.values() if isinstance(word, dict) else ()
        yield from (value for value in values if isinstance(value, str))


def write_rules(folder: Path) -> None:
    """Write the rules into a folder of subword models, whose text is in normal form."""
    content = json.dumps(RULES, ensure_ascii=False, indent=1)
    write_atomically(folder / RULES_FILE, f"{content}\n".encode())
