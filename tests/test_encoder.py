import re
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.data.alignment import SourceEncoder, find_first_pieces, find_word_of_piece
from nmt_feat.embedders.ids import END, EOS, UNK
from nmt_feat.errors import UserError
from nmt_feat.features.values import tag_pieces
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab
from nmt_feat.text.conllu import Sentence, Word, parse_conllu
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from tests.support.splits import Encoded, encode, pieces


def words(text: str, *forms: str) -> list[Word]:
    results, at = [], 0
    for form in forms:
        at = text.index(form, at)
        results.append(Word(form, at, at + len(form), upos=form.upper()))
        at += len(form)
    return results


@pytest.mark.parametrize(
    ("text", "forms", "spans", "owners"),
    [
        # word marks take their space along; a piece over two words belongs to the first
        ("I don't.", ["I", "do", "n't", "."], [(0, 1), (1, 4), (4, 7), (7, 8)], [0, 1, 2, 3]),
        ("I don't.", ["I", "do", "n't", "."], [(0, 1), (1, 7), (7, 8)], [0, 1, 3]),
        # the first visible character decides, not the first character
        ("a b", ["a", "b"], [(0, 1), (1, 3)], [0, 1]),
        # lone word marks take the next word's, even several; at the end the last word's
        (
            "  a  b ",
            ["a", "b"],
            [(0, 0), (0, 1), (1, 3), (3, 4), (4, 6), (6, 7)],
            [0, 0, 0, 1, 1, 1],
        ),
        # a lone mark inside a word with a space takes that word's
        ("10 000 x", ["10 000", "x"], [(0, 2), (2, 3), (3, 6), (6, 8)], [0, 0, 0, 1]),
        # bytes: empty spans stand at their character
        ("xж y", ["xж", "y"], [(0, 1), (1, 1), (1, 2), (2, 4)], [0, 0, 0, 1]),
        ("ж", ["ж"], [(0, 0), (0, 0), (0, 1)], [0, 0, 0]),
        # combining marks, joined emoji, Korean
        ("a\u0308b c", ["a\u0308b", "c"], [(0, 1), (1, 2), (2, 3), (3, 5)], [0, 0, 0, 1]),
        ("👩‍👧 x", ["👩‍👧", "x"], [(0, 2), (2, 3), (3, 4), (4, 5)], [0, 0, 1, 1]),
        ("한국어를 배워", ["한국어", "를", "배워"], [(0, 2), (2, 4), (4, 7)], [0, 0, 2]),
        # control characters need no word
        ("\ufeffa\u00adb", ["a\u00adb"], [(0, 1), (1, 2), (2, 3), (3, 4)], [0, 0, 0, 0]),
        ("a \u200b", ["a"], [(0, 1), (1, 3)], [0, 0]),
        ("", [], [], []),
        ("  ", [], [(0, 1), (1, 2)], [-1, -1]),
    ],
)
def test_word_of_piece(text: str, forms: list, spans: list, owners: list) -> None:
    sentence = Sentence(text, tuple(words(text, *forms)))
    word_indices = find_word_of_piece(pieces(spans), Sentences.of([sentence]), [""])
    assert word_indices.tolist() == owners
    # Between others, which end and begin without a space, the numbers of words go on.
    second_sentence = Sentence("xy", tuple(words("xy", "x", "y")))
    around = pieces([(0, 2), (2, 2)], spans, [], [(0, 1), (1, 2)])
    word_indices = find_word_of_piece(
        around, Sentences.of([second_sentence, sentence, Sentence(""), second_sentence]), [""] * 4
    )
    moved = [owner if owner < 0 else owner + 2 for owner in owners]
    assert word_indices.tolist() == [0, 1, *moved, 2 + len(forms), 3 + len(forms)]


def test_a_gap_in_the_annotation_is_an_error() -> None:
    text, forms = "He is (not) here", ["He", "is", "not", "here"]
    sentences = [Sentence("a", tuple(words("a", "a"))), Sentence(text, tuple(words(text, *forms)))]
    spans = [(0, 5), (5, 11), (11, 16)]
    message = (
        "f:3: the annotation does not fit the text, no word covers {!r} at character {} of "
        "'He is (not) here'; correct the annotation or make it again with an annotator"
    )
    with pytest.raises(UserError) as error:
        find_word_of_piece(pieces([(0, 1)], spans), Sentences.of(sentences), ["f:2", "f:3"])
    assert str(error.value) == message.format("(", 7)
    # behind the last word, though the next sentence has one there
    sentences[1] = Sentence(text, sentences[1].words[:2])
    with pytest.raises(UserError) as error:
        find_word_of_piece(
            pieces(spans, [(0, 1)]), Sentences.of([*sentences[1:], sentences[0]]), ["f:3", "f:4"]
        )
    assert str(error.value) == message.format("(", 7)


def test_subword_tags() -> None:
    def tags(owner: list[int], *counts: int) -> str:
        begins = find_first_pieces(np.array(owner, np.int64), np.array(counts))
        result = tag_pieces(begins)
        return "".join(result.strings().to_pylist())

    assert tags([0, 1, 1, 2, 2, 2, 2, 3], 8) == "OBEBIIEO"
    assert tags([0, 0, 1, 1], 2, 0, 2) == "BEBE"
    assert tags([-1, -1, -1, 0], 1, 2, 1) == "OBEO"  # without words: tags end with the sentence
    assert tags([], 0) == ""


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("the hou@@ ses@@ boat is lo@@ w", "OBIEOBE"),
        ("▁the ▁hou s e ▁low", "OBIEO"),
        ("the hou￭ ￭ses are low ￭.", "OBEOBE"),
        ("ses the hou", "OOO"),
    ],
)
def test_tags_of_another_toolkits_pieces(text: str, tags: str) -> None:
    """Joiners tell what belongs together, in annotated text as well; a sentence begins a word."""
    subwords = Subwords.train(SubwordConfig(kind="given", vocab_size=99), [text])
    vocabs = {
        "tag": FeatureVocab("subword_tag", "copy", ["B", "I", "E", "O"], [1] * 4),
        "upos": FeatureVocab("upos", "first", ["<inside>", "X"], [0, 1]),
    }
    words = tuple(Word(m[0], *m.span(), upos="X") for m in re.finditer(r"\S+", text))
    for features in (vocabs, {"tag": vocabs["tag"]}):
        encoder = SourceEncoder(subwords, features)
        encoding = encode(encoder, Sentence(text, words))
        assert "".join(vocabs["tag"].values[i - 3] for i in encoding.features["tag"][:-1]) == tags
        if "upos" in features:
            inside = [
                vocabs["upos"].values[i - 3] == "<inside>" for i in encoding.features["upos"][:-1]
            ]
            assert inside == [tag in "IE" for tag in tags]


@pytest.fixture(scope="module")
def subwords() -> Subwords:
    # Letters only, so that every piece is one character.
    return Subwords.train(SubwordConfig(kind="bpe", vocab_size=11), ["ab a cd dcba e f"])


def encoder(subwords: Subwords, policy: str = "copy", column: str = "upos") -> SourceEncoder:
    values = ["AB", "CD"] if column == "upos" else ["B", "E", "I", "O", "x"]
    values = [INSIDE, *values] if policy == "first" else values
    vocab = FeatureVocab(column, policy, values, [1] * len(values))
    return SourceEncoder(subwords, {"f": vocab})


def test_features_follow_pieces(subwords: Subwords) -> None:
    sentence = Sentence("ab cd e", tuple(words("ab cd e", "ab", "cd", "e")))
    copied = encode(encoder(subwords), sentence)
    # pieces: _ a b _ c d _ e
    assert len(copied.ids) == 9
    assert copied.ids[-1] == EOS
    assert copied.features == {"f": [3, 3, 3, 4, 4, 4, UNK, UNK, END]}
    first = encode(encoder(subwords, "first"), sentence)
    assert first.ids == copied.ids
    assert first.features == {"f": [4, 3, 3, 5, 3, 3, UNK, 3, END]}


def test_no_features_need_no_words(subwords: Subwords) -> None:
    plain = SourceEncoder(subwords, {})
    annotated = Sentence("ab", tuple(words("ab", "ab")))
    assert encode(plain, Sentence("ab")) == encode(plain, annotated)
    assert encode(plain, Sentence("")) == Encoded([EOS], {})


def test_text_columns_need_no_annotation(subwords: Subwords) -> None:
    tagged = encoder(subwords, column="subword_tag")
    encoding = encode(tagged, Sentence("ab c"))
    assert encode(tagged, Sentence("ab c", tuple(words("ab c", "a", "b", "c")))) == encoding
    ids = [tagged.features["f"].id_of(tag) for tag in "BIEBE"]
    assert encoding.features["f"] == [*ids, END]
    shapes = encode(encoder(subwords, column="shape"), Sentence("ab c"))
    assert shapes.features["f"] == [7] * 5 + [END]


def test_missing_annotation_is_an_error(subwords: Subwords) -> None:
    with pytest.raises(UserError) as error:
        encode(encoder(subwords), Sentence("ab cd"), "test.txt:7")
    assert str(error.value) == (
        "test.txt:7: no annotation of 'ab cd', but features need it; set annotator=udpipe, "
        "or give CoNLL-U (a source file named .conllu)"
    )
    assert encode(encoder(subwords), Sentence("")) == Encoded([EOS], {"f": [END]})


def test_multiword_token_joins_values() -> None:
    rows = ["1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_"]
    rows += ["1\tin\tin\tADP\t_\t_\t3\tcase\t_\t_"]
    rows += ["2\tdem\tder\tDET\t_\tCase=Dat\t3\tdet\t_\t_"]
    rows += ["3\tHaus\tHaus\tNOUN\t_\tCase=Dat\t0\troot\t_\t_"]
    (sentence,) = parse_conllu(["# text = im Haus", *rows, ""], "x")
    model = Subwords.train(SubwordConfig(kind="none", vocab_size=9), ["im Haus"])
    specs = {
        "upos": FeatureVocab("upos", "copy", ["ADP+DET", "NOUN"], [1, 1]),
        "case": FeatureVocab("feats.Case", "copy", ["Dat", "_+Dat"], [1, 1]),
    }
    encoding = encode(SourceEncoder(model, specs), sentence)
    assert encoding.features == {"upos": [3, 4, END], "case": [4, 3, END]}


@pytest.mark.parametrize("policy", ["copy", "first"])
def test_save_and_load(subwords: Subwords, policy: str, tmp_path: Path) -> None:
    sentence = Sentence("ab cd e", tuple(words("ab cd e", "ab", "cd", "e")))
    source_encoder = encoder(subwords, policy)
    source_encoder.save(tmp_path)
    again = SourceEncoder.load(tmp_path)
    assert encode(again, sentence) == encode(source_encoder, sentence)
    assert again.features == source_encoder.features
