"""Sentences in columns are those that the parser of single sentences gives, mistakes included."""

from collections.abc import Sequence

import pytest

from nmt_feat.errors import UserError
from nmt_feat.text.conllu import parse_conllu, read_conllu
from nmt_feat.text.conllu_blocks import parse_block
from nmt_feat.text.files import read_lines
from nmt_feat.text.sentences import ANNOTATION, HEAD, Sentences
from tests.support.small import ROOT


def sentence(*rows: str) -> list[str]:
    """Lines of a sentence; columns are separated by spaces here, and `~` is one in a column."""
    return [*("\t".join(row.split(" ")).replace("~", " ") for row in rows), ""]


WORD = "1 a b NOUN N C=1 0 root _ _"
SECOND = WORD.replace("1", "2", 1)
MANY = [f"{n} a a X _ _ {n // 2} x _ _" for n in range(1, 1103)]
PLAIN = sentence(
    WORD, "2 c d VERB V _ 1 dep _ SpaceAfter=No", "3 . . X _ _ 9 x _ _".replace("9", "2")
)
CASES = {
    "plain": PLAIN,
    "text in a comment": ["# sent_id = 1", "# text = a c.", *PLAIN],
    "another text": ["# text = a  c .", *PLAIN],
    "two texts": ["# text = other", "# text = a c.", *PLAIN],
    "comment with nine tabs": ["#" + "\t" * 9, *PLAIN],
    "comment inside": [PLAIN[0], "# text = a c.", *PLAIN[1:]],
    "range": sentence("1-2 ab _ _ _ _ _ _ _ SpaceAfter=No", WORD, WORD.replace("1", "2")),
    "empty node": sentence(WORD, "1.1 x x X _ _ _ _ _ _"),
    "head in HeadUPOS": sentence("1 a a X _ _ _ x _ HeadUPOS=NOUN"),
    "no head, itself": sentence("1 a a X _ _ _ x _ _", "2 a a X _ _ 2 x _ _"),
    "space in a form": sentence("1 New~York N X _ _ 0 x _ _"),
    "wide space in a form": sentence("1 a\u3000b N X _ _ 0 x _ _"),
    "last word with a space behind it": sentence("1 a a X _ _ 0 x _ A=1|SpaceAfter=No"),
    "own in misc": sentence("1 a a X _ _ 0 x _ A=1|SpaceAfter=No|B=2"),
    "quotes": sentence('1 " "" X _ _ 0 x _ "'),
    "like null": sentence("1 NA null NULL nan #N/A 0 n/a _ _", "2 NULL 1 true 0 _ 1 x _ _"),
    "beyond the first plane": sentence("1 \U00010400é a X _ _ 0 x _ SpaceAfter=No", SECOND),
    "NUL": sentence("1 a\0b \0 X _ _ 0 x _ _"),
    "byte-order mark before an id": sentence("\ufeff" + WORD),
    "carriage return inside": sentence("1 a\rb a X _ _ 0 x _ _"),
    "blank line of tabs": [*PLAIN, "\t" * 9, *PLAIN],
    "blank lines": [*PLAIN, "", " ", "", *PLAIN],
    "more than a thousand words": sentence(*MANY),
    "zero before an id": sentence(WORD.replace("1", "01", 1)),
    "wrong id": sentence(WORD, WORD),
    "no id": sentence(WORD.replace("1", "x", 1)),
    "head outside": sentence("1 a a X _ _ 2 x _ _"),
    "no head": sentence("1 a a X _ _ x x _ _"),
    "nine columns": sentence("1 a a X _ _ 0 x _"),
    "empty column": sentence("1 a  X _ _ 0 x _ _"),
    "column of a space": sentence("1 a ~ X _ _ 0 x _ _"),
    "forms differ from the text": ["# text = a c", *PLAIN],
    "only a comment": ["# text = a", ""],
}  # fmt: skip


def outcome(quick: bool, lines: Sequence[str], columns: Sequence[str] = ANNOTATION) -> object:
    """All that is read, or what is said."""
    try:
        if quick:
            return parse_block(lines, "x", 7, columns).table().to_pydict()
        return Sentences.of(parse_conllu(lines, "x", 7), columns).table().to_pydict()
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("columns", [(*ANNOTATION, HEAD), ("head_upos",), ()])
def test_same(name: str, columns: tuple[str, ...]) -> None:
    """Alone, and between plain sentences."""
    lines = CASES[name]
    for document in (lines, lines[:-1], PLAIN + lines + PLAIN, lines + PLAIN + PLAIN + lines):
        assert outcome(True, document, columns) == outcome(False, document, columns)


def test_first_mistake_is_said() -> None:
    """Of several, in sentences of different kinds."""
    wrong = [CASES["nine columns"], CASES["forms differ from the text"], CASES["wrong id"]]
    messages = {
        outcome(True, PLAIN + wrong[i] + wrong[i - 1] + PLAIN + wrong[i - 2]) for i in range(3)
    }
    assert messages == {
        "x:11: 9 columns, not 10 (CoNLL-U, by tabs): '1\\ta\\ta\\tX\\t_\\t_\\t0\\tx\\t_'",
        "x:11: the forms differ from '# text': '.' is not at character 3 ('' ...); correct either",
        "x:12: id 1 after 1 words; ids must count 1, 2, 3 ...",
    }


@pytest.mark.thorough
def test_embedded_corpus() -> None:
    path = ROOT / "data" / "embedded" / "train.conllu"
    parsed = parse_block(read_lines(path), str(path), 1, (*ANNOTATION, HEAD))
    assert parsed.table().equals(Sentences.of(read_conllu(path)).table())
