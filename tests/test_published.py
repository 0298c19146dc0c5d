"""Figures of papers: beside the runs in a table of their own, and no part of a run's hash."""

from __future__ import annotations

from copy import deepcopy

import pytest

from nmt_feat.analysis.render import render_markdown
from nmt_feat.analysis.report import Report
from nmt_feat.cli.train_job import reduce_changed_scale
from nmt_feat.config.rules import check_settings
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord
from tests.support.small import Small, composed, record

ONE = (
    "published.source=A paper",
    "published.settings=other text",
    "+published.figures.base={news BLEU: 27.8}",
    "+published.figures.all={news BLEU: 28.4, news chrF: 57.2}",
)


@pytest.mark.thorough
def test_scale(small: Small) -> None:
    """A column of its own, no part of a run's name; full no more if other settings change."""
    few = ("combiner=none", "trainer.max_steps=1", *ONE)
    folder = small.train(*few, "scale=reduced")
    assert "scale" not in record(folder)["settings"]
    (run,) = find_runs([folder]).values()
    *_, block = (report := Report([(run, folder)])).tables
    column = list(report.tables[0].heading).index("scale")
    assert report.tables[0].rows[0][column] == "reduced"
    assert block.notes[2].startswith("Settings of the runs above: reduced: embedded, ")
    for more, expected in (("seed=2", "full"), ("trainer.max_steps=9", "reduced")):
        overrides = ["experiment=wu2021_tiny", "scale=full", "data.folder=x", more]
        cfg = deepcopy(composed(tuple(overrides)))
        assert reduce_changed_scale(cfg, overrides).scale == expected
    for more in ("combiner=gate", "experiment=sennrich2016_en_de"):  # refused as they were given
        overrides = [more, "row=none", "scale=full"]
        assert reduce_changed_scale(deepcopy(composed(tuple(overrides))), overrides).scale == "full"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("scale=half", "scale=half: unknown; known: full, reduced"),
        (
            "scale=full",
            "scale=full: needs the experiment of a paper; choose one, such as "
            "experiment=wu2021_tiny, or leave it out",
        ),
        (
            "experiment=sennrich2016_en_de scale=full",
            "scale=full: their WMT 2016 text has no checksum that is known here; "
            "leave scale=reduced",
        ),
        (
            "experiment=park2020_ko_en data.folder=x scale=full",
            "scale=full: their AIHub text has no public address; leave scale=reduced",
        ),
        (
            "experiment=meta_embedding scale=full",
            "scale=full: the paper has no translation; leave scale=reduced",
        ),
    ],
)
def test_no_such_scale(given: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_settings(composed(tuple(given.split())))
    assert str(error.value) == message


@pytest.mark.thorough
def test_a_table_of_their_own(small: Small) -> None:
    few = ("combiner=none", "trainer.max_steps=1")
    with small.elsewhere("plain") as twin:
        plain = twin.train(*few)
    folder = small.train(*few, *ONE)
    assert folder.name == plain.name
    assert "published" not in record(folder)["settings"]
    runs = [(run, path) for path, run in find_runs([folder]).items()]
    table, *_, block = Report([*runs, *runs]).tables
    assert "28.4" not in render_markdown(table)
    assert block.title == "Published"
    assert block.heading == ["system", "news BLEU", "news chrF"]
    assert block.rows == [["base", "27.8", "-"], ["all", "28.4", "57.2"]]
    assert block.notes == [
        "Source: A paper.",
        "Its settings: other text.",
        "Settings of the runs above: embedded, en to de, width 16, 1 + 1 layers, at most 1 updates "
        "of 1 x 256 tokens.",
        "Where the settings differ, the runs above are no reproduction.",
    ]
    failed = RunRecord("gate", ["upos"], 1, "", "", {}, record(folder)["config"])
    failed.config["trainer"]["max_steps"] = "${oc.env:STEPS}"
    assert Report([(failed, None)]).tables[-1].notes == [*block.notes[:2], block.notes[3]]
    (without,) = [(run, path) for path, run in find_runs([plain]).items()]
    assert all(item.title != "Published" for item in Report([without]).tables)
