import gzip
from pathlib import Path

import pytest

from nmt_feat.errors import UserError
from nmt_feat.text.conllu import (
    Sentence,
    Word,
    align_words,
    parse_conllu,
    read_conllu,
    write_conllu,
)
from nmt_feat.text.forms import locate_forms
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import read_column


def conllu(*rows: str, text: str | None = None) -> list[str]:
    """Lines of a sentence; columns are separated by spaces here."""
    head = [] if text is None else [f"# text = {text}"]
    return [*head, *("\t".join(row.split(" ")) for row in rows), ""]


MOUSE = conllu(
    "1-2 Im _ _ _ _ _ _ _ _",
    "1 in in ADP APPR _ 3 case _ _",
    "2 dem der DET ART Case=Dat|Gender=Neut 3 det _ _",
    "3 Haus Haus NOUN NN Case=Dat 4 obl _ _",
    "4 schläft schlafen VERB VVFIN _ 0 root _ _",
    "5 sie sie PRON PPER Case=Nom 4 nsubj _ SpaceAfter=No",
    "5.1 nichts nichts PRON _ _ _ _ 4:obj _",
    "6 . . PUNCT $. _ 4 punct _ _",
    text="Im  Haus schläft sie.",
)


def test_words_have_spans_and_values() -> None:
    (sentence,) = parse_conllu(MOUSE, "mouse")
    assert sentence.text == "Im  Haus schläft sie."
    assert sentence.words[1] == Word(
        "Haus", 4, 8, "Haus", "NOUN", "NN", "Case=Dat", "obl", "VERB", head=3
    )
    assert [w.form for w in sentence.words] == ["Im", "Haus", "schläft", "sie", "."]
    assert all(sentence.text[w.start : w.end] == w.form for w in sentence.words)
    assert sentence.words[2].head_upos == "ROOT"
    assert sentence.words[2].head == 0


def test_multiword_token_joins_its_parts() -> None:
    (sentence,) = parse_conllu(MOUSE, "mouse")
    assert sentence.words[0] == Word(
        "Im",
        0,
        2,
        "in+der",
        "ADP+DET",
        "APPR+ART",
        "_+Case=Dat|Gender=Neut",
        "case+det",
        "NOUN+NOUN",
        head=2,
    )


def test_own_keys_of_a_multiword_token() -> None:
    """Those of the token, then of its parts; what is said twice is there once."""
    lines = conllu(
        "1-2 im _ _ _ _ _ _ _ NER=O",
        "1 in in ADP _ _ 0 root _ Gloss=in|NER=O",
        "2 dem der DET _ _ 1 det _ Gloss=the+dat",
    )
    sentences = Sentences.of(parse_conllu(lines, "x"))
    assert read_column(sentences, "misc").values == ["NER=O|Gloss=in|Gloss=the+dat"]
    assert read_column(sentences, "misc.Gloss").values == ["in+the+dat"]
    assert read_column(sentences, "misc.NER").values == ["O"]


def test_head_inside_and_outside_of_a_multiword_token() -> None:
    lines = conllu(
        "1 he he PRON _ _ 3 nsubj _ _",
        "2-3 isn't _ _ _ _ _ _ _ _",
        "2 is be AUX _ _ 0 root _ _",
        "3 n't not PART _ _ 2 advmod _ _",
    )
    (sentence,) = parse_conllu(lines, "x")
    assert sentence.words[0].head_upos == "PART"  # the part that is the head
    assert sentence.words[0].head == 2
    assert sentence.words[1].head_upos == "ROOT+AUX"
    assert sentence.words[1].head == 0
    assert sentence.words[1].feats == "_"


def test_text_from_space_after() -> None:
    lines = conllu(
        "1 Go go VERB _ _ 0 root _ SpaceAfter=No|Gloss=x",
        "2 ! ! PUNCT _ _ 1 punct _ _",
        "3 Now now ADV _ _ 1 advmod _ _",
    )
    (sentence,) = parse_conllu(lines, "x")
    assert sentence.text == "Go! Now"


def test_other_text_comments_and_forms_with_spaces() -> None:
    lines = ["# text_en = not this", "# sent_id = 7", *conllu(text="2 000 dogs")[:1]]
    lines += ["1\t2 000\t2000\tNUM\t_\t_\t2\tnummod\t_\t_", "2\tdogs\tdog\tNOUN\t_\t_\t_\t_\t_\t_"]
    (sentence,) = parse_conllu(lines, "x")
    assert [(w.form, w.start, w.end) for w in sentence.words] == [("2 000", 0, 5), ("dogs", 6, 10)]
    assert (sentence.words[1].head, sentence.words[1].head_upos) == (-1, "_")


def test_round_trip() -> None:
    sentences = [
        *parse_conllu(MOUSE, "mouse"),
        Sentence("  a\u00a0b +", (Word("a", 2, 3), Word("b", 4, 5, "b", head=1), Word("+", 6, 7))),
        Sentence("1\t2", (Word("1", 0, 1, head=0, head_upos="ROOT"), Word("2", 2, 3))),
    ]
    assert list(parse_conllu(write_conllu(sentences).split("\n"), "x")) == sentences
    assert write_conllu([]) == ""


def test_a_key_that_ends_in_head_upos() -> None:
    (sentence,) = parse_conllu(["1\ta\t_\tX\t_\t_\t0\troot\t_\tMyHeadUPOS=Y"], "x")
    assert sentence.words == (
        Word("a", 0, 1, upos="X", deprel="root", head_upos="ROOT", head=0, misc="MyHeadUPOS=Y"),
    )


def test_a_tab_in_the_last_column() -> None:
    written = write_conllu([Sentence("a", (Word("a", 0, 1, misc="X=1\t2"),))])
    (sentence,) = parse_conllu(written.split("\n"), "x")
    assert sentence.words == (Word("a", 0, 1, misc="X=1 2"),)


def test_reads_gzip_and_a_missing_last_blank_line(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress("\r\n".join([*MOUSE, *MOUSE[:-1]]).encode()))
    assert len(list(read_conllu(path))) == 2


GOOD = "1 a a X _ _ 0 root _ _"
BAD = {
    "nine columns": (
        ["1 a a X _ _ 0 root _"],
        "f:1: 9 columns, not 10 (CoNLL-U, by tabs): "
        r"'1\ta\ta\tX\t_\t_\t0\troot\t_'",
    ),
    "truncated": (
        [GOOD, "2 b b"],
        "f:2: 3 columns, not 10 (CoNLL-U, by tabs): '2\\tb\\tb'",
    ),
    "id": (
        ["one a a X _ _ 0 root _ _"],
        "f:1: the id 'one' is not a number, range (1-2) or empty node (1.1)",
    ),
    "duplicate id": (
        [GOOD, GOOD],
        "f:2: id 1 after 1 words; ids must count 1, 2, 3 ...",
    ),
    "missing id": (
        [GOOD, "3 b b X _ _ 1 dep _ _"],
        "f:2: id 3 after 1 words; ids must count 1, 2, 3 ...",
    ),
    "head word": (
        ["1 a a X _ _ root root _ _"],
        "f:1: the head 'root' is not a number; 0 is the root, _ none",
    ),
    "head far": (
        [GOOD, "2 b b X _ _ 9 dep _ _"],
        "f:2: the head 9 is outside the sentence (0 to 2)",
    ),
    "empty form": (
        ["1  a X _ _ 0 root _ _"],
        "f:1: the column FORM is empty; write _ for no value",
    ),
    "empty upos": (
        ["1 a a  _ _ 0 root _ _"],
        "f:1: the column UPOS is empty; write _ for no value",
    ),
    "range late": (
        [GOOD, "1-2 ab _ _ _ _ _ _ _ _", "2 b b X _ _ 1 dep _ _"],
        "f:2: the range 1-2 must stand right before its first word",
    ),
    "range long": (
        ["1-3 a _ _ _ _ _ _ _ _", GOOD],
        "f:2: a range ends at 3, the sentence at word 1",
    ),
    "no words": (["# text = a"], "f:1: a sentence without words; remove it or annotate it"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD.keys())
def test_broken_lines(rows: list[str], message: str) -> None:
    lines = [r if r.startswith("#") else "\t".join(r.split(" ")) for r in rows]
    with pytest.raises(UserError) as error:
        list(parse_conllu([*lines, ""], "f"))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "b",
            "f:1: the forms differ from '# text': 'a' is not at character 0 ('b' ...); "
            "correct either",
        ),
        (
            "a  bc",
            "f:1: the forms differ from '# text': no word covers 'bc' at character 3; "
            "correct either",
        ),
    ],
)
def test_forms_that_are_not_in_the_text(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        list(parse_conllu(conllu(GOOD, text=text), "f"))
    assert str(error.value) == message


def test_forms_with_other_text_between() -> None:
    with pytest.raises(UserError, match=r"^here: "):
        locate_forms(["a", "b"], "a x b", "here", "mend it")


def test_align_moves_words_to_other_spacing() -> None:
    words = align_words("ab  c", [Word("a b", 0, 3, "l"), Word("c", 4, 5)], "f:1")
    assert words == (Word("ab", 0, 2, "l"), Word("c", 4, 5))
    with pytest.raises(UserError) as error:
        align_words("abd", words, "f:1")
    assert str(error.value) == (
        "f:1: the annotation does not fit the text 'abd': 'c' is not at character 2 ('d' ...); "
        "annotate this very text"
    )
