"""Pieces that cover several words: joined values, their counts, and pieces that end at words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.annotators.texts import annotates_morphemes
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.alignment import SourceEncoder, find_word_of_piece
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.covers import (
    Covers,
    count_words_without_piece,
    find_last_word_of_piece,
    join_values,
)
from nmt_feat.data.identity import hash_cache
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import CUT, Subwords, cut_at_words
from nmt_feat.text.word_values import whitespace_words
from tests.support.applied import FEW, good, plain
from tests.support.entry import call
from tests.support.halving import Halves, Wholes
from tests.support.kinds import build_vocabulary
from tests.support.small import Small
from tests.support.splits import pieces

TEXT = "톰은 학교에 갔다."
MORPHEMES = [
    ("톰", "PROPN"),
    ("은", "ADP"),
    ("학교", "NOUN"),
    ("에", "ADP"),
    ("갔", "VERB+PART"),  # two that share a syllable: one word
    ("다", "PART"),
    (".", "PUNCT"),
]


def sentence(text: str, words: list[tuple[str, str]]) -> Sentence:
    results, at = [], 0
    for form, upos in words:
        at = text.index(form, at)
        results.append(Word(form, at, at + len(form), upos=upos))
        at += len(form)
    return Sentence(text, tuple(results))


PIECES = [(0, 2), (2, 4), (4, 6), (6, 10)]  # 톰은 | ␣학 | 교에 | ␣갔다.
CASES = {
    # cover, policy: what each piece carries, and the values that are counted
    ("first", "copy"): (
        ["PROPN", "NOUN", "NOUN", "VERB+PART"],
        [upos for _, upos in MORPHEMES],
        4,  # of 은 에 다 and the full stop
    ),
    ("join", "copy"): (
        ["PROPN+ADP", "NOUN", "NOUN+ADP", "VERB+PART+PART+PUNCT"],
        ["PROPN+ADP", "NOUN", "NOUN+ADP", "VERB+PART+PART+PUNCT"],
        0,
    ),
    ("first", "first"): (
        ["PROPN", "NOUN", "<inside>", "VERB+PART"],
        [upos for _, upos in MORPHEMES],
        4,
    ),
    ("join", "first"): (
        ["PROPN+ADP", "NOUN+ADP", "<inside>", "VERB+PART+PART+PUNCT"],
        ["PROPN+ADP", "NOUN+ADP", "VERB+PART+PART+PUNCT"],
        0,
    ),
}


@pytest.fixture(scope="module")
def korean() -> Subwords:
    return Subwords.train(SubwordConfig(kind="bpe", vocab_size=24), [TEXT, "톰은 톰은 학교에"])


@pytest.mark.parametrize(("cover", "policy"), CASES)
def test_a_worked_example(korean: Subwords, cover: str, policy: str) -> None:
    carried, values, lost = CASES[cover, policy]
    empty = FeatureVocab("upos", policy, annotated=True, cover=cover)
    two = Sentences.of([sentence(TEXT, MORPHEMES)] * 2)
    described = SourceEncoder(korean, {"upos": empty}).align(two, [""] * 2, pieces(PIECES, PIECES))
    coded = described.values["upos"]
    assert [coded.values[code] for code in coded.codes] == values * 2
    assert described.value_counts["upos"].tolist() == [len(values)] * 2
    assert described.lost == {"upos": lost * 2}
    counts = Counter(dict(zip(coded.values, coded.counts(), strict=True)))
    vocab = build_vocabulary(FeatureConfig(column="upos", policy=policy, cover=cover), counts)
    encoder = SourceEncoder(korean, {"upos": vocab})
    ids, _ = encoder.look_up(described)
    assert [vocab.values[i - 3] for i in ids["upos"] if i > 2] == carried * 2
    assert np.flatnonzero(ids["upos"] == 2).tolist() == [4, 9]  # the end symbol's


def test_the_vocabulary_of_joined_values(korean: Subwords) -> None:
    """`max_values` and `min_count` are of joined values; what they leave out is unknown."""
    counts = Counter({"PROPN+ADP": 3, "NOUN": 2, "NOUN+ADP": 1})
    for chosen in ({"min_count": 2}, {"max_values": 2}):
        cfg = FeatureConfig(column="upos", cover="join", **chosen)
        vocab = build_vocabulary(cfg, counts)
        assert vocab.values == ["PROPN+ADP", "NOUN"]
        assert vocab.id_of("NOUN+ADP") == vocab.id_of("ADP") == 1


def test_values_are_joined_as_those_of_multi_word_tokens() -> None:
    assert join_values(["_", "_"]) == "_"
    assert join_values(["_", "Nom"]) == "_+Nom"
    assert join_values(["<missing>", "<missing>"]) == "<missing>"
    assert join_values(["ADP+DET", "NOUN"]) == "ADP+DET+NOUN"


@pytest.mark.parametrize(
    ("text", "forms", "spans", "firsts", "lasts"),
    [
        # lone word marks, and bytes, which have no character of their own
        ("a bc", ["a", "b", "c"], [(0, 1), (1, 2), (2, 4)], [0, 1, 1], [0, 1, 2]),
        ("жb c", ["ж", "b", "c"], [(0, 0), (0, 0), (0, 2), (2, 4)], [0, 0, 0, 2], [0, 0, 1, 2]),
        # the space at the end of a piece is no visible character
        ("a b", ["a", "b"], [(0, 2), (2, 3)], [0, 1], [0, 1]),
        # a piece that ends within a word has it, and the next piece has it again
        ("abcd", ["ab", "cd"], [(0, 3), (3, 4)], [0, 1], [1, 1]),
        # no words, no pieces
        ("  ", [], [(0, 1), (1, 2)], [-1, -1], [-1, -1]),
        ("", [], [], [], []),
    ],
)
def test_first_and_last_word(
    text: str, forms: list, spans: list, firsts: list, lasts: list
) -> None:
    one = sentence(text, [(form, "X") for form in forms])
    around = sentence("xy", [("x", "X"), ("y", "X")])
    sentences = Sentences.of([around, one, around])
    two_pieces = pieces([(0, 2)], spans, [(0, 1), (1, 2)])
    owner = find_word_of_piece(two_pieces, sentences, [""] * 3)
    last = find_last_word_of_piece(two_pieces, sentences, owner)
    n = len(forms)
    moved = [[w if w < 0 else w + 2 for w in item] for item in (firsts, lasts)]
    assert owner.tolist() == [0, *moved[0], 2 + n, 3 + n]
    assert last.tolist() == [1, *moved[1], 2 + n, 3 + n]
    assert count_words_without_piece(owner, last, 4 + n) == 0
    assert count_words_without_piece(owner, owner, 4 + n) == 4 + n - len({*owner.tolist()} - {-1})
    covers = Covers.of(owner, last, two_pieces.counts, "copy")
    for piece, cover in enumerate(covers.of_piece.tolist()):
        if cover >= 0:
            assert (covers.first[cover], covers.last[cover]) == (owner[piece], last[piece])
    assert covers.counts.sum() == len(covers.first)
    assert covers.forms(sentences)[0] == "xy"


# ---- the setting

SPLITS = (("train", "train"), ("dev", "dev"), ("test", "tests.test"))
HALVES, WHOLES = (f"annotator._target_=halving.{name}" for name in ("Halves", "Wholes"))
FILES = (
    *("data=files", "data.source_lang=en", "data.target_lang=de", "annotator.processes=1"),
    *(f"data.{key}.source={split}.en" for split, key in SPLITS),
    *(f"data.{key}.target={split}.de" for split, key in SPLITS),
)


@pytest.fixture(scope="module")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("covers")
    plain(corpus, folder / "plain")
    return Small(folder / "plain", folder / "cache", folder)


@pytest.fixture(autouse=True)
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotator is a module of the current folder."""
    folder = Path(__file__).parent / "support"
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def prepared(small: Small, *settings: str) -> Prepared:
    return prepare_run(small.config(*FILES, "combiner=add", *settings))


def test_the_annotator_decides_where_nothing_is_set(small: Small) -> None:
    feature = choose_kind("f", FeatureConfig(column="upos"))
    units = choose_kind("f", FeatureConfig(column="char", of="word"))
    for chosen, cover in ((HALVES, "join"), (WHOLES, "first")):
        cfg = small.config(*FILES, chosen, "combiner=add", "features=[upos]")
        assert feature.choose_cover(annotates_morphemes(cfg.annotator)) == cover
        assert units.choose_cover(annotates_morphemes(cfg.annotator)) == "first"
        for value in ("first", "join"):
            kind = choose_kind("f", FeatureConfig(column="upos", cover=value))
            assert kind.choose_cover(annotates_morphemes(cfg.annotator)) == value


def test_only_what_takes_effect_is_in_the_fingerprint(small: Small) -> None:
    results = {}
    for chosen in (HALVES, WHOLES):
        for cover in (None, "first", "join"):
            for at_words in (False, True):
                cfg = small.config(*FILES, chosen, "features=[upos]", "combiner=add")
                cfg.features["upos"].cover = cover
                cfg.subword.split_at_words = at_words
                results[chosen, cover, at_words] = hash_cache(cfg, cfg.features)
    for at_words in (False, True):
        assert results[WHOLES, None, at_words] == results[WHOLES, "first", at_words]
        assert results[HALVES, None, at_words] == results[HALVES, "join", at_words]
    assert len(set(results.values())) == 4  # effective cover, cut or not


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["features=[upos,subword_tag]", "features.subword_tag.cover=join"],
            "features.subword_tag.cover=join: is for values of words, not for subword_tag of "
            "pieces; leave it out",
        ),
        (
            ["features=[char]", "features.char.cover=first"],
            "features.char.cover=first: is for values of words, not for char of pieces; leave it "
            "out",
        ),
        (
            ["features=[char]", "features.char.of=word", "features.char.cover=join"],
            "features.char.cover=join: the units of column=char cannot be joined; set "
            "cover=first, or leave it out",
        ),
    ],
)
def test_a_cover_that_cannot_be(small: Small, settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        prepared(small, HALVES, *settings)
    assert str(error.value) == message


# ---- prepared data, controls, a run


def test_joined_values_of_a_corpus(small: Small) -> None:
    """Each piece has the values of all halves in it; the report counts what is joined."""
    prepared_data = prepared(small, HALVES, "features=[upos,xpos]")
    vocab, split = prepared_data.encoder.features["upos"], prepared_data.train
    text, annotator = split.source_texts[0], Halves()
    (one,) = annotator.annotate([text])
    expected = []
    for piece in prepared_data.encoder.subwords.encode(text):
        inside = [w for w in one.words if w.start < piece.end and piece.start < w.end]
        expected.append("+".join(w.upos for w in inside))
    ids = split.features["upos"][: len(expected)]
    assert [vocab.values[i - 3] for i in ids.tolist()] == expected
    assert {"FRONT", "BACK", "FRONT+BACK"} == {*vocab.values}
    report = prepared_data.report.features["upos"]
    assert report["lost"] == 0
    assert report["kept"] == report["values"] == 3
    assert prepared_data.report.together["features"] == ["upos", "xpos"]
    assert not [note for note in prepared_data.notes if "no piece has" in note]
    # What is counted is as often there as pieces have it, one after another.
    assert sum(vocab.counts) > len(split.source.values) * 0.5


def test_what_is_lost_is_counted_and_said(small: Small) -> None:
    prepared_data = prepared(small, WHOLES, "features=[upos,subword_tag]")
    lost = words = 0
    annotator, subwords = Wholes(), prepared_data.encoder.subwords
    texts = prepared_data.train.source_texts
    for one in annotator.annotate(texts):
        spans = subwords.encode(one.text)
        firsts = []
        for piece in spans:
            at = piece.start + (one.text[piece.start : piece.start + 1] == " ")
            firsts += [w for w in one.words if w.start <= at < w.end]
        words += len(one.words)
        lost += len({*one.words} - {*firsts})
    report = prepared_data.report.features
    assert report["upos"]["lost"] == pytest.approx(lost / words)
    assert report["subword_tag"]["lost"] is None
    assert [note for note in prepared_data.notes if "no piece" in note] == [
        f"features.upos: no piece has the value of {lost / words:.1%} of the words of train; "
        "set features.upos.cover=join, or subword.split_at_words=true"
    ]


def test_values_of_other_words_are_not_counted_together(small: Small) -> None:
    """Where one feature joins and another does not, they have values of different things."""
    prepared_data = prepared(small, HALVES, "features=[upos,xpos]", "features.xpos.cover=first")
    assert prepared_data.report.together == {}
    assert prepared_data.report.features["upos"]["given_word"] is not None


@pytest.mark.parametrize("policy", ["copy", "first"])
def test_controls_move_joined_values(small: Small, policy: str) -> None:
    """Those of a word and of the next ones that its last piece covers; none is lost."""
    chosen = ("features=[upos]", f"features.upos.policy={policy}", HALVES)
    true = prepare(small.config(*FILES, "combiner=add", *chosen), {})
    cfg = small.config(*FILES, "combiner=add", *chosen, "control=shuffled")
    prepared_data, plain_ = (
        prepare_run(cfg),
        prepare_run(small.config(*FILES, "combiner=add", *chosen)),
    )
    vocab = plain_.encoder.features["upos"]
    assert true.encoder.subwords.names == prepared_data.encoder.subwords.names
    owner, last = [], []
    for text in prepared_data.train.source_texts:
        (one,) = Halves().annotate([text])
        sentences = Sentences.of([one])
        pieces_of_text = prepared_data.encoder.subwords.pieces([text])
        first = find_word_of_piece(pieces_of_text, sentences, [""])
        base = len(owner) and owner[-1] + 1
        owner += [w + base for w in first.tolist()]
        last.append(find_last_word_of_piece(pieces_of_text, sentences, first))
        owner_end = base + len(one.words)
        owner.append(owner_end)  # the end symbol's
    owner_of = np.array(owner)
    starts = np.flatnonzero(np.diff(owner_of, prepend=-1) != 0)
    ends = np.append(starts[1:], len(owner_of)) - 1
    real = prepared_data.train.source.values[starts] != 3
    before = plain_.train.features["upos"][(ends if policy == "copy" else starts)[real]]
    after = prepared_data.train.features["upos"]
    assert Counter(after[starts[real]].tolist()) == Counter(before.tolist())
    assert (after[starts[real]] != before).any()
    if policy == "copy":  # all pieces of a word have the same
        assert (after[starts[real]] == after[ends[real]]).all()
    else:
        inside = vocab.id_of("<inside>")
        assert {*after[ends[real & (ends > starts)]].tolist()} <= {inside}


@pytest.mark.thorough
def test_a_run_translates_as_it_was_tested(small: Small) -> None:
    """The cover and the cuts are the run's, whatever else is set; score and export have them."""
    chosen = ("features=[upos]", "combiner=add", "subword.vocab_size=150")
    source, target = (small.corpus / f"test.{side}" for side in ("en", "de"))
    for more in ((), ("subword.split_at_words=true", "features.upos.cover=first")):
        run = small.train(*FILES, HALVES, *chosen, *more, *FEW)
        expected = (run / "test.hyp").read_text(encoding="utf-8").splitlines()
        assert good(call("translate", f"run={run}", f"input={source}")) == expected
        scores = good(call("score", f"run={run}", f"source={source}", f"target={target}"))
        assert len(scores) == len(expected)


# ---- pieces cut at words


def test_pieces_end_where_words_do() -> None:
    texts = ["톰은 학교에 갔다.", "톰은  톰은", " 은 톰", "", "ж톰은"]
    words = [["톰", "은", "학교", "에", "갔다", "."], ["톰", "은", "톰", "은"], ["은", "톰"], []]
    words.append(["ж", "톰", "은"])
    arguments = [sentence(t, [(w, "X") for w in ws]) for t, ws in zip(texts, words, strict=True)]
    sentences = Sentences.of(arguments)
    cfg = SubwordConfig(kind="bpe", vocab_size=20, split_at_words=True)
    model = Subwords.train(cfg, [*cut_at_words(Sentences.of(arguments[:4]))] * 5)
    assert not any(CUT in name for name in model.names)
    assert "톰은" not in {name.strip("▁") for name in model.names}
    result = model.pieces_of_words(texts, sentences.counts, sentences.ends)
    bounds = np.append(0, np.cumsum(result.counts))
    for i, one in enumerate(arguments):
        spans = [*zip(result.starts, result.ends, strict=True)][bounds[i] : bounds[i + 1]]
        assert "".join(one.text[a:b] for a, b in spans) == one.text
        for a, b in spans:
            covered = [w for w in one.words if w.start < b and a < w.end]
            assert len(covered) <= 1
    owner = find_word_of_piece(result, sentences, [""] * 5)
    assert (find_last_word_of_piece(result, sentences, owner) == owner).all()
    assert count_words_without_piece(owner, owner, sum(map(len, words))) == 0


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_words_between_spaces_change_no_piece(kind: str, corpus: Path) -> None:
    """Where words are what stands between spaces, which no piece crosses anyway."""
    texts = (corpus.parent / "small" / "train.de").read_text(encoding="utf-8").splitlines()
    sentences = Sentences.of([Sentence(t, whitespace_words(t)) for t in texts])
    cfg = SubwordConfig(kind=kind, vocab_size=120)
    model = Subwords.train(cfg, texts)
    plain_, cut = (
        model.pieces(texts),
        model.pieces_of_words(texts, sentences.counts, sentences.ends),
    )
    for one, second in zip(plain_, cut, strict=True):
        assert one.tolist() == second.tolist()  # type: ignore[attr-defined]


@pytest.mark.thorough
def test_nothing_is_lost_where_pieces_end_at_words(small: Small) -> None:
    prepared_data = prepared(small, WHOLES, "features=[upos,shape]", "subword.split_at_words=true")
    assert prepared_data.encoder.split_at_words
    assert prepared_data.report.features["upos"]["lost"] == 0
    assert prepared_data.report.features["upos"]["values"] == 2
    assert SourceEncoder.load(prepared_data.folder).split_at_words
    words_only = prepare(small.config(*FILES, WHOLES, "subword.split_at_words=true"), {})
    assert (words_only.train.source.values == prepared_data.train.source.values).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["subword.split_at_words=true", "features=[shape]"],
            "subword.split_at_words=true: needs the words of an annotation; set annotator=udpipe "
            "or another, give CoNLL-U (data.train.conllu=FILE.conllu), or leave it out",
        ),
        (
            ["subword=none", "subword.split_at_words=true", "features=[shape]"],
            "subword.split_at_words=True: is for bpe and unigram, not for subword=none; leave it "
            "out",
        ),
    ],
)
def test_pieces_that_cannot_be_cut(small: Small, settings: list[str], message: str) -> None:
    done = call("train", *small.overrides(*FILES, "combiner=add", "annotator=none", *settings))
    assert (done.code, done.err) == (2, f"error: {message}\n")
