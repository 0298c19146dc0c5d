"""Dials: what a feature says falls as it is told to, alike in all splits and in translation."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from nmt_feat.analysis.figure_data import score_by_information
from nmt_feat.analysis.report import Report
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from tests.support.small import Small, cut, record

BOTH = "features=[upos,deprel]"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Words are pieces, with a space between any two, so that values are counted easily."""
    folder = tmp_path_factory.mktemp("dials")
    corpus = cut(folder / "corpus", 600, 60, 60)
    for path in corpus.glob("*.conllu"):
        blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
        lines = [[line for line in block.split("\n") if line[0].isdigit()] for block in blocks]
        texts = [" ".join(line.split("\t")[1] for line in block) for block in lines]
        spaced = ["\n".join([f"# text = {t}", *b, ""]) for t, b in zip(texts, lines, strict=True)]
        path.write_text("\n".join([*spaced, ""]).replace("SpaceAfter=No", "_"), encoding="utf-8")
    settings = {"subword": "none", "subword.vocab_size": 2000}
    return Small(corpus, folder / "cache", folder, settings)


def made(small: Small, *more: str) -> Prepared:
    cfg = small.config("combiner=add", *more)
    return prepare(cfg, cfg.features)


def erased(p: float) -> tuple[str, ...]:
    return (BOTH, f"features.upos.erase={p}", f"features.deprel.erase={p}")


def column(path: Path, number: int) -> list[str]:
    """A column of a CoNLL-U file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line.split("\t")[number] for line in lines if line[:1].isdigit() and "-" not in line]


def bits(values: list[str]) -> float:
    n = len(values)
    return sum(c / n * math.log2(n / c) for c in Counter(values).values())


@pytest.mark.thorough
def test_information_falls_linearly(words: Small) -> None:
    """By a count of the file, and of the ids that are left."""
    whole = bits(column(words.corpus / "train.conllu", 3))
    erased_shares: list[float] = []
    lost: set[int] = set()
    for p in (0, 0.25, 0.5, 0.75, 1):
        prepared = made(words, *erased(p))
        report = prepared.report.features["upos"]
        ids = [i for i in prepared.train.features["upos"].tolist() if i != 2]
        known_ids = [str(i) for i in ids if i != 1]
        assert len(known_ids) / len(ids) == pytest.approx(1 - p, abs=0.02)
        expected = len(known_ids) / len(ids) * (bits(known_ids) if known_ids else 0)
        assert report["entropy"] == pytest.approx(expected, abs=1e-9)
        assert report["entropy"] == pytest.approx((1 - p) * whole, abs=0.03 * whole)
        erased_shares.append(report["given_word"])
        others = prepared.train.features["deprel"].tolist()
        assert [i == 1 for i in ids] == [i == 1 for i in others if i != 2]
        before, lost = lost, {position for position, i in enumerate(ids) if i == 1}
        assert before <= lost  # at a higher share the same words, and more
    assert (
        erased_shares[0] > erased_shares[3] > erased_shares[4] == 0
    )  # with less to learn the model of words from


@pytest.mark.thorough
def test_classes_of_lemmas(words: Small) -> None:
    """A lemma has one class everywhere; the more classes, the more it says."""
    lemmas = {s: column(words.corpus / f"{s}.conllu", 2) for s in ("train", "dev", "test")}
    seen = []
    for count in (1, 4, 64):
        prepared = made(words, "features=[lemma]", f"features.lemma.classes={count}")
        splits = {"train": prepared.train, "dev": prepared.dev, **prepared.tests}
        class_of: dict[str, int] = {}
        for name, split in splits.items():
            ids = [i for i in split.features["lemma"].tolist() if i != 2]
            for lemma, number in zip(lemmas[name], ids, strict=True):
                assert class_of.setdefault(lemma, number) == number
        classes = [str(class_of[lemma]) for lemma in lemmas["train"]]
        assert 0.9 * count < len(set(classes)) <= count
        assert prepared.encoder.features["lemma"].size == 3 + len(set(classes))
        seen.append(prepared.report.features["lemma"]["entropy"])
        assert seen[-1] == pytest.approx(bits(classes), abs=1e-9)
    assert seen[0] == 0 < seen[1] <= 2 < seen[2] < bits(lemmas["train"])


@pytest.mark.thorough
def test_the_seed_draws_and_the_hash_knows(words: Small) -> None:
    one, two = (made(words, *erased(0.5), f"seed={seed}") for seed in (1, 2))
    assert one.folder != two.folder
    assert (one.train.features["upos"] != two.train.features["upos"]).any()
    plain = [made(words, *erased(0), f"seed={seed}").folder for seed in (1, 2)]
    second = made(words, *erased(0.25)).folder
    assert len({*plain, one.folder, two.folder, second}) == 4
    again = Small(words.corpus, words.folder / "second", words.folder, words.settings)
    assert (made(again, *erased(0.5)).train.features["upos"] == one.train.features["upos"]).all()


@pytest.mark.thorough
def test_a_run_translates_as_it_was_tested(small: Small) -> None:
    few = ("combiner=add", "trainer.max_steps=2")
    folder = small.train(*few, *erased(0.5))
    run, where = TrainedModel(folder), small.corpus / "test.conllu"
    sentences = list(read_conllu(where))
    cfg = TranslateConfig(run=str(folder))
    translations = run.translate_sentences(sentences, [""] * len(sentences), cfg)
    hypotheses = (folder / "test.hyp").read_text(encoding="utf-8").splitlines()
    assert [item[0][0] for item in translations] == hypotheses
    split = run.encode_pairs(sentences, [""] * len(sentences), [""] * len(sentences))
    cfg = small.config(*few, *erased(0.5))
    for name, ids in prepare(cfg, cfg.features).tests["test"].features.items():  # type: ignore[attr-defined]
        assert (split.features[name] == ids).all()
        assert 1 in ids


@pytest.mark.slow
def test_the_report_shows_the_dial(small: Small) -> None:
    """A row for each share, over seeds, and points over the bits that are left."""
    with small.elsewhere("figure") as here:
        for seed in ("seed=1", "seed=2"):
            for p in (0, 0.5):
                here.train("combiner=add", "trainer.max_steps=1", seed, *erased(p))
            here.train("combiner=none", "trainer.max_steps=1", seed)
        runs = find_runs([here.folder / "runs"])
    report = Report([(run, folder) for folder, run in runs.items()])
    rows = report.table.runs_by_name()
    assert {name: len(row) for name, row in rows.items()} == {
        "add": 2,
        "add erase=0.5": 2,
        "none": 2,
    }
    heading, cells = report.table.format_cells()
    assert heading[:4] == ["method", "features", "erase", "n"]
    assert sorted(row[2] for row in cells) == ["-", "-", "0.5"]
    assert all(not evidence.orders["BLEU"] for evidence in report.comparisons)
    (methods,) = score_by_information(report.table).values()
    points = methods["add"]
    assert [len(bleu) for bleu in points.values()] == [2, 2]
    more, less = sorted(points, reverse=True)
    assert less[0] == pytest.approx(more[0] / 2, rel=0.15)
    assert less[1] < more[1]
    whole = [run for run in runs.values() if run.features]
    dials = [{f.get("erase") for f in run.settings["features"].values()} for run in whole]
    assert sorted(map(str, dials)) == ["{0.5}", "{0.5}", "{None}", "{None}"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("upos.erase=1.5", "features.upos.erase=1.5: must be 0 to 1"),
        ("upos.classes=0", "features.upos.classes=0: must be at least 1"),
        (
            "subword_tag.erase=0.5",
            "features.subword_tag.erase=0.5: is for values of an annotation, not for subword_tag; "
            "leave it out",
        ),
        (
            "char.classes=2",
            "features.char.classes=2: is for values of an annotation, not for char; leave it out",
        ),
    ],
)
def test_mistakes(small: Small, given: str, message: str) -> None:
    name = given.partition(".")[0]
    with pytest.raises(UserError) as error:
        small.train("combiner=add", f"features=[{name}]", f"features.{given}")
    assert str(error.value) == message


def test_a_record_without_dials_does_not_name_them(small: Small) -> None:
    run_record = record(small.train("combiner=add", "features=[upos]", "trainer.max_steps=1"))
    assert not {"erase", "classes"} & set(run_record["settings"]["features"]["upos"])
