"""Entropies of features, by hand and by properties."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nmt_feat.cli.compose import compose_settings
from nmt_feat.data.encoding import count_agreeing_words
from nmt_feat.data.information import entropy, given_word, random_by_type
from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from nmt_feat.runs.advice import advise_on_features
from nmt_feat.text.conllu import read_conllu
from tests.support.entry import call
from tests.support.small import Small, cut


def test_entropy() -> None:
    assert entropy({"a": 2, "b": 1, "c": 1}) == pytest.approx(1.5)
    assert entropy({"a": 7}) == 0.0
    assert entropy({"a": 1, "b": 0}) == 0.0


def test_given_word_by_hand() -> None:
    train = {("duck", "NOUN"): 3, ("duck", "VERB"): 1, ("the", "DET"): 4}
    p = {"NOUN": 3.5 / 10, "VERB": 1.5 / 10, "DET": 4.5 / 10, "X": 0.5 / 10}
    probabilities = {
        ("duck", "NOUN"): (3 + 2 * p["NOUN"]) / 6,
        ("duck", "DET"): 2 * p["DET"] / 6,
        ("the", "DET"): (4 + p["DET"]) / 5,
        ("cat", "VERB"): p["VERB"],  # a word that train does not have
        ("the", "X"): p["X"] / 5,  # and such a value
    }
    for pair, q in probabilities.items():
        assert given_word(train, {pair: 3}) == pytest.approx(-math.log2(q)), pair
    mean = -sum(map(math.log2, probabilities.values())) / len(probabilities)
    assert given_word(train, dict.fromkeys(probabilities, 2)) == pytest.approx(mean)
    assert sum(p.values()) == pytest.approx(1)


def corpus(seed: int, tokens: int, depends: bool) -> Counter[tuple[str, str]]:
    """Words of 40 types, each token with one of 8 values: the type's own, or any."""
    random = np.random.default_rng(seed)
    types = random.integers(40, size=tokens)
    values = types % 8 if depends else random.integers(8, size=tokens)
    return Counter((f"w{t}", f"v{v}") for t, v in zip(types, values, strict=True))


def test_what_the_word_does_not_tell() -> None:
    """Three bits whatever the word, or none: and random values by type cost next to nothing."""
    free, dependent = ((corpus(1, 20000, d), corpus(2, 2000, d)) for d in (False, True))
    assert given_word(*free) == pytest.approx(3, abs=0.05)
    assert given_word(*dependent) < 0.02
    for joint in (free, dependent):
        assert random_by_type(*joint) < 0.02
        assert random_by_type(*joint) == random_by_type(*joint)


def described(bits: float, given: float | None, kept: int = 20) -> dict[str, Any]:
    return {"entropy": bits, "given_word": given, "random_by_type": given and 0.05, "kept": kept}


@pytest.mark.parametrize(
    ("found", "width", "method", "lines"),
    [
        (described(3.0, 1.0), 16, "gate", []),
        (described(3.0, 1.0), 16, "concat", []),
        (described(1.0, None), 4, "concat", []),
        (
            described(0.1, 0.1),
            4,
            "add",
            ["features.f is nearly constant, 0.10 bits: leave it out"],
        ),
        (
            described(3.0, 0.06),
            16,
            "add",
            [
                "features.f hardly says more than the word does. Given the word, 0.06 of its 3.00 "
                "bits remain, and 0.05 of those of values drawn at random for each word form. "
                "Compare it with control=by_type, whose values only say which word it is"
            ],
        ),
        (
            described(1.5, 1.0),
            128,
            "word_gate",
            [
                "features.f says little, 1.50 bits: a narrow concat may suit it better than "
                "word_gate, for instance combiner=mixed"
            ],
        ),
        (
            described(1.5, 1.0, 4),
            8,
            "concat",
            ["features.f.dim=8 is more than its 4 values can use"],
        ),
    ],
)
def test_advice(found: dict[str, Any], width: int, method: str, lines: list[str]) -> None:
    assert advise_on_features({"f": found}, {"word": 128, "f": width}, method) == lines


@pytest.mark.thorough
def test_script(small: Small) -> None:
    """`nmt-feat inspect`: the report, advice, and sentences over their values."""
    page = small.folder / "page.md"
    settings = small.overrides("features=[upos,shape,subword_tag]", "combiner=gate")
    done = call("inspect", *settings, "--page", page, "--examples", "2")
    assert done.code == 0, done.err
    assert "given word" in done.out
    assert "coverage" in done.out
    assert "pieces agree" in done.out
    assert "- features.shape hardly says more than the word does. " in done.out
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Features of embedded\n")
    header, *rows = text[text.index("piece ") :].splitlines()
    assert header.split() == ["piece", "shape", "subword_tag", "upos"]
    assert rows[0].split()[2] in "BO"
    nowhere = small.folder / "nowhere" / "page.md"
    done = call("inspect", *settings, "--page", nowhere)
    message = f"error: --page {nowhere}: No such file or directory\n"
    assert (done.code, done.err) == (2, message)
    wide = "features=[case,deprel,feats,head_upos,lemma,number,shape,upos,xpos]"
    done = call("inspect", *settings, "combiner=concat", wide)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith("error: concat leaves the word ")
    second_file = small.folder / "other.md"
    done = call("inspect", *settings, "control=shuffled", "--page", second_file, "--examples", "2")
    assert done.code == 0, done.err
    moved = second_file.read_text(encoding="utf-8")
    _, *changed = moved[moved.index("piece ") :].splitlines()
    assert changed[0].split()[::2] == rows[0].split()[::2]  # the piece and its tag stay
    assert changed != rows
    done = call("inspect", *settings, "features=[]")
    assert done.code == 2
    assert done.err.startswith("error: features=[]: the combiner has nothing to merge")


def test_tags_of_inspected_sentences(small: Small) -> None:
    """Tokens that a method adds to the source have names, too."""
    settings = small.overrides("method=interleave", "combiner=none", "features=[upos]")
    done = call("inspect", *settings, "--examples", "1")
    assert done.code == 0, done.err
    _, tag, piece, *_ = done.out[done.out.index("piece ") :].splitlines()
    assert tag.split() == ["<upos", f"{tag.split()[-1]}>", tag.split()[-1]]
    assert piece.split()[-1] == tag.split()[-1]


def test_units_of_inspected_sentences(small: Small) -> None:
    """Those of the piece, or of its word, and the name of the set."""
    of_word = {"column": "char", "of": "word", "_target_": "nmt_feat.features.Mean"}
    letters = [f"features.letters.{key}={value}" for key, value in of_word.items()]
    settings = small.overrides("features=[char,upos]", *letters)
    done = call("inspect", *settings, "--examples", "1")
    assert done.code == 0, done.err
    assert "of dev, in pieces with" in done.out
    header, *rows = done.out[done.out.index("piece ") :].splitlines()
    assert header.split() == ["piece", "char", "letters", "upos"]
    starts = [header.index(name) for name in header.split()] + [len(header)]
    cells = [[row[a:b].strip() for a, b in pairwise(starts)] for row in rows]
    for piece, units_of_piece, units_of_word, _ in cells:
        assert units_of_piece == " ".join(piece)
        assert units_of_piece in units_of_word or piece == "▁"
    assert any(units_of_piece != units_of_word for _, units_of_piece, units_of_word, _ in cells)


def test_new_words_cost_the_whole_entropy() -> None:
    train = corpus(1, 20000, True)
    dev = Counter({(f"new{i}", value): 1 for i in range(1000) for value in ("v1", "v5")})
    assert given_word(train, dev) == pytest.approx(3, abs=0.1)
    assert random_by_type(train, dev) == pytest.approx(3, abs=0.3)


def test_values_that_are_not_kept_are_one(small: Small) -> None:
    """As if the annotation had one in their place."""
    limited = small.config("combiner=add", "features=[xpos]", "features.xpos.max_values=5")
    prepared_data = prepare(limited, limited.features)
    small.corpus = cut(small.folder / "other")
    for path in small.corpus.glob("*.conllu"):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")]
        for row in rows:
            if len(row) == 10 and row[4] not in prepared_data.encoder.features["xpos"].values:
                row[4] = "<other>"
        path.write_text("\n".join(map("\t".join, rows)), encoding="utf-8")
    whole = small.config("combiner=add", "features=[xpos]")
    result = prepared_data.report.features["xpos"]
    expected = prepare(whole, whole.features).report.features["xpos"]
    for name in ("entropy", "given_word", "random_by_type"):
        assert result[name] == pytest.approx(expected[name])
    assert (result["kept"], expected["kept"]) == (5, 6)
    assert result["values"] > 10


def pairs(small: Small, split: str) -> Counter[tuple[str, tuple[str, ...]]]:
    """Forms of a split's file with deprel and upos of each word."""
    sentences = read_conllu(small.corpus / f"{split}.conllu")
    return Counter((w.form, (w.deprel, w.upos)) for s in sentences for w in s.words)


def test_several_features_together(small: Small) -> None:
    """Bits of the pair, counted in the files: fewer than those of both added up."""
    cfg = small.config("combiner=add", "features=[upos,deprel,subword_tag]")
    report = prepare(cfg, cfg.features).report
    train, dev = pairs(small, "train"), pairs(small, "dev")
    tags = Counter[Any]()
    for (_, pair), n in train.items():
        tags[pair] += n
    assert report.together == {
        "features": ["deprel", "upos"],
        "values": len(tags),
        "entropy": pytest.approx(entropy(tags)),
        "given_word": pytest.approx(given_word(train, dev)),
        "random_by_type": pytest.approx(random_by_type(train, dev)),
    }
    item = [report.features[name]["entropy"] for name in ("deprel", "upos")]
    assert max(item) < report.together["entropy"] < sum(item) - 0.5
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report)
    (row,) = (line for line in capture.get().splitlines() if line.startswith("together"))
    assert row.split()[:3] == ["together", str(len(tags)), f"{entropy(tags):.2f}"]
    assert row.rstrip().endswith("of deprel, upos")


@pytest.mark.thorough
def test_one_feature_or_one_that_is_erased_has_no_bits_with_others(small: Small) -> None:
    for chosen in (["features=[upos]"], ["features=[upos,deprel]", "features.upos.erase=0.5"]):
        cfg = small.config("combiner=add", *chosen)
        assert prepare(cfg, cfg.features).report.together == {}


def test_words_that_lose_all_values_have_no_bits(small: Small) -> None:
    """Half of the words, half of the bits; rare values are one, also in pairs."""
    whole, half, few = (
        small.config("combiner=add", "features=[upos,deprel]", *more)
        for more in (
            (),
            ("features.upos.erase=0.5", "features.deprel.erase=0.5"),
            ("features.upos.max_values=2", "features.deprel.max_values=2"),
        )
    )
    result = [prepare(cfg, cfg.features).report.together for cfg in (whole, half, few)]
    assert result[1]["entropy"] == pytest.approx(result[0]["entropy"] / 2, rel=0.1)
    assert 2 < result[2]["values"] <= 9 < result[0]["values"]


def test_coverage(small: Small) -> None:
    """Counted in the CoNLL-U file itself: words with a UPOS, words with a Case."""
    lines = (small.corpus / "train.conllu").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line[:1].isdigit()]
    cased = sum("Case=" in row[5] for row in rows)
    assert 0 < cased < len(rows)
    cfg = small.config("combiner=add", "features=[upos,case]")
    features = prepare(cfg, cfg.features).report.features
    assert features["upos"]["coverage"] == 1
    assert features["case"]["coverage"] == pytest.approx(cased / len(rows))


def test_alike() -> None:
    carried = np.array([5, 5, 6, 7, 7, 7, 8, 8, 9], np.int32)
    begins = np.array([1, 0, 1, 1, 0, 0, 1, 0, 0], bool)  # 5 5, 6, 7 7 7, 8 8 9
    assert count_agreeing_words(carried, begins) == (2, 3)
    assert count_agreeing_words(carried[:0], begins[:0]) == (0, 0)


def test_agreement(small: Small) -> None:
    """Counted by loops: the words' spans, the pieces' spans, and what each piece carries."""
    chosen = "features=[upos,deprel,subword_tag]"
    cfg = small.config("combiner=add", chosen, "features.deprel.policy=first")
    prepared_data = prepare(cfg, cfg.features)
    same, multiple_count = Counter[str](), 0
    for i, sentence in enumerate(read_conllu(small.corpus / "train.conllu")):
        words: dict[int, list[int]] = {}
        for position, piece in enumerate(prepared_data.encoder.subwords.encode(sentence.text)):
            inside = range(piece.start, piece.end)
            first_visible = next((c for c in inside if not sentence.text[c].isspace()), piece.start)
            owner = next(n for n, word in enumerate(sentence.words) if first_visible < word.end)
            words.setdefault(owner, []).append(
                int(prepared_data.train.source.offsets[i]) + position
            )
        for places in words.values():
            multiple_count += len(places) > 1
            for name, ids in prepared_data.train.features.items():
                same[name] += len(places) > 1 and len({int(ids[p]) for p in places}) == 1
    assert multiple_count > 20
    for name, result in prepared_data.report.features.items():
        assert result["agreement"] == same[name] / multiple_count, name
    assert same == {"upos": multiple_count, "deprel": 0, "subword_tag": 0}


def test_scripts_refuse_what_train_refuses() -> None:
    """Of a list Hydra would take the last, in silence."""
    with pytest.raises(UserError) as error:
        compose_settings(["combiner=[gate,add]"])
    assert str(error.value) == (
        "combiner=[gate,add]: a run has one of them; choose one, or put -m before "
        "combiner=gate,add for a sweep"
    )
