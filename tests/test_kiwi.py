"""Kiwi: morphemes, their spans, the map of its tags; and the whole path on Korean text."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from unicodedata import normalize

import pytest

from nmt_feat.annotators.kiwi import Kiwi
from nmt_feat.annotators.texts import annotate_texts, annotates_morphemes, make_annotator
from nmt_feat.config.data_schema import AnnotatorConfig, SubwordConfig
from nmt_feat.data.alignment import VALUES, SourceEncoder
from nmt_feat.errors import UserError
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from nmt_feat.text.units import visible_characters
from tests.support.small import Small, record
from tests.support.splits import pieces

DATA = os.environ.get("NMT_FEAT_DATA")
TAGS = {
    "ADJ": "VA VCN",
    "ADP": "JKS JKC JKG JKO JKB JKV JKQ JX",
    "ADV": "MAG",
    "AUX": "VX VCP",
    "CCONJ": "MAJ JC",
    "DET": "MM",
    "INTJ": "IC",
    "NOUN": "NNG NNB XR",
    "NUM": "NR SN W_SERIAL",
    "PART": "EP EF EC ETN ETM XPN XSN XSV XSA XSM Z_CODA Z_SIOT",
    "PRON": "NP",
    "PROPN": "NNP",
    "PUNCT": "SF SP SS SSO SSC SE SO SB",
    "SYM": "SW W_URL W_EMAIL W_HASHTAG W_MENTION W_EMOJI",
    "VERB": "VV",
    "X": "SL SH UN USER0 USER1 USER2 USER3 USER4",
}
"""The documented map. Kiwi's documentation lists these tags, besides Z_SIOT."""


@pytest.fixture(scope="module")
def kiwi() -> Kiwi:
    pytest.importorskip("kiwipiepy")
    return Kiwi()


def test_the_map_of_tags(kiwi: Kiwi) -> None:
    assert kiwi.upos == {tag: upos for upos, tags in TAGS.items() for tag in tags.split()}
    assert len(kiwi.upos) == sum(len(tags.split()) for tags in TAGS.values())


@pytest.mark.thorough
def test_morphemes(kiwi: Kiwi) -> None:
    text = "나는 학교에 갔다 3개, K!"
    (sentence,) = kiwi.annotate([text])
    result = [(w.form, w.start, w.end, w.lemma, w.upos, w.xpos) for w in sentence.words]
    assert result == [
        ("나", 0, 1, "나", "PRON", "NP"),
        ("는", 1, 2, "는", "ADP", "JX"),
        ("학교", 3, 5, "학교", "NOUN", "NNG"),
        ("에", 5, 6, "에", "ADP", "JKB"),
        # two morphemes in one syllable are one word
        ("갔", 7, 8, "가다+었", "VERB+PART", "VV+EP"),
        ("다", 8, 9, "다", "PART", result[5][5]),
        ("3", 10, 11, "3", "NUM", "SN"),
        ("개", 11, 12, "개", "NOUN", "NNB"),
        (",", 12, 13, ",", "PUNCT", "SP"),
        ("K", 14, 15, "K", "X", "SL"),
        ("!", 15, 16, "!", "PUNCT", "SF"),
    ]


def test_a_morpheme_that_is_not_written(kiwi: Kiwi) -> None:
    """The copula of 거야 has no character: it goes with the ending."""
    (sentence,) = kiwi.annotate(["어제 산 거야"])
    assert [(w.form, w.upos) for w in sentence.words][-2:] == [("거", "NOUN"), ("야", "AUX+PART")]


@pytest.mark.parametrize(
    "text",
    [
        "  빈칸  둘 😀 abc@d.com http://x.y/z #태그",
        "ㅋㅋㅋ ㅠㅠ 헐",
        "\u1112\u119e\u11ab글과 \u1100\u1161\u11a8",
        "北京은 Ⅳ·½ 1,000.5원 010-1234-5678",
        "A.B. café naïve",
        "가\u200b나\u00a0다\u3000라",
    ],
)
def test_every_visible_character_is_in_one_word(text: str, kiwi: Kiwi) -> None:
    (sentence,) = kiwi.annotate([text])
    covered = [i for w in sentence.words for i in range(w.start, w.end)]
    assert covered == sorted(set(covered))
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    assert not visible_characters("".join(c for i, c in enumerate(text) if i not in covered))


def test_decomposed_text(kiwi: Kiwi) -> None:
    """Jamo of their own code points: the morphemes of the syllables that they make up."""
    text = "한국어를 배웠습니다."
    input_value = normalize("NFD", text)
    composed, decomposed = annotate_texts(kiwi, [text, input_value])
    assert [w[3:] for w in decomposed.words] == [w[3:] for w in composed.words]
    assert [normalize("NFC", w.form) for w in decomposed.words] == [w.form for w in composed.words]
    assert "".join(input_value[w.start : w.end] for w in decomposed.words) == "".join(
        input_value.split()
    )


def test_lines_on_their_own_and_blank_ones(kiwi: Kiwi) -> None:
    texts = ["나는 간다.", "", "   ", "나는 간다."]
    first, empty, blank, again = kiwi.annotate(texts)
    assert first == again
    assert empty.words == blank.words == ()
    assert [s.text for s in (first, empty, blank, again)] == texts


def test_fingerprint_and_pickle(kiwi: Kiwi) -> None:
    assert kiwi.fingerprint().startswith("kiwi kiwipiepy=")
    assert " kiwipiepy_model=" in kiwi.fingerprint()
    kiwi.annotate(["나"])
    assert "_tagger" not in vars(pickle.loads(pickle.dumps(kiwi)))


def test_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(UserError) as error:
        make_annotator(AnnotatorConfig("nmt_feat.annotators.Kiwi"))
    assert str(error.value) == (
        "annotator=kiwi needs the package kiwipiepy: pip install 'nmt_feat[kiwi]'"
    )


def test_particles_are_joined_to_their_nouns(kiwi: Kiwi) -> None:
    """Where a piece covers both; a piece of a part of a word has that word's value alone."""
    sentences = Sentences.of(annotate_texts(kiwi, ["톰은 학교에 갔다."]))
    subwords = Subwords.train(SubwordConfig(vocab_size=16), ["톰은 학교에 갔다."])
    four_pieces = pieces([(0, 2), (2, 4), (4, 6), (6, 10)])  # 톰은 | 학 | 교에 | 갔다.
    assert annotates_morphemes(AnnotatorConfig("nmt_feat.annotators.Kiwi"))
    for cover, lost, values in (
        ("first", 4, ["PROPN", "NOUN", "NOUN", "VERB+PART"]),
        ("join", 0, ["PROPN+ADP", "NOUN", "NOUN+ADP", "VERB+PART+PART+PUNCT"]),
    ):
        vocab = FeatureVocab("upos", "copy", annotated=True, cover=cover)
        described = SourceEncoder(subwords, {"upos": vocab}).align(sentences, [""], four_pieces)
        names = described.values["upos"].values
        assert [names[i - VALUES] for i in described.carried["upos"][:-1]] == values
        assert described.lost == {"upos": lost}


# ---- real text


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Small:
    if not DATA or not (Path(DATA) / "korean").is_dir():
        pytest.skip("NMT_FEAT_DATA is not set to a folder with korean/")
    folder = tmp_path_factory.mktemp("korean")
    return Small(Path(DATA) / "korean", folder / "cache", folder)


LIMITS = (
    "data=korean",
    "~data.tests.jhe_dev",
    "subword.vocab_size=2500",
    "trainer.max_steps=4",
    "trainer.validate_every=4",
)


@pytest.mark.data
@pytest.mark.parametrize("combiner", ["concat", "average", "gate"])
def test_park_and_zhao(combiner: str, korean: Small) -> None:
    folder = korean.train(*LIMITS, f"combiner={combiner}", "features=[jamo,syllable]")
    run_record = record(folder)
    assert run_record["features"] == ["jamo", "syllable"]
    assert len((folder / "test.hyp").read_text(encoding="utf-8").splitlines()) == 720


@pytest.mark.data
def test_morphemes_and_jamo(korean: Small, kiwi: Kiwi) -> None:
    settings = ("annotator=kiwi", "annotator.processes=1", "features=[jamo,upos,lemma]")
    folder = korean.train(*LIMITS, *settings, "combiner=add", "data.limit=500")
    assert record(folder)["features"] == ["jamo", "lemma", "upos"]
