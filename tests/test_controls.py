"""Controls: values move as one tuple over the words; what a word says of them is gone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.analysis.report import Report
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.training.loop import Trainer
from tests.support.small import Small, cut, outcome, record

FEATURES = "features=[upos,deprel,subword_tag]"


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Enough words for statistics, in pieces that seldom are whole words."""
    folder = tmp_path_factory.mktemp("controls")
    corpus = cut(folder / "corpus", 600, 60, 60)
    return Small(corpus, folder / "cache", folder, {"subword.vocab_size": 120})


def made(small: Small, control: str, *more: str, seed: int = 1) -> Prepared:
    return prepare_run(small.config(FEATURES, f"control={control}", f"seed={seed}", *more))


@pytest.mark.parametrize("control", ["shuffled", "resampled", "by_type", "dummy"])
def test_any_seed(small: Small, control: str) -> None:
    """Also one of more than 64 bits."""
    assert len(made(small, control, seed=2**64 + 1).train) == 80


def splits(prepared: Prepared) -> dict[str, EncodedSplit]:
    return {"train": prepared.train, "dev": prepared.dev, **prepared.tests}


def words(
    split: EncodedSplit, prepared: Prepared, *names: str
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Each word's pieces and its values on the pieces, by the subword tag, piece by piece."""
    tags = prepared.encoder.features["subword_tag"].values
    for i in range(len(split)):
        start, end = int(split.source.offsets[i]), int(split.source.offsets[i + 1]) - 1
        word: list[int] = []
        for position in range(start, end):
            if tags[split.features["subword_tag"][position] - 3] in "BO" and word:
                yield tuple(zip(*_columns(split, word, names), strict=True))
                word = []
            word.append(position)
        yield tuple(zip(*_columns(split, word, names), strict=True))


def _columns(split: EncodedSplit, places: list[int], names: tuple[str, ...]) -> list[list[int]]:
    arrays = [split.source.values, *(split.features[name] for name in names)]
    return [[int(array[position]) for position in places] for array in arrays]


def tuples(
    split: EncodedSplit, prepared: Prepared
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of each word: its pieces, and its values, which are the same on all of its pieces."""
    results = []
    for word in words(split, prepared, "upos", "deprel"):
        (values,) = {piece[1:] for piece in word}
        results.append((tuple(piece[0] for piece in word), values))
    return results


def information(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> float:
    """Mutual information of words and values, in bits, as their counts have it."""
    both, n = Counter(pairs), len(pairs)
    words, tags = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    return sum(c / n * math.log2(c * n / words[a] / tags[b]) for (a, b), c in both.items())


@pytest.mark.thorough
@pytest.mark.parametrize("control", ["shuffled", "resampled"])
def test_one_permutation_of_the_words(larger: Small, control: str) -> None:
    true = prepare(larger.config(FEATURES), larger.config(FEATURES).features)
    moved = made(larger, control)
    for name, split in splits(moved).items():
        before = splits(true)[name]
        assert (split.source.values == before.source.values).all()
        assert (split.target.values == before.target.values).all()
        tags = "subword_tag"
        assert (split.features[tags] == before.features[tags]).all()
        assert list(split.features) == list(before.features)
        old, new = tuples(before, true), tuples(split, moved)
        assert [pieces for pieces, _ in old] == [pieces for pieces, _ in new]
        assert Counter(values for _, values in old) == Counter(values for _, values in new)
        assert np.mean([a == b for a, b in zip(old, new, strict=True)]) < 0.3
        ends = split.source.offsets[1:] - 1
        assert (split.features["upos"][ends] == before.features["upos"][ends]).all()


def test_a_word_says_nothing_of_its_values(larger: Small) -> None:
    true = prepare(larger.config(FEATURES), larger.config(FEATURES).features)
    pairs = tuples(true.train, true)
    order = np.random.default_rng(5).permutation(len(pairs))
    chance = information([(pairs[i][0], pairs[j][1]) for i, j in enumerate(order)])
    moved = made(larger, "shuffled")
    assert information(tuples(moved.train, moved)) == pytest.approx(chance, rel=0.1)
    assert information(pairs) > 2 * chance
    epoch = moved.redraw
    assert epoch is None


def test_every_epoch_has_its_own(larger: Small) -> None:
    moved, plain = made(larger, "resampled"), made(larger, "shuffled")
    assert moved.redraw is not None
    first, second, again = (moved.redraw(epoch).features["upos"] for epoch in (0, 1, 0))
    assert (first == again).all()
    assert (first != second).any()
    assert (first == moved.train.features["upos"]).all()
    assert (first == plain.train.features["upos"]).all()
    assert sorted(first) == sorted(again)


def test_a_type_has_one_tuple_everywhere(larger: Small) -> None:
    true = prepare(larger.config(FEATURES), larger.config(FEATURES).features)
    moved = made(larger, "by_type")
    permutations: dict[tuple[int, ...], tuple[int, ...]] = {}
    for split in splits(moved).values():
        for pieces, values in tuples(split, moved):
            assert permutations.setdefault(pieces, values) == values
    marginal = Counter(values for _, values in tuples(true.train, true))
    assert set(permutations.values()) <= set(marginal)
    total = marginal.total()
    for values, count in marginal.most_common(3):  # as the tokens have them, types by types
        share = np.mean([v == values for v in permutations.values()])
        deviation = math.sqrt(count / total * (1 - count / total) / len(permutations))
        assert abs(share - count / total) < 4 * deviation
    truth = dict(tuples(true.train, true))
    right = [truth.get(pieces) == values for pieces, values in permutations.items()]
    assert np.mean(right) < 0.3


@pytest.mark.thorough
def test_splits_are_shuffled_each_in_its_own_way(larger: Small) -> None:
    """Though dev and test be the same text."""
    same = "data.tests.test={source: dev.conllu, target: dev.de}"
    shuffled = made(larger, "shuffled", same)
    dev, test = (
        split.features["upos"].tolist() for split in (shuffled.dev, shuffled.tests["test"])
    )
    true = prepare(larger.config(FEATURES, same), larger.config(FEATURES).features)
    assert true.dev.features["upos"].tolist() == true.tests["test"].features["upos"].tolist()
    assert dev != test


def test_dummy_tags(larger: Small) -> None:
    """All words have the values of the first one, whichever split they are of."""
    true = prepare(larger.config(FEATURES), larger.config(FEATURES).features)
    first = tuples(true.train, true)[0][1]
    moved = made(larger, "dummy")
    for name, split in splits(moved).items():
        pieces = [word for word, _ in tuples(splits(true)[name], true)]
        assert tuples(split, moved) == [(word, first) for word in pieces]


@pytest.mark.parametrize("control", ["shuffled", "resampled", "by_type"])
def test_the_seed_decides(larger: Small, control: str) -> None:
    one, same = splits(made(larger, control)), splits(made(larger, control))
    second_splits = splits(made(larger, control, seed=2))
    for name in one:
        for feature in ("upos", "deprel"):
            assert (one[name].features[feature] == same[name].features[feature]).all()
        assert (one[name].features["upos"] != second_splits[name].features["upos"]).any()


def test_prepared_once_for_all_controls(larger: Small) -> None:
    result = {made(larger, c, seed=s).folder for c in ("shuffled", "by_type") for s in (1, 2)}
    assert len(result) == 1
    prepared = made(larger, "shuffled")
    assert list(prepared.encoder.features) == ["deprel", "subword_tag", "upos"]
    assert "word" not in prepared.report.features
    count = len(tuples(prepared.train, prepared))
    assert prepared.notes[-1] == (
        f"control=shuffled: the values of deprel, upos move together over {count:,} word tokens "
        "of train; left alone: subword_tag. The table of features shows the values before that"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("control", ["shuffled", "by_type"])
def test_units_move_as_a_whole(larger: Small, control: str) -> None:
    settings = ["features=[char,upos]", "features.char.of=word", f"control={control}"]
    cfg = larger.config(*settings)
    true, moved = prepare(cfg, cfg.features), prepare_run(cfg)

    def units(split: EncodedSplit) -> list[tuple[int, ...]]:
        table = split.units["char"]
        return [tuple(table.row(i - 3)) for i in split.features["char"] if i >= 3]

    for name, split in splits(moved).items():
        source = splits(true)["train" if control == "by_type" else name]
        assert set(units(split)) <= set(units(source))
        assert units(split) != units(splits(true)[name])


def test_first_pieces_alone_keep_to_themselves(larger: Small) -> None:
    cfg = larger.config("features=[upos,subword_tag]", "features.upos.policy=first")
    true = prepare(cfg, cfg.features)
    cfg.control = "shuffled"
    moved = prepare_run(cfg)
    inside = moved.encoder.features["upos"].id_of("<inside>")
    before, after = (p.train.features["upos"] for p in (true, moved))
    assert ((before == inside) == (after == inside)).all()
    assert Counter(before.tolist()) == Counter(after.tolist())


@pytest.mark.thorough
def test_units_of_first_pieces(larger: Small) -> None:
    """Pieces that are not the first of their word say so in all splits, as they did."""
    settings = ["features=[char,upos]", "features.char.of=word", "features.char.policy=first"]
    cfg = larger.config(*settings, "control=by_type")
    true, moved = prepare(cfg, cfg.features), prepare_run(cfg)
    inside = (moved.encoder.features["char"].id_of("<inside>"),)

    def units(split: EncodedSplit) -> list[tuple[int, ...]]:
        table = split.units["char"]
        ids = split.features["char"].tolist()
        return [tuple(table.row(i - 3).tolist()) if i >= 3 else (-i,) for i in ids]

    drawn = set(units(splits(true)["train"]))
    for name, split in splits(moved).items():
        before, after = units(splits(true)[name]), units(split)
        assert [u == inside for u in before] == [u == inside for u in after]
        assert set(after) <= drawn
        assert before != after


@pytest.mark.thorough
def test_pieces_that_are_given_with_values_of_their_own(tmp_path: Path) -> None:
    """Each piece of a word has another value: none of them keeps the true one."""
    random = np.random.default_rng(1)
    for split, count in (("train", 60), ("dev", 9), ("test", 9)):
        drawn = random.integers(9, size=(count, 4)).tolist()
        text = (" ".join(f"w{i}@@|{i} e{i}@@|{i + 10} d|{i + 20}" for i in row) for row in drawn)
        (tmp_path / f"{split}.src").write_text("".join(f"{line}\n" for line in text))
        (tmp_path / f"{split}.trg").write_text("ja .\n" * count)
    files = []
    for key, name in (("train", "train"), ("dev", "dev"), ("tests.test", "test")):
        files += [f"data.{key}.source={name}.src", f"data.{key}.target={name}.trg"]
    kind = ("data=files", "data.source_lang=en", "data.target_lang=de", "data.format=pipe")
    arguments = (
        "data.factors=[lemma]",
        "features=[lemma]",
        "subword=given",
        "subword.vocab_size=99",
    )
    cfg = Small(tmp_path, tmp_path / "cache", tmp_path).config(*kind, *files, *arguments)
    true = prepare(cfg, cfg.features)
    cfg.control = "shuffled"
    moved = prepare_run(cfg)
    for name, split in splits(moved).items():
        before, after = splits(true)[name].features["lemma"], split.features["lemma"]  # type: ignore[attr-defined]
        ends = split.source.offsets[1:] - 1  # type: ignore[attr-defined]
        old, new = (np.delete(ids, ends).reshape(-1, 3) for ids in (before, after))
        assert (new == new[:, :1]).all()
        assert Counter(old[:, 0].tolist()) == Counter(new[:, 0].tolist())
        assert (old[:, 1:] != new[:, 1:]).all()


def test_words_without_subwords(small: Small) -> None:
    cfg = small.config("subword=none", "subword.vocab_size=5000", "control=shuffled")
    true, moved = prepare(cfg, cfg.features), prepare_run(cfg)
    assert true.folder == moved.folder
    before, after = (p.train.features["upos"] for p in (true, moved))
    assert (before != after).any()
    assert Counter(before.tolist()) == Counter(after.tolist())


def test_features_of_pieces_cannot_be_controlled(small: Small) -> None:
    with pytest.raises(UserError) as error:
        prepare_run(small.config("features=[subword_tag]", "control=by_type"))
    assert str(error.value) == (
        "control=by_type: only pieces determine subword_tag; choose features of "
        "words, or control=none"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["control=shufled"], "control=shufled: unknown; did you mean 'shuffled'?"),
        (
            ["combiner=none", "control=shuffled"],
            "combiner=none control=shuffled: combiner has no features; choose another combiner, "
            "or control=none",
        ),
        (
            ["combiner=none", "control=matched"],
            "combiner=none control=matched: combiner names the method to match; choose another "
            "combiner, or control=none",
        ),
    ],
)
def test_mistakes(small: Small, settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        small.train(*settings)
    assert str(error.value).startswith(message)


@pytest.mark.slow
def test_a_table_with_controls(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {}
    for control in ("none", "shuffled", "resampled", "by_type", "matched"):
        folders[control] = small.train("combiner=gate", f"control={control}", sweep=True)
    assert "matched: words only with model.ffn_dim=" in capsys.readouterr().out
    plain = small.train("combiner=none", "control=shuffled", sweep=True)
    assert plain == small.train("combiner=none", sweep=True)
    names = [folder.name.rpartition("-s1-")[0] for folder in folders.values()]
    assert names[:3] == ["gate-deprel+upos", *(f"gate-deprel+upos-{c}" for c in list(folders)[1:3])]
    assert names[4] == "none-matched"
    size = {c: record(folder)["parameters"]["total"] for c, folder in folders.items()}
    assert abs(size["matched"] / size["none"] - 1) <= 0.005
    assert size["shuffled"] == size["by_type"] == size["none"]
    result = {c: record(folder) for c, folder in folders.items()}
    assert [result[c]["settings"].get("control") for c in folders] == [None, *list(folders)[1:]]
    assert result["shuffled"]["tests"] != result["none"]["tests"] or (
        result["shuffled"]["curve"] != result["none"]["curve"]
    )
    assert len({f["hash"] for f in result.values()}) == 5
    report = Report([(r, f) for f, r in find_runs([small.folder / "runs"]).items()], pairs=False)
    rows = {"gate", "gate by_type", "gate resampled", "gate shuffled", "none", "none matched"}
    assert set(report.table.runs_by_name()) == rows
    assert [e.baseline for e in report.comparisons] == ["none"]
    with pytest.raises(
        UserError, match=r"trained with control=shuffled, so a text means nothing to it"
    ):
        TrainedModel(folders["shuffled"])
    TrainedModel(folders["matched"])


class Killed(BaseException):
    """What stops a run in this process."""


@pytest.mark.thorough
def test_stopped_in_an_epoch_of_its_own(small: Small) -> None:
    """Batches of an update may be of two epochs, each with its own values; resumed all the same."""
    settings = ["control=resampled", "combiner=add", "trainer.accumulate=4"]
    expected = small.whole(*settings)
    original, steps = Trainer.save_checkpoint, []

    def save(self: Trainer) -> None:
        original(self)
        steps.append(self.state.step)
        if len(steps) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", save)
        with pytest.raises(Killed):
            small.train(*settings)
    assert steps == [2, 4]
    assert outcome(small.train(*settings)) == expected
