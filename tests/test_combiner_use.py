"""Combiners in use: widths, mistakes in one line, different methods for different features."""

from __future__ import annotations

import runpy
from collections.abc import Mapping

import pytest
import torch

import nmt_feat.combiners
from nmt_feat.base.names import to_snake_case
from nmt_feat.combiners import Add, Combiner, CombinerError, Concat, Gate, Mixed
from nmt_feat.combiners.mixed import METHODS as NAMED
from nmt_feat.config.schema import CombinerConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.setup.build_model import build_combiner
from tests.support.methods import ALL, METHODS
from tests.support.small import ROOT

DIM = 16
PARTS = {"word": DIM, "deprel": 1, "lemma": 4, "upos": 2}


def message(call: object, *args: object, **settings: object) -> str:
    assert callable(call)
    with pytest.raises((CombinerError, UserError)) as error:
        call(*args, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Add", "add"),
        ("WordGate", "word_gate"),
        ("DME", "dme"),
        ("DMESigmoid", "dme_sigmoid"),
        ("MLP", "mlp"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert to_snake_case(name) == expected


def test_every_class_is_shipped() -> None:
    classes = [c for c in vars(nmt_feat.combiners).values() if isinstance(c, type)]
    names = {to_snake_case(c.__name__) for c in classes if issubclass(c, Combiner)}
    assert names == {*METHODS, "combiner", "no_features"}
    assert names == {*NAMED, "mixed", "combiner", "no_features"}
    assert {c.__name__ for c in classes} <= set(nmt_feat.combiners.__all__)


# ---- widths


def test_widths_of_concat() -> None:
    parts = {"word": 512, "upos": 12}
    assert Concat(parts, 512).widths == {"word": 500, "upos": 12}
    # Sennrich & Haddow (2016): 360 + 5 + 115 + 10 + 10 = 500
    sennrich = {"word": 500, "subword_tag": 5, "lemma": 115, "upos": 10, "deprel": 10}
    assert Concat(sennrich, 500).widths == sennrich | {"word": 360}
    assert list(Concat(sennrich, 500).widths) == list(sennrich)


@pytest.mark.parametrize("name", ALL)
def test_widths(name: str) -> None:
    widths = ALL[name](PARTS, DIM).widths
    assert list(widths) == list(PARTS)
    if name in ("concat_project", "mlp", "dme", "dme_sigmoid", "film"):
        assert widths == PARTS
    elif name in ("concat", "self_relevance", "word_relevance"):
        assert widths == PARTS | {"word": 9}
    elif name == "mixed":
        assert widths == {"word": 13, "deprel": 1, "lemma": 13, "upos": 2}
    else:
        assert widths == dict.fromkeys(PARTS, DIM)


# ---- one part

ALONE = "choose more features or another combiner, for words only combiner=none"
NEED = (
    *("additive_gate", "attention", "dynamic_switch", "gate", "mixed", "self_relevance"),
    *("word_gate", "word_relevance"),
)


@pytest.mark.parametrize("name", NEED)
def test_methods_that_need_a_feature(name: str) -> None:
    """Or two, where there are no words."""
    for part in ("word", "upos"):
        expected = f"{name} needs 2 parts, here: {part}; {ALONE}"
        assert message(ALL[name], {part: DIM}, DIM) == expected


@pytest.mark.parametrize("name", sorted({*METHODS} - {*NEED}))
def test_methods_of_a_single_part(name: str) -> None:
    word = torch.randn(2, 3, DIM)
    merged = METHODS[name]({"word": DIM}, DIM)([word])
    assert merged.shape == word.shape
    if name in ("add", "average", "concat", "weighted_sum"):
        torch.testing.assert_close(merged, word)


@pytest.mark.parametrize("name", sorted({*ALL} - {*NEED}))
def test_no_part(name: str) -> None:
    expected = "a combiner needs at least one part, such as the word's embedding"
    assert message(ALL[name], {}, 8) == expected


# ---- mistakes


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"word": 8, "upos": 5, "lemma": 3}, "0 of the model's width 8: upos 5 + lemma 3 = 8"),
        ({"word": 8, "lemma": 12}, "-4 of the model's width 8: lemma 12 = 12"),
    ],
)
def test_no_room_for_the_word(parts: dict[str, int], expected: str) -> None:
    advice = "make features.<name>.dim smaller or model.dim larger"
    assert message(Concat, parts, 8) == f"concat leaves the word {expected}; {advice}"


@pytest.mark.parametrize("name", ALL)
def test_other_shapes_than_were_said(name: str) -> None:
    """Too few and too many parts, swapped or wrong widths, another batch: never a silent result."""
    combiner = ALL[name]({"word": DIM, "upos": 2}, DIM)
    word, upos = combiner.widths.values()
    start = f"{type(combiner).__name__} merges word (..., {word}), upos (..., {upos}), "
    start += "equal in all axes but the last; got "
    right = [torch.zeros(2, 3, word), torch.zeros(2, 3, upos)]
    assert combiner(right).shape == (2, 3, DIM)
    for wrong in (
        right[:1],
        [*right, right[1]],
        [right[0], torch.zeros(2, 3, upos + 1)],
        [right[0], torch.zeros(2, 4, upos)],
        [right[0], torch.zeros(1, 3, upos)],  # would be broadcast
        [torch.zeros(2, 3, 1), right[1]],
    ):
        shapes = ", ".join(str(tuple(part.shape)) for part in wrong)
        assert message(combiner, wrong) == start + shapes
    assert message(combiner, []) == start + "nothing"


# ---- mixed


def test_mixed_by_hand() -> None:
    """[g * a + (1 - g) * b; c; d]: the lemma is gated in the width that the others leave."""
    torch.manual_seed(1)
    mixed = Mixed(PARTS, DIM, {"lemma": "gate", "upos": "concat", "deprel": "concat"})
    assert mixed.widths == {"word": 13, "deprel": 1, "lemma": 13, "upos": 2}
    word, deprel, lemma, upos = (torch.randn(2, 3, w) for w in mixed.widths.values())
    gate = Gate({"word": 13, "lemma": 13}, 13)
    gate.load_state_dict(mixed.stages[0].state_dict())
    expected = torch.cat([gate([word, lemma]), deprel, upos], dim=-1)
    assert mixed([word, deprel, lemma, upos]).equal(expected)


def test_mixed_by_default() -> None:
    """More than an eighth of the model's width is gated, the rest concatenated."""
    mixed = Mixed({"word": 64, "upos": 8, "lemma": 9}, 64)
    assert [type(stage) for stage in mixed.stages] == [Gate, Concat]
    assert mixed.widths == {"word": 56, "upos": 8, "lemma": 56}
    narrow = Mixed({"word": 64, "upos": 8, "deprel": 8}, 64)
    assert [type(stage) for stage in narrow.stages] == [Concat]
    assert narrow.widths == Concat({"word": 64, "upos": 8, "deprel": 8}, 64).widths
    second_mix = Mixed({"word": 64, "upos": 8, "lemma": 9}, 64, wide="add", narrow="average")
    assert set(second_mix.widths.values()) == {64}


def test_mixed_averages_before_it_adds() -> None:
    """As Sockeye: (a + b) / 2 + c, then what is concatenated; whatever the order of names."""
    parts = {"word": 8, "b": 1, "c": 1, "d": 2}
    word, b, c, d = torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 6), torch.randn(5, 2)
    expected = torch.cat([(word + b) / 2 + c, d], dim=-1)
    for names in ("bcd", "dcb"):
        merges = {"b": "average", "c": "add", "d": "concat"}
        mixed = Mixed(parts, 8, {name: merges[name] for name in names})
        torch.testing.assert_close(mixed([word, b, c, d]), expected)


def test_mixed_merges_the_features_of_a_method_together() -> None:
    parts = dict.fromkeys(("word", "upos", "deprel"), DIM)
    mixed = Mixed(parts, DIM, wide="average")
    torch.testing.assert_close(
        mixed([torch.full((1, DIM), float(n)) for n in (1, 2, 6)]), torch.full((1, DIM), 3.0)
    )


def test_mixed_with_a_class_of_ones_own() -> None:
    methods = {"lemma": "examples.product.Product", "upos": "concat"}
    settings = CombinerConfig("nmt_feat.combiners.Mixed", args={"methods": methods})
    mixed = build_combiner(settings, {"word": 8, "upos": 2, "lemma": 3}, 8)
    assert mixed.widths == {"word": 6, "upos": 2, "lemma": 6}
    word, upos, lemma = torch.randn(3, 6), torch.randn(3, 2), torch.randn(3, 6)
    expected = torch.cat([word * (1 + lemma), upos], dim=-1)
    torch.testing.assert_close(mixed([word, upos, lemma]), expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"methods": {"lema": "gate"}},
            "combiner.args.methods.lema: no such feature is chosen; did you mean 'lemma'?",
        ),
        (
            {"methods": {"word": "gate"}},
            "combiner.args.methods.word: the first part has no method, other parts merge with it; "
            "known: deprel, lemma, upos",
        ),
        (
            {"methods": {"lemma": "gat"}},
            "combiner=mixed: no method 'gat'; did you mean 'gate'?",
        ),
        (
            {"methods": {"lemma": "mixed"}},
            "combiner=mixed: no method 'mixed'; known: " + ", ".join(sorted(NAMED)),
        ),
        (
            {"methods": {"lemma": None}},
            "combiner=mixed: no method 'None'; known: " + ", ".join(sorted(NAMED)),
        ),
        (
            {"methods": dict.fromkeys(("deprel", "lemma", "upos"), "add"), "wide": "gat"},
            "combiner=mixed: no method 'gat'; did you mean 'gate'?",
        ),
        ({"narrow": "ad"}, "combiner=mixed: no method 'ad'; did you mean 'add'?"),
        (
            {"wide": "torch.nn.Linear"},
            "combiner=mixed: torch.nn.Linear must be derived from nmt_feat.combiners.Combiner",
        ),
        (
            {"methods": "gate"},
            "combiner.args.methods=gate: name the feature, +combiner.args.methods.deprel=gate",
        ),
    ],
)
def test_mistakes_in_mixed(settings: dict[str, object], expected: str) -> None:
    configured = CombinerConfig("nmt_feat.combiners.Mixed", args=settings)
    assert message(build_combiner, configured, PARTS, DIM) == expected
    with pytest.raises(CombinerError):  # used alone, without the hints
        Mixed(PARTS, DIM, **settings)


def test_mixed_of_too_wide_features() -> None:
    expected = (
        "concat leaves the word 0 of the model's width 8: upos 8 = 8; "
        "make features.<name>.dim smaller or model.dim larger"
    )
    parts = {"word": 8, "upos": 8, "lemma": 2}
    assert message(Mixed, parts, 8, {"upos": "concat", "lemma": "add"}) == expected


# ---- outside of the framework


def test_subclasses_may_take_anything() -> None:
    class Half(Add):
        min_parts = 3

    assert message(Half, {"word": 4, "upos": 4}, 4) == (
        f"half needs 3 parts, here: word, upos; {ALONE}"
    )


def test_widths_may_be_decided_in_any_order() -> None:
    """The word's last, say; the parts come as they are named."""

    class Last(Concat):
        def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
            return dict(reversed(super().choose_widths(parts, model_dim).items()))

    combiner = Last({"word": DIM, "upos": 3, "deprel": 2}, DIM)
    assert list(combiner.widths.items()) == [("word", 11), ("upos", 3), ("deprel", 2)]
    parts = [torch.randn(2, 3, width) for width in (11, 3, 2)]
    assert combiner(parts).equal(torch.cat(parts, dim=-1))


def test_names_of_release_0_1_still_work() -> None:
    with pytest.warns(DeprecationWarning, match=r"decide is now called choose_widths"):

        class Earlier(Concat):
            least = 3

            def decide(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
                return dict(reversed(super().decide(parts, model_dim).items()))

    assert Earlier.min_parts == 3
    assert message(Earlier, {"word": 4, "upos": 4}, 4).startswith("earlier needs 3 parts")
    assert Earlier({"word": DIM, "upos": 3, "deprel": 2}, DIM).widths["word"] == 11


def test_example_of_use_alone(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "alone.py"), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "gate of two embeddings: (1, 3, 32)",
        "Concat of the two directions, 16 and 16 wide: (1, 3, 32)",
        "ConcatProject of the two directions, 32 and 16 wide: (1, 3, 32)",
        "Add of the two directions, 32 and 32 wide: (1, 3, 32)",
        "Gate of the two directions, 32 and 32 wide: (1, 3, 32)",
    ]
