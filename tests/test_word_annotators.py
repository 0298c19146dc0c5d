"""Annotators of single languages and purposes: Simplemma, jieba, fugashi, Stanza, spaCy's names."""

from __future__ import annotations

import importlib.metadata
import pickle
import shutil
import sys
from pathlib import Path

import pytest

from nmt_feat.annotators import Fugashi, Jieba, Simplemma, SpaCy, Stanza
from nmt_feat.annotators.texts import annotate_texts, fingerprint_of, make_annotator
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence


def rows(sentence: Sentence) -> list[tuple[str, str, str]]:
    return [(word.form, word.lemma, word.upos) for word in sentence.words]


def test_simplemma() -> None:
    pytest.importorskip("simplemma")
    text = "Die Häuser – 3,5 m –  standen leer."
    blank, sentence = annotate_texts(Simplemma("de"), [" ", text])
    assert blank.words == ()
    assert [(w.form, w.lemma) for w in sentence.words] == [
        *(("Die", "der"), ("Häuser", "Haus"), ("–", "–"), ("3,5", "3,5"), ("m", "m"), ("–", "–")),
        *(("standen", "stehen"), ("leer", "leer"), (".", ".")),
    ]
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    (english,) = Simplemma("en").annotate(["The dogs ran."])
    assert [w.lemma for w in english.words][1:3] == ["dog", "run"]
    version = importlib.metadata.version("simplemma")
    assert fingerprint_of(Simplemma("de")) == f"simplemma simplemma={version} language=de"


def test_jieba(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jieba")
    text = "我爱 北京天安门。 hello"
    tagger = pickle.loads(pickle.dumps(Jieba()))
    (sentence,) = annotate_texts(tagger, [text])
    assert rows(sentence) == [
        ("我", "_", "PRON"),
        ("爱", "_", "VERB"),
        ("北京", "_", "PROPN"),
        ("天安门", "_", "PROPN"),
        ("。", "_", "PUNCT"),
        ("hello", "_", "X"),
    ]
    assert [w.xpos for w in sentence.words][:3] == ["r", "v", "ns"]
    assert all(text[w.start : w.end] == w.form for w in sentence.words)
    assert capfd.readouterr() == ("", "")


def test_fugashi() -> None:
    pytest.importorskip("fugashi")
    pytest.importorskip("ipadic")
    text = "私は  学校に行きました。"
    (sentence,) = annotate_texts(Fugashi(), [text])
    assert rows(sentence) == [
        ("私", "私", "PRON"),
        ("は", "は", "ADP"),
        ("学校", "学校", "NOUN"),
        ("に", "に", "ADP"),
        ("行き", "行く", "VERB"),
        ("まし", "ます", "AUX"),
        ("た", "た", "AUX"),
        ("。", "。", "PUNCT"),
    ]
    word = sentence.words[2]
    assert (word.xpos, word.misc) == ("名詞-一般", "Reading=ガッコウ")
    assert all(text[w.start : w.end] == w.form for w in sentence.words)


# ---- Stanza: its own objects, of a pipeline that is none, for its models are downloads


def make_stanza(folder: Path) -> Stanza:
    pytest.importorskip("stanza")
    (folder / "en" / "pos").mkdir(parents=True)
    (folder / "en" / "pos" / "tiny.pt").write_bytes(b"tiny")
    (folder / "resources.json").write_text("{}")
    return Stanza("en", str(folder))


def test_stanza(tmp_path: Path) -> None:
    """Two sentences of a line, a token of two words, and names in IOB."""
    stanza = make_stanza(tmp_path)
    from stanza.models.common.doc import Document

    first = [
        {"id": 1, "text": "Ann", "lemma": "Ann", "upos": "PROPN", "xpos": "NNP", "head": 2},
        {"id": [2, 3], "text": "can't", "ner": "O", "start_char": 4, "end_char": 9},
        {"id": 2, "text": "ca", "lemma": "can", "upos": "AUX", "head": 0, "deprel": "root"},
        {"id": 3, "text": "n't", "lemma": "not", "upos": "PART", "head": 2, "deprel": "advmod"},
    ]
    first[0] |= {"deprel": "nsubj", "ner": "S-PERSON", "start_char": 0, "end_char": 3}
    second = [
        {"id": 1, "text": "New", "head": 2, "ner": "B-GPE", "start_char": 11, "end_char": 14},
        {"id": 2, "text": "York", "head": 0, "ner": "E-GPE", "start_char": 15, "end_char": 19},
    ]
    text = "Ann can't. New York"
    first.append({"id": 4, "text": ".", "head": 2, "ner": "O", "start_char": 9, "end_char": 10})
    stanza.__dict__["_tagger"] = lambda line: Document([first, second], text=line)
    (sentence,) = annotate_texts(stanza, [text])
    assert [(w.form, w.upos, w.head, w.head_upos, w.misc) for w in sentence.words] == [
        ("Ann", "PROPN", 2, "AUX", "NER=B-PERSON"),
        ("can't", "AUX+PART", 0, "ROOT+AUX", "_"),
        (".", "_", 2, "AUX", "_"),
        ("New", "_", 5, "_", "NER=B-GPE"),
        ("York", "_", 0, "ROOT", "NER=I-GPE"),
    ]
    assert sentence.words[1].lemma == "can+not"


def test_fingerprint_of_stanza(tmp_path: Path) -> None:
    """That of versions, models and settings, not of the place."""
    first = make_stanza(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert Stanza("en", str(tmp_path / "b")).fingerprint() == first.fingerprint()
    assert Stanza("en", str(tmp_path / "b"), ["tokenize"]).fingerprint() != first.fingerprint()
    (tmp_path / "b" / "en" / "pos" / "tiny.pt").write_bytes(b"other")
    assert Stanza("en", str(tmp_path / "b")).fingerprint() != first.fingerprint()


def test_stanza_without_models(tmp_path: Path) -> None:
    pytest.importorskip("stanza")
    download = f"stanza.download('de', model_dir='{tmp_path}')"
    with pytest.raises(UserError) as error:
        Stanza("de", str(tmp_path))
    assert str(error.value) == (
        f"annotator=stanza: there are no models of de in {tmp_path}; download them: "
        f'python -c "import stanza; {download}"'
    )
    stanza = make_stanza(tmp_path)
    with pytest.raises(UserError) as error:
        stanza.annotate(["a"])
    assert str(error.value).startswith("annotator=stanza: Stanza cannot load its models (")


# ---- spaCy's names


@pytest.mark.thorough
def test_names_of_spacy(tmp_path: Path) -> None:
    """Class and place in the name, where they are asked for; else all is as it was."""
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    patterns = [{"label": "ORG", "pattern": "New Works"}, {"label": "PER", "pattern": "Ann"}]
    nlp.add_pipe("entity_ruler").add_patterns(patterns)
    nlp.to_disk(tmp_path)
    text = "Ann left New Works."
    plain, named = SpaCy(str(tmp_path)), SpaCy(str(tmp_path), entities=True)
    assert [w.misc for s in plain.annotate([text]) for w in s.words] == ["_"] * 5
    assert [w.misc for s in named.annotate([text]) for w in s.words] == [
        *("NER=B-PER", "_", "NER=B-ORG", "NER=I-ORG", "_"),
    ]
    assert named.fingerprint() == f"{plain.fingerprint()} entities"


# ---- what is refused


PACKAGES = {
    "Fugashi": ("fugashi", {}),
    "Jieba": ("jieba", {}),
    "Simplemma": ("simplemma", {"language": "de"}),
    "Stanza": ("stanza", {"language": "de"}),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_missing_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, args = PACKAGES[name]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        make_annotator(AnnotatorConfig(f"nmt_feat.annotators.{name}", args=args))
    assert str(error.value) == (
        f"annotator={package} needs the package {package}: pip install 'nmt_feat[{package}]'"
    )


def test_unknown_language() -> None:
    pytest.importorskip("simplemma")
    with pytest.raises(UserError, match="annotator=simplemma: no language 'zz'; known: "):
        Simplemma("zz")
