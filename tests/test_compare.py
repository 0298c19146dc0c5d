"""`tools/compare_revisions.py`: what it compares, and that it finds what differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import compare_revisions
from compare import reports, revisions
from compare.bench import Bench, Job, JobFailed, Side
from compare.differences import (
    DIFFERENT,
    FAILED,
    ONLY_BASE,
    ONLY_NEW,
    Difference,
    Intended,
    compare,
    read_intended,
    split_intended,
)
from compare.facts import Facts


def facts(folder: Path) -> Facts:
    """One fact of each kind."""
    folder.mkdir(parents=True)
    results = Facts(folder)
    results.nested("record", {"bleu": 12.5, "steps": [1, 2], "hash": "abc"}, skip=("hash",))
    results.text("translations", "one\ntwo\nthree\n")
    results.array("weights", np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    results.numbers("page", "The mean is 12.50, p < 0.001; 1,000 sentences.")
    return results


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Facts, Facts]:
    """Equal facts of two sides."""
    return facts(tmp_path / "base"), facts(tmp_path / "new")


def test_equal_facts_do_not_differ_after_they_were_saved(sides: tuple[Facts, Facts]) -> None:
    base, new = sides
    new.save()
    assert compare("part", "job", base, Facts.load(new.folder)) == []
    assert set(base.values) == {
        *("record.bleu", "record.steps.0", "record.steps.1"),
        *("translations", "weights", "page"),
    }


def change_scalar(new: Facts) -> None:
    new.scalar("record.bleu", 12.500000000000002)


def change_type(new: Facts) -> None:
    new.scalar("record.steps.0", True)


def change_text(new: Facts) -> None:
    new.text("translations", "one\nTwo\nthree\n")


def change_array(new: Facts) -> None:
    new.array("weights", np.array([[1.0, 2.0], [3.0, 4.5]], np.float32))


def change_array_type(new: Facts) -> None:
    new.array("weights", np.array([[1.0, 2.0], [3.0, 4.0]]))


def change_page(new: Facts) -> None:
    new.numbers("page", "The mean is 12.51, p < 0.001; 1,000 sentences.")


def remove(new: Facts) -> None:
    del new.values["record.steps.1"]


@pytest.mark.parametrize(
    ("change", "key", "kind", "what"),
    [
        (change_scalar, "record.bleu", DIFFERENT, "12.5 -> 12.500000000000002"),
        (change_type, "record.steps.0", DIFFERENT, "1 -> True"),
        (change_text, "translations", DIFFERENT, "1 of 4 lines, line 2: 'two' -> 'Two'"),
        (change_array, "weights", DIFFERENT, "1 of 4 values, at (1, 1): 4.0 -> 4.5, at most 0.5"),
        (change_array_type, "weights", DIFFERENT, "float32 (2, 2) -> float64 (2, 2)"),
        (change_page, "page", DIFFERENT, "1 of 3 numbers are gone: 12.50"),
        (remove, "record.steps.1", ONLY_BASE, "2"),
    ],
)
def test_a_planted_difference_is_named(
    sides: tuple[Facts, Facts], change: Any, key: str, kind: str, what: str
) -> None:
    base, new = sides
    change(new)
    (difference,) = compare("part", "job", base, new)
    assert (difference.key, difference.kind) == (key, kind)
    assert difference.description.startswith(what)
    assert difference.serious


def test_bits_that_compare_as_equal_are_a_difference(tmp_path: Path) -> None:
    base, new = Facts(tmp_path / "a"), Facts(tmp_path / "b")
    for side, zero in ((base, 0.0), (new, -0.0)):
        side.folder.mkdir()
        side.array("weights", np.array([zero]))
    (difference,) = compare("part", "job", base, new)
    assert difference.description == "other bits of equal values"


def test_additions_are_reported_and_no_difference(sides: tuple[Facts, Facts]) -> None:
    base, new = sides
    new.scalar("record.perplexity", 3.5)
    new.numbers("page", "12.50 0.001 1,000 and 77")
    (difference,) = compare("part", "job", base, new)
    assert (difference.key, difference.kind, difference.serious) == (
        *("record.perplexity", ONLY_NEW),
        False,
    )


def test_a_setting_may_go_but_no_job(tmp_path: Path) -> None:
    base, new = Facts(tmp_path), Facts(tmp_path)
    base.scalar("seed=1: settings.trainer.gone", 1)
    base.scalar("seed=2: composed", True)
    gone, job = compare("settings", "experiment=controls", base, new)
    assert not gone.serious
    assert job.serious


def test_additions_are_shown_once_for_all_runs() -> None:
    keys = [f"seed={seed}: settings.list.{i}" for seed in (1, 2) for i in (0, 1)]
    added = [Difference("settings", "x", key, ONLY_NEW, "1") for key in keys]
    assert compare_revisions.summarize(added) == [(ONLY_NEW, "settings.list.N (4)")]


def test_numbers_of_words_are_none(tmp_path: Path) -> None:
    texts = Facts(tmp_path)
    texts.numbers("page", "BLEU 1.5e-3, s1-35009fef, -2 and 3 % of chrF2")
    file = tmp_path / texts.values["page"]["file"]
    assert sorted(file.read_text().split()) == ["-2", "1.5e-3", "3"]


def test_a_page_is_what_its_reader_sees() -> None:
    html = "<style>p {width: 7px}</style><p x='8'>9<script>10</script></p><path d='M 11'/>12"
    assert reports.text_of_page(html).split() == ["9", "12"]


LIST = """
[[difference]]
part = "weights"
job = "gate*"
key = "record.data_hashes.*"
reason = "the fingerprint has another format"
[[difference]]
part = "texts"
reason = "nothing of the kind"
"""


def test_intended_differences_are_matched_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(LIST)
    intended = read_intended(path)
    key = "record.data_hashes.prepared"
    matching = Difference("weights", "gate fp32", key, DIFFERENT, "a -> b")
    foreign = Difference("weights", "add fp32", key, DIFFERENT, "a -> b")
    failed = Difference("texts", "none", "", FAILED, "no such file")
    assert split_intended([matching, foreign, failed], intended) == ([foreign, failed], [matching])
    assert [entry.matched for entry in intended] == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[difference]]\npart = 'weights'", "entry 1: no reason"),
        ("[[difference]]\nreason = 'x'\npar = 'y'", "entry 1: has unknown names: par"),
    ],
)
def test_an_entry_needs_a_reason_and_right_names(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_intended(path)


def git(folder: Path, *arguments: str) -> None:
    name = ("-c", "user.name=n", "-c", "user.email=e@e")
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose only program prints 1; in the working tree, 2."""
    folder = tmp_path / "repository"
    (folder / "data" / "embedded").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        block = "# text = Go!\n1\tGo\tgo\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No\n2\t!\t!\t"
        block += "PUNCT\t.\t_\t1\tpunct\t_\t_\n\n"
        (folder / "data" / "embedded" / f"{split}.conllu").write_text(block * 310)
        (folder / "data" / "embedded" / f"{split}.de").write_text("Geh!\n" * 310)
    (folder / "program.py").write_text("print(1)\n")
    (folder / ".gitignore").write_text("ignored\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "base")
    (folder / "program.py").write_text("print(2)\n")
    (folder / "ignored").write_text("x")
    return folder


def test_the_working_tree_is_what_git_does_not_ignore(repository: Path, tmp_path: Path) -> None:
    base = revisions.unpack(repository, revisions.tree_of(repository, "HEAD"), tmp_path / "code")
    tree = revisions.working_tree(repository)
    new = revisions.unpack(repository, tree, tmp_path / "code")
    assert (base / "program.py").read_text() == "print(1)\n"
    assert (new / "program.py").read_text() == "print(2)\n"
    assert not (new / "ignored").exists()
    for name in ("tests", "tools"):  # the code is the same
        (repository / name).mkdir()
        (repository / name / "more.py").write_text("print(3)\n")
    again = revisions.working_tree(repository)
    assert again != tree
    assert revisions.unpack(repository, again, tmp_path / "code") == new
    git(repository, "diff", "--cached", "--quiet")  # the index stays


def test_a_commit_that_a_clone_lacks_is_named(repository: Path) -> None:
    with pytest.raises(revisions.NoRevision):
        revisions.tree_of(repository, "0" * 40)


def compared(repository: Path, tmp_path: Path, *jobs: Job) -> dict[str, list[Difference]]:
    """The differences of jobs between the commit and the working tree, by job."""
    trees = revisions.tree_of(repository, "HEAD"), revisions.working_tree(repository)
    codes = [revisions.unpack(repository, tree, tmp_path / "code") for tree in trees]
    base, new = (Side(name, c.name, c) for name, c in zip(("base", "new"), codes, strict=True))
    sides = [base, new]
    comparison = compare_revisions.Comparison(sides, tmp_path / "work", small=True, at_once=2)
    try:
        comparison.start(list(jobs))
        return {job.key: comparison.differences(job) for job in jobs}
    finally:
        comparison.close()


def run_program(bench: Bench) -> None:
    bench.record_output("program", bench.good("program.py", fresh=True))
    bench.record_output("folder", bench.good(bench.base.code / "program.py", fresh=True))
    times = bench.folder.parent / "times"
    times.write_text(f"{times.read_text() if times.exists() else ''}x")


def refuse(bench: Bench) -> None:
    raise JobFailed("no such thing")


def test_jobs_run_once_with_the_code_of_both_sides(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, failing = Job("programs", "one", run_program), Job("texts", "two", refuse)
    needing = Job("texts", "three", run_program, needs=("texts/two",))
    for _ in range(2):  # again from what the folder keeps
        result = compared(repository, tmp_path, job, failing, needing)
    (difference,) = result["programs/one"]
    assert difference.key == "program.output"
    assert difference.description == "1 of 2 lines, line 1: '1' -> '2'"
    (failed,) = result["texts/two"]
    assert (failed.kind, failed.description) == (FAILED, "base: no such thing; new: no such thing")
    assert result["texts/three"][0].description.startswith("base: needs texts/two: no such thing")
    times = sorted((tmp_path / "work").glob("jobs/*/programs/times"))
    assert [path.read_text() for path in times] == ["x", "x"]

    entry = Intended("it prints 2 now", "programs", "one", "program.output")
    capsys.readouterr()
    assert compare_revisions.show([job], result, [entry]) == []
    assert "but for 1 intended differences" in capsys.readouterr().out
    assert compare_revisions.show([job, failing], result, []) == [difference, failed]
    out = capsys.readouterr().out
    assert "programs  one  different  program.output: 1 of 2 lines" in out
    assert "texts     two  failed     base: no such thing" in out


def test_the_jobs_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NMT_FEAT_DATA", raising=False)
    wanted, ordered = compare_revisions.chosen_jobs(ROOT, False, [])
    keys = [job.key for job in wanted]
    assert len(keys) == len(set(keys))
    for experiment in (ROOT / "conf" / "experiment").glob("*.yaml"):
        assert f"settings/experiment={experiment.stem}" in keys
    for method in (ROOT / "conf" / "combiner").glob("*.yaml"):
        for way in ("fp32", "bf16", "accumulate", "devices", "stopped", "killed"):
            assert f"weights/{method.stem} {way}" in keys
    for feature in (ROOT / "conf" / "features").glob("*.yaml"):
        assert f"arrays/{feature.stem}" in keys
    assert {job.name for job in wanted if job.skip} >= {"multi30k en-de", "korean kiwi"}
    places = {job.key: i for i, job in enumerate(ordered)}
    assert all(places[need] < i for i, job in enumerate(ordered) for need in job.needs)


def test_only_takes_parts_and_patterns() -> None:
    wanted, ordered = compare_revisions.chosen_jobs(ROOT, False, ["weights/gate killed"])
    assert [job.key for job in wanted] == ["weights/gate killed"]
    assert [job.key for job in ordered] == ["weights/gate fp32", "weights/gate killed"]
    with pytest.raises(ValueError, match="--only wights: no such part or job"):
        compare_revisions.chosen_jobs(ROOT, False, ["wights"])
