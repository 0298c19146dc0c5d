"""Glossaries: how they are read, where a text has their terms, how these are written into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.glossary import Glossary, Term, count_tokens, join_tokens, split_tokens
from nmt_feat.text.term_insertion import Insertion
from nmt_feat.text.word_values import MISSING, whitespace_words

APPEND, REPLACE = Insertion(), Insertion(keeps_source=False)
TAGS = ("⟦", "⟠", "⟧")
GLOSSARY = Glossary(
    [
        Term("bakers", "Bäcker"),
        Term("red duck", "rote Ente"),
        Term("duck", "Ente"),
        Term("New York", "NY"),
        Term("北京", "Peking"),
        Term("go out", "ausgehen", "go out"),
    ]
)
ROW = "a line is: source term, tab, target term, and maybe a tab and the source term's lemmas"
BAD = {
    "": f"the file is empty; {ROW}",
    "\n \n": f"the file is empty; {ROW}",
    "bank\n": f"1: 1 columns in 'bank'; {ROW}",
    "a\tb\n\na\tb\tc\td\n": f"3: 4 columns in 'a\\tb\\tc\\td'; {ROW}",
    "\tBank\n": f"1: the source term is empty; {ROW}",
    "bank\t \n": f"1: the target term is empty; {ROW}",
    "e-mail\tMail\ne - mail\tPost\n": "2: 'e - mail' is 'Post' here, 'Mail' in line 1; keep one "
    "of them",
    "bank\tBank\ncat\tKatze\nbank\tUfer\n": "3: 'bank' is 'Ufer' here, 'Bank' in line 1; keep one "
    "of them",
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("text", BAD)
def test_refused_files(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "glossary.tsv", text)
    with pytest.raises(UserError) as error:
        Glossary.read(path)
    message = BAD[text]
    assert str(error.value) == f"{path}:{'' if message[0].isdigit() else ' '}{message}"


def test_file() -> None:
    with pytest.raises(UserError, match="no such file"):
        Glossary.read("nowhere.tsv")


def test_rows_may_repeat_and_are_brought_into_normal_form(tmp_path: Path) -> None:
    path = write(tmp_path / "g.tsv", "\ufeffba\u0308r\tBär\r\n\nold  man\t alter  Mann \told man\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("bär\tBär\n")
    assert Glossary.read(path).terms == [
        Term("bär", "Bär"),
        Term("old man", "alter Mann", "old man"),
    ]


FOUND = {
    "The bakers sleep.": ["bakers"],
    "Bakers sleep.": ["Bakers"],
    "The bakersfield": [],
    "(bakers)bakers": ["bakers", "bakers"],
    "a red duck": ["red duck"],
    "a Red duck, a duck": ["Red duck", "duck"],
    "red": [],
    "New York, new york": ["New York"],
    "我爱北京。": ["北京"],
    "": [],
}


@pytest.mark.parametrize("text", FOUND)
def test_places(text: str) -> None:
    assert [text[o.start : o.end] for o in GLOSSARY.find_terms(text)] == FOUND[text]


def test_marks_of_vowels_belong_to_their_words() -> None:
    glossary = Glossary([Term("हि", "a")])
    assert glossary.find_terms("हिन्दी हि")[0].start == 7


def test_joiners_without_width_stay_inside_of_words() -> None:
    """A part of a word of Persian or Hindi is no term."""
    glossary = Glossary([Term("خواهم", "will"), Term("می\u200cخواهم", "ich will")])
    assert [o.term.target for o in glossary.find_terms("نمی\u200cخواهم")] == []
    assert [o.term.target for o in glossary.find_terms("می\u200cخواهم!")] == ["ich will"]
    assert split_tokens("क्\u200dष a\u200c b") == ("क्\u200dष", "a", "\u200c", "b")


def test_tokens_are_joined_as_their_script_is_written() -> None:
    for text in ("北京大学", "red duck", "ABC 大学", "ไทย"):
        assert join_tokens(split_tokens(text)) == text


def test_lemmas() -> None:
    text = "Children went out"
    spans, lemmas = [(0, 8), (9, 13), (14, 17)], ["child", "go", "out"]
    assert GLOSSARY.find_terms(text) == []
    assert [text[o.start : o.end] for o in GLOSSARY.find_terms(text, spans, lemmas)] == ["went out"]
    only = Glossary([Term("children", "Kinder"), Term("kid", "Kind", "child")])
    (occurrence,) = only.find_terms(text, spans, lemmas)
    assert occurrence.term.target == "Kinder"  # what is written so comes first


def find_by_lemma(glossary: Glossary, text: str, lemmas: str) -> list[str]:
    """The terms that are found by the lemmas of the words between spaces."""
    words = whitespace_words(text)
    spans = [(word.start, word.end) for word in words]
    return [o.term.source for o in glossary.find_terms(text, spans, lemmas.split())]


def test_lemmas_with_hyphens() -> None:
    """A word with a hyphen has one lemma; a term is cut at hyphens."""
    glossary = Glossary([Term("e-mail", "Mail"), Term("old check-in desk", "Schalter")])
    assert find_by_lemma(glossary, "two E-mailed letters", "two E-mail letter") == ["e-mail"]
    assert find_by_lemma(glossary, "two e - mailed letters", "two e - mail letter") == ["e-mail"]
    desks = find_by_lemma(glossary, "older check-ins desks", "old check-in desk")
    assert desks == ["old check-in desk"]


def test_terms_without_hyphens_are_no_parts_of_lemmas() -> None:
    glossary = Glossary([Term("mails", "Post", "mail"), Term("e mail", "x"), Term("e", "y")])
    assert find_by_lemma(glossary, "e-mailed mailing", "e-mail mail") == ["e", "mails"]
    assert find_by_lemma(glossary, "E-mailing", "e-mail") == ["e"]  # as it is written
    only_lemmas = Glossary([Term("mails", "Post", "mail"), Term("check", "x")])
    assert find_by_lemma(only_lemmas, "e-mailed checked-in", "e-mail check-in") == []


WRITTEN = {
    "The bakers sleep.": (
        "The bakers Bäcker sleep.",
        "01200",
        "The Bäcker sleep.",
        "0200",
        "The ⟦ bakers ⟠ Bäcker ⟧ sleep.",
    ),
    "a red duck.": (
        "a red duck rote Ente.",
        "011220",
        "a rote Ente.",
        "0220",
        "a ⟦ red duck ⟠ rote Ente ⟧ .",
    ),
    "我爱北京也": (
        "我爱北京 Peking 也",
        "001120",
        "我爱 Peking 也",
        "0020",
        "我爱 ⟦ 北京 ⟠ Peking ⟧ 也",
    ),
    "nothing": ("nothing", "0", "nothing", "0", "nothing"),
    "": ("", "", "", "", ""),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_written_terms(text: str) -> None:
    occurrences = GLOSSARY.find_terms(text)
    appended, marks, replaced, marks_replaced, tagged = WRITTEN[text]
    for insertion, expected, digits in (
        (APPEND, appended, marks),
        (REPLACE, replaced, marks_replaced),
        (Insertion(tags=TAGS), tagged, ""),
    ):
        sentence = insertion.write_terms(Sentence(text), occurrences)
        assert sentence.text == expected
        expected_misc = [f"{MISSING}|TERM={digit}" for digit in digits]
        assert [word.misc for word in sentence.words] == expected_misc
        assert all(sentence.text[w.start : w.end] == w.form for w in sentence.words)
    assert Insertion(False, TAGS).write_terms(Sentence(text), occurrences).text == (
        tagged.replace("bakers ⟠ ", "").replace("red duck ⟠ ", "").replace("北京 ⟠ ", "")
    )


def annotate() -> Sentence:
    """`A red duck slept.`, with heads; the last word has a value of its own in `misc`."""
    rows = [("A", 3, "DET"), ("red", 3, "ADJ"), ("duck", 4, "NOUN"), ("slept.", 0, "VERB")]
    words, position = [], 0
    for form, head, upos in rows:
        word = Word(form, position, position + len(form), form.lower(), upos, head=head)
        words.append(word)
        position += len(form) + 1
    words[-1] = words[-1]._replace(misc="Gloss=x")
    return Sentence("A red duck slept.", tuple(words))


def test_annotation_of_inserted_words() -> None:
    sentence = annotate()
    occurrences = GLOSSARY.find_terms(sentence.text)
    appended = APPEND.write_terms(sentence, occurrences)
    assert [(w.form, w.upos, w.head) for w in appended.words] == [
        ("A", "DET", 3),
        ("red", "ADJ", 3),
        ("duck", "NOUN", 6),
        ("rote", "NOUN", 3),
        ("Ente", "NOUN", 3),
        ("slept.", "VERB", 0),
    ]
    assert appended.words[-1].misc == "Gloss=x|TERM=0"
    replaced = REPLACE.write_terms(sentence, occurrences)
    assert [(w.form, w.upos, w.head) for w in replaced.words] == [
        ("A", "DET", 2),
        ("rote", "NOUN", 4),
        ("Ente", "NOUN", 2),
        ("slept.", "VERB", 0),
    ]
    tagged = Insertion(tags=TAGS).write_terms(sentence, occurrences)
    forms = [w.form for w in tagged.words]
    assert forms == ["A", "⟦", "red", "duck", "⟠", "rote", "Ente", "⟧", "slept."]
    assert [w.head for w in tagged.words] == [4, -1, 4, 9, -1, 4, 4, -1, 0]
    assert all(tagged.text[w.start : w.end] == w.form for w in tagged.words)


def test_words_that_go_on_behind_a_term_are_cut() -> None:
    text = "two ducks-and"
    words = (Word("two", 0, 3, head=2), Word("ducks-and", 4, 13, head=0))
    glossary = Glossary([Term("ducks", "Enten")])
    sentence = APPEND.write_terms(Sentence(text, words), glossary.find_terms(text))
    assert [(w.form, w.misc, w.head) for w in sentence.words] == [
        ("two", "TERM=0", 2),
        ("ducks", "TERM=1", 0),
        ("Enten", "TERM=2", 2),
        ("-and", "TERM=0", 0),
    ]
    assert sentence.text == "two ducks Enten-and"


def test_control_gives_each_term_the_translation_of_another() -> None:
    exchanged = GLOSSARY.exchange_targets()
    targets = {term.source: term.target for term in GLOSSARY.terms}
    assert sorted(exchanged.values()) == sorted(targets.values())
    assert all(exchanged[source] != target for source, target in targets.items())
    assert exchanged == Glossary(GLOSSARY.terms[::-1]).exchange_targets()


def test_neighbouring_terms_cut_a_word_once() -> None:
    sentence = Sentence("北京大学", (Word("北京大学", 0, 4, upos="PROPN"),))
    glossary = Glossary([Term("北京", "Peking"), Term("大学", "Universität")])
    written = APPEND.write_terms(sentence, glossary.find_terms(sentence.text))
    forms = [word.form for word in written.words]
    assert forms == ["北京", "Peking", "大学", "Universität"]
    assert all(written.text[word.start : word.end] == word.form for word in written.words)


def test_replacing_word_takes_the_place_of_the_term_in_the_tree() -> None:
    """The last word of the term depends on another word of it, which is the root."""
    words = (Word("They", 0, 4, head=2), Word("go", 5, 7, head=0), Word("out", 8, 11, head=2))
    occurrences = GLOSSARY.find_terms("They go out")
    written = REPLACE.write_terms(Sentence("They go out", words), occurrences)
    assert [(word.form, word.head) for word in written.words] == [("They", 2), ("ausgehen", 0)]


def test_no_token_is_nowhere() -> None:
    assert count_tokens(["a", "b"], []) == 0
