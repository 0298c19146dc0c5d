"""What others see of a run: name and tags, its model card, its folder on another machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmt_feat.analysis.corpora import choose_runs
from nmt_feat.errors import UserError
from nmt_feat.runs.find_runs import find_runs
from nmt_feat.runs.identity import identity_settings
from nmt_feat.runs.loggers import Loggers
from nmt_feat.runs.records import read_run
from nmt_feat.runs.run_summary import summarize_run
from tests.support.entry import call
from tests.support.small import Small, composed
from tests.test_loggers import Kept

GATE = ("combiner=gate", "features=[upos]")
LABELS = ("name=first try", "tags=[draft,upos]")


@pytest.fixture(scope="module")
def shared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The runs of this module, which are trained once."""
    return Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("shared"))


def test_labels_are_no_part_of_the_identity() -> None:
    plain, labelled = composed(()), composed(LABELS)
    assert identity_settings(plain, "data") == identity_settings(labelled, "data")


def test_an_empty_tag_is_refused(small: Small) -> None:
    done = call("train", *small.overrides("tags=[draft,' ']"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "tags: one of them is empty" in done.err


def test_labels_stand_in_the_record_and_choose_runs(shared: Small) -> None:
    folder = shared.train(*GATE, *LABELS)
    other = shared.train("combiner=none")
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    assert read_run(folder).config["tags"] == ["draft", "upos"]
    # The same run with another tag: it is added, nothing is trained.
    assert shared.train(*GATE, "tags=[paper,draft]") == folder
    record = read_run(folder)
    assert (record.config["name"], record.config["tags"]) == (
        "first try",
        ["draft", "upos", "paper"],
    )
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights
    runs = find_runs([folder.parent])
    for condition in ("tags=paper", "tags=dr*", "name=first *"):
        assert set(choose_runs(runs, [condition])) == {folder.resolve()}, condition
    assert other.resolve() in runs
    with pytest.raises(UserError, match="tags is one of: draft, paper, upos"):
        choose_runs(runs, ["tags=drafts"])
    cells = [[*column.cells] for column in summarize_run(record).columns]
    assert [str(cell) for cell in cells[1][:2]] == ["first try", "draft, upos, paper"]


def test_loggers_get_the_labels(tmp_path: Path) -> None:
    logger = Kept()
    Loggers({"one": logger}, tmp_path, print, "first try", ["draft"]).close()
    assert (logger.run_name, [*logger.run_tags]) == ("first try", ["draft"])
