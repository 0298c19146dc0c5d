"""Tokens to units. Jamo are written as escapes: L ᄀ U+1100, V ᅡ U+1161, T ᆨ U+11A8 and so on."""

import unicodedata
from collections import Counter

import pytest

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.embedders.ids import END, UNK
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab, VocabularyBasis
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.subwords import Subwords
from nmt_feat.text.units import BLANK, EMPTY, split_units, visible_characters
from tests.support.splits import encode

E = EMPTY


@pytest.mark.parametrize(
    ("token", "syllables", "jamo"),
    [
        ("한국", ["한", "국"], ["\u1112", "\u1161", "\u11ab", "\u1100", "\u116e", "\u11a8"]),
        ("나는", ["나", "는"], ["\u1102", "\u1161", E, "\u1102", "\u1173", "\u11ab"]),
        ("가", ["가"], ["\u1100", "\u1161", E]),
        ("힣", ["힣"], ["\u1112", "\u1175", "\u11c2"]),
        # a final cluster is one jamo, a tensed consonant too
        ("값", ["값"], ["\u1100", "\u1161", "\u11b9"]),
        ("까", ["까"], ["\u1101", "\u1161", E]),
        # compatibility jamo have no canonical decomposition, are no syllable, have no final
        ("ㅋㅋㅋ", ["ㅋ", "ㅋ", "ㅋ"], ["ㅋ", "ㅋ", "ㅋ"]),
        ("ㅠ", ["ㅠ"], ["ㅠ"]),
        ("ㄱ이", ["ㄱ", "이"], ["ㄱ", "\u110b", "\u1175", E]),
        # half-width jamo neither
        ("\uffa1\uffc2", ["\uffa1", "\uffc2"], ["\uffa1", "\uffc2"]),
        # jamo that stand alone are no syllable
        ("\u1100", ["\u1100"], ["\u1100"]),
        ("\u1161", ["\u1161"], ["\u1161"]),
        ("\u11a8", ["\u11a8"], ["\u11a8"]),
        ("가\u1161", ["가\u1161"], ["\u1100", "\u1161", "\u1161", E]),
        # decomposed text gives what composed text gives
        ("\u1100\u1161\u11ab", ["간"], ["\u1100", "\u1161", "\u11ab"]),
        ("가\u11a8", ["각"], ["\u1100", "\u1161", "\u11a8"]),
        # old hangul: no composed form, but a syllable: 'hon' with arae-a, with and without a final
        ("\u1112\u119e\u11ab", ["\u1112\u119e\u11ab"], ["\u1112", "\u119e", "\u11ab"]),
        ("\u1112\u119e", ["\u1112\u119e"], ["\u1112", "\u119e", E]),
        # an old final behind a modern syllable, an old initial before, extended blocks
        ("\u1100\u1161\u11eb", ["가\u11eb"], ["\u1100", "\u1161", "\u11eb"]),
        ("각\u11eb", ["각\u11eb"], ["\u1100", "\u1161", "\u11a8", "\u11eb"]),
        ("\u111e\u1161", ["\u111e\u1161"], ["\u111e", "\u1161", E]),
        ("\u1100가", ["\u1100가"], ["\u1100", "\u1100", "\u1161", E]),
        ("\ua960\ud7b0\ud7cb", ["\ua960\ud7b0\ud7cb"], ["\ua960", "\ud7b0", "\ud7cb"]),
        # a filler in the place of an initial; a tone mark is no part of the syllable
        ("\u115f\u1161", ["\u115f\u1161"], ["\u115f", "\u1161", E]),
        ("나\u302e", ["나", "\u302e"], ["\u1102", "\u1161", E, "\u302e"]),
        # mixed script and numerals
        ("K팝", ["K", "팝"], ["K", "\u1111", "\u1161", "\u11b8"]),
        ("3개", ["3", "개"], ["3", "\u1100", "\u1162", E]),
        ("2020年3월", list("2020年3월"), [*"2020年3", "\u110b", "\u116f", "\u11af"]),
        ("café는", [*"café", "는"], [*"café", "\u1102", "\u1173", "\u11ab"]),
        ("Ⅳ½㎏", list("Ⅳ½㎏"), list("Ⅳ½㎏")),
        ("が", ["が"], ["が"]),  # the canonical decomposition of Korean only
        ("👩‍👧", list("👩‍👧"), list("👩‍👧")),
        ("", [BLANK], [BLANK]),
    ],
)
def test_syllables_and_jamo(token: str, syllables: list[str], jamo: list[str]) -> None:
    assert list(split_units(token, "syllable")) == syllables
    assert list(split_units(token, "jamo")) == jamo
    assert list(split_units(token, "char")) == (list(token) or [BLANK])


def test_all_modern_syllables() -> None:
    """By the arithmetic of the Unicode standard, section 3.12."""
    for code in range(11172):
        initial, rest = divmod(code, 21 * 28)
        vowel, final = divmod(rest, 28)
        expected = (
            chr(0x1100 + initial),
            chr(0x1161 + vowel),
            chr(0x11A7 + final) if final else EMPTY,
        )
        syllable = chr(0xAC00 + code)
        assert split_units(syllable, "jamo") == expected
        assert split_units(unicodedata.normalize("NFD", syllable), "jamo") == expected
        assert split_units(unicodedata.normalize("NFD", syllable), "syllable") == (syllable,)


@pytest.mark.parametrize(
    ("token", "n", "expected"),
    [
        ("cats", 3, ["▁ca", "cat", "ats", "ts▁"]),
        ("a", 3, ["▁a▁"]),
        ("a", 4, ["▁a▁"]),
        ("ab", 1, ["▁", "a", "b", "▁"]),
        ("학교", 2, ["▁학", "학교", "교▁"]),
        ("", 3, [BLANK]),
    ],
)
def test_ngrams(token: str, n: int, expected: list[str]) -> None:
    assert list(split_units(token, "ngram", n)) == expected


def test_visible() -> None:
    assert visible_characters(" ▁a\u200bb\u00ad c\t") == "abc"
    assert visible_characters("\u3000가") == "가"


# ---- carried to pieces


@pytest.fixture(scope="module")
def letters() -> Subwords:
    """Pieces of one character."""
    return Subwords.train(SubwordConfig(kind="bpe", vocab_size=11), ["ab a cd dcba e f"])


def vocab(values: list[str], **settings: str) -> FeatureVocab:
    return FeatureVocab(
        "char", settings.pop("policy", "copy"), values, [1] * len(values), **settings
    )


def test_units_of_pieces_and_of_words(letters: Subwords) -> None:
    encoder = SourceEncoder(
        letters, {"p": vocab([BLANK, "a", "b", "c"]), "w": vocab(["a", "b", "c"], of="word")}
    )
    encoding = encode(encoder, Sentence("ab cx"))
    # pieces: _ a b _ c x
    assert encoding.features == {
        "p": [(3,), (4,), (5,), (3,), (6,), (UNK,), (END,)],
        "w": [(3, 4)] * 3 + [(5, UNK)] * 3 + [(END,)],
    }
    assert encode(encoder, Sentence("  ")).features["w"] == [(UNK,)] * 3 + [(END,)]
    assert encode(encoder, Sentence("")).features == {"p": [(END,)], "w": [(END,)]}


def test_units_of_the_first_piece(letters: Subwords) -> None:
    encoder = SourceEncoder(letters, {"w": vocab([INSIDE, "a", "b"], of="word", policy="first")})
    assert encode(encoder, Sentence("ab")).features["w"] == [(4, 5), (3,), (3,), (END,)]


def test_bytes_and_lone_marks_are_blank() -> None:
    cfg = SubwordConfig(kind="bpe", vocab_size=270, byte_fallback=True)
    subwords = Subwords.train(cfg, ["ab a cd dcba e f"])
    encoder = SourceEncoder(subwords, {"p": vocab([BLANK, "ж"])})
    # pieces: _ and the two bytes of the letter
    assert encode(encoder, Sentence("ж")).features["p"] == [(3,), (3,), (4,), (END,)]


def test_joiners_of_given_pieces_are_no_units() -> None:
    text = "wo@@ rd s@@ ￭y ￭,￭"
    subwords = Subwords.train(SubwordConfig(kind="given", vocab_size=9), [text])
    surfaces = [subwords.surface(text, piece) for piece in subwords.encode(text)]
    assert surfaces == ["wo", "rd", "s", "y", ","]
    marked = Subwords.train(SubwordConfig(kind="given", vocab_size=9), ["▁wo rd"])
    assert [marked.surface("▁wo rd", p) for p in marked.encode("▁wo rd")] == ["wo", "rd"]
    words = Subwords.train(SubwordConfig(kind="none", vocab_size=9), [text])
    assert [words.surface(text, p) for p in words.encode(text)] == text.split()


def test_the_vocabulary_is_that_of_units() -> None:
    kind = choose_kind("f", FeatureConfig(column="jamo", min_count=2, of="word"))
    counts = kind.count_values(Counter({"나는": 3, "x": 1}))
    assert counts == {"\u1102": 6, "\u1161": 3, EMPTY: 3, "\u1173": 3, "\u11ab": 3, "x": 1}
    built = kind.build_vocabulary(counts, VocabularyBasis())
    assert built.values == ["\u1102", EMPTY, "\u1161", "\u1173", "\u11ab"]
    assert built.size == 8
    assert kind.encode_values(["나x"], built)[1] == [(3, 5, 4, UNK)]
    assert built.of == "word"
