"""Annotators: what they give, and how one is chosen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unicodedata import normalize

import pytest

from nmt_feat.annotators import HanTa, UDPipe
from nmt_feat.annotators.texts import annotate_texts, make_annotator
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.config.instantiate import build_object
from nmt_feat.errors import UserError
from nmt_feat.extras import import_optional
from nmt_feat.text.conllu import Sentence

# ---- HanTa


def test_hanta_english() -> None:
    text = "The dog's men don't  saw 3.5 well-known ducks—hm."
    (sentence,) = HanTa("en").annotate([text])
    assert " ".join(w.form for w in sentence.words) == (
        "The dog 's men do n't saw 3.5 well-known ducks — hm ."
    )
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    values = {w.form: (w.lemma, w.xpos, w.upos) for w in sentence.words}
    assert values["The"] == ("the", "AT0", "DET")
    assert values["men"] == ("man", "NN2", "NOUN")
    assert values["n't"] == ("not", "XX0", "PART")
    assert values["'s"] == ("'s", "POS", "PART")
    assert values["3.5"][2] == "NUM"
    word = sentence.words[0]
    assert (word.feats, word.deprel, word.head_upos, word.head) == ("_", "_", "_", -1)


def test_hanta_german() -> None:
    (sentence,) = HanTa("de").annotate(["Ein Mann, der müde ist, geht nach Hause."])
    assert [(w.form, w.lemma, w.xpos, w.upos) for w in sentence.words[:6]] == [
        ("Ein", "ein", "ART", "DET"),
        ("Mann", "Mann", "NN", "NOUN"),
        (",", ",", "$,", "PUNCT"),
        ("der", "der", "PRELS", "PRON"),
        ("müde", "müde", "ADJ(D)", "ADJ"),
        ("ist", "sein", "VA(FIN)", "AUX"),
    ]


@pytest.mark.parametrize("language", ["en", "de"])
def test_hanta_map_covers_all_tags_of_the_model(language: str) -> None:
    hanta = HanTa(language)
    tagger = hanta._tagger
    tags = {tagger.int2tag[-tag] for tag in tagger.int2tag if tag < 0}
    assert tags <= hanta.upos.keys()
    universal = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X"
    assert set(hanta.upos.values()) <= {*universal.split()}


@pytest.mark.parametrize("text", ["", "   ", "😀", "’", "a\u0301 ñ", "漢字 + x_y", "can't", "'s"])
def test_hanta_takes_anything(text: str) -> None:
    (sentence,) = HanTa("en").annotate([text])
    assert sentence.text == text
    assert "".join(w.form for w in sentence.words) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "Der müde Mann fährt über Köln.",
        "  ệ\u212b é\u0323x 한국 각\u11a8 ",  # marks in any order, a sign that is another, jamo
    ],
)
def test_decomposed_text_is_annotated_as_composed(text: str) -> None:
    """The same words and values, in the text as it is."""
    hanta, decomposed_text = HanTa("de"), normalize("NFD", text)
    composed, decomposed = (
        annotate_texts(hanta, [t])[0] for t in (normalize("NFC", text), decomposed_text)
    )
    assert decomposed.text == decomposed_text
    assert all(decomposed_text[w.start : w.end] == w.form for w in decomposed.words)
    result = [(normalize("NFC", w.form), *w[3:]) for w in decomposed.words]
    assert result == [(w.form, *w[3:]) for w in composed.words]
    assert "".join(w.form for w in decomposed.words) == "".join(decomposed_text.split())


def test_text_that_composition_takes_apart_is_annotated_as_it_is() -> None:
    """U+0958 is two characters in NFC, one place of which is nowhere in the text."""
    text = "\u0958 mu\u0308de"
    assert annotate_texts(HanTa("de"), [text]) == HanTa("de").annotate([text])


# ---- choosing an annotator


def test_make_annotator() -> None:
    assert make_annotator(AnnotatorConfig()) is None
    config = AnnotatorConfig("nmt_feat.annotators.HanTa", args={"language": "de"})
    annotator = make_annotator(config)
    assert isinstance(annotator, HanTa)
    assert annotator.language == "de"
    assert annotator.fingerprint().endswith(" language=de")


MODULE = "nmt_feat.annotators"
WRONG = {
    "language": (
        AnnotatorConfig(f"{MODULE}.HanTa", args={"language": "fr"}),
        "annotator=hanta: no language 'fr'; known: de, en",
    ),
    "no language": (
        AnnotatorConfig(f"{MODULE}.HanTa"),
        f"{MODULE}.HanTa needs the argument 'language'",
    ),
    "model of HanTa": (
        AnnotatorConfig(f"{MODULE}.HanTa", model="x", args={"language": "de"}),
        f"{MODULE}.HanTa takes no argument 'model'; known: language",
    ),
    "argument": (
        AnnotatorConfig(f"{MODULE}.UDPipe", args={"modle": "x"}),
        f"{MODULE}.UDPipe takes no argument 'modle'; did you mean 'model'?",
    ),
    "class": (
        AnnotatorConfig(f"{MODULE}.UDPipes"),
        f"_target_={MODULE}.UDPipes: no class 'UDPipes' in {MODULE}; did you mean 'UDPipe'?",
    ),
    "function": (
        AnnotatorConfig(f"{MODULE}.make_annotator"),
        f"_target_={MODULE}.make_annotator: no class 'make_annotator' in {MODULE}; "
        "did you mean 'Annotator'?",
    ),
    "module": (
        AnnotatorConfig("nmt_feat.corpus.anotators.UDPipe"),
        "_target_=nmt_feat.corpus.anotators.UDPipe: no module 'nmt_feat.corpus.anotators'; "
        "did you mean 'annotators'?",
    ),
    "no module": (
        AnnotatorConfig("UDPipe"),
        "_target_=UDPipe: not a dotted name; write module.Class",
    ),
    "no annotator": (
        AnnotatorConfig("nmt_feat.config.schema.DataConfig"),
        "_target_=nmt_feat.config.schema.DataConfig: must be derived from "
        "nmt_feat.annotators.Annotator",
    ),
    "no model": (
        AnnotatorConfig(f"{MODULE}.UDPipe"),
        "annotator=udpipe needs a model: set annotator.model=FILE.udpipe "
        "(models for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)",
    ),
    "missing model": (
        AnnotatorConfig(f"{MODULE}.UDPipe", model="no/such.udpipe"),
        "annotator.model=no/such.udpipe: no such file; set annotator.model to a model",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_annotator(config: AnnotatorConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        make_annotator(config)
    assert str(error.value) == message


def test_broken_model(tmp_path: Path) -> None:
    path = tmp_path / "text.udpipe"
    path.write_text("not a model")
    with pytest.raises(UserError) as error:
        UDPipe(str(path)).annotate(["a"])
    assert str(error.value) == f"annotator.model={path}: not a UDPipe 1 model; get it again"


@pytest.mark.parametrize(
    ("config", "package", "extra"),
    [
        (AnnotatorConfig(f"{MODULE}.UDPipe", model="x"), "ufal.udpipe", "udpipe"),
        (AnnotatorConfig(f"{MODULE}.HanTa", args={"language": "en"}), "HanTa", "hanta"),
        (AnnotatorConfig("nmt_feat.annotators.Kiwi"), "kiwipiepy", "kiwi"),
        (AnnotatorConfig("nmt_feat.annotators.SpaCy", model="x"), "spacy", "spacy"),
    ],
)
def test_missing_package(
    config: AnnotatorConfig, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        make_annotator(config)
    assert str(error.value) == (
        f"annotator={extra} needs the package {package}: pip install 'nmt_feat[{extra}]'"
    )


def test_package_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there but cannot be imported is not called missing."""
    (tmp_path / "half_there.py").write_text("import nothing_like_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        import_optional("half_there", "a test", "half")
    assert str(error.value) == (
        "a test needs the package half_there (importing it failed: No module named "
        "'nothing_like_it'): pip install 'nmt_feat[half]'"
    )


def test_build_finds_modules_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.chdir(tmp_path)
    Path("mine_ok.py").write_text("class Mine:\n    def __init__(self, a, *, b=2): self.x = a, b\n")
    Path("other.py").write_text("import nothing_like_it\n")
    Path("typo_in_it.py").write_text("class\n")
    assert build_object("mine_ok.Mine", object, a=[1]).x == ([1], 2)
    for target, message in {
        "mine_okk.Mine": "no module 'mine_okk', neither in the current folder nor installed; "
        "did you mean 'mine_ok'?",
        "other.Mine": "importing other failed: No module named 'nothing_like_it'",
        "typo_in_it.Mine": "importing typo_in_it failed: SyntaxError: invalid syntax "
        "(typo_in_it.py, line 1)",
    }.items():
        with pytest.raises(UserError) as error:
            build_object(target, object)
        assert str(error.value) == f"_target_={target}: {message}"


# ---- UDPipe


@pytest.fixture(scope="module")
def udpipe() -> UDPipe:
    folder = os.environ.get("NMT_FEAT_DATA")
    if not folder:
        pytest.skip("NMT_FEAT_DATA is not set")
    return UDPipe(str(Path(folder) / "models" / "english-ewt.udpipe"))


@pytest.mark.data
def test_udpipe_line_of_several_sentences(udpipe: UDPipe) -> None:
    text = "I don't know 😀 her dog.  He is\there! "
    (sentence,) = udpipe.annotate([text])
    assert sentence.text == text
    assert " ".join(w.form for w in sentence.words) == "I don't know 😀 her dog . He is here !"
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    values = {w.form: w for w in sentence.words}
    assert values["don't"].upos == "AUX+PART"
    assert values["don't"].head_upos == "VERB+VERB"
    assert values["He"].head_upos == "ADV"
    assert sentence.words[values["He"].head - 1].form == "here"
    assert sum(w.head == 0 for w in sentence.words) == 2


@pytest.mark.data
def test_udpipe_lines_are_independent(udpipe: UDPipe) -> None:
    texts = ["A man sleeps", "and a dog .", "", " ", 'He said: "no', "A man sleeps"]
    together = udpipe.annotate(texts)
    assert together == [s for t in texts for s in udpipe.annotate([t])]
    assert together[2:4] == [Sentence("", ()), Sentence(" ", ())]


@pytest.mark.data
def test_udpipe_takes_anything(udpipe: UDPipe) -> None:
    text = "# text = a\x85 b\u2028 \x0c ’_ 1-2\tx\u3000😀"
    (sentence,) = udpipe.annotate([text])
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    assert "".join(w.form for w in sentence.words) == "".join(text.split())


@pytest.mark.data
def test_udpipe_in_german(udpipe: UDPipe) -> None:
    german = UDPipe(str(udpipe.model.parent / "german-gsd-pud-lit.udpipe"))
    (sentence,) = german.annotate(["Er ist im Haus."])
    assert (sentence.words[2].form, sentence.words[2].upos) == ("im", "ADP+DET")
    assert german.fingerprint() != udpipe.fingerprint()
