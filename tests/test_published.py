"""Figures of papers: beside the runs in a table of their own, and no part of a run's hash."""

from __future__ import annotations

from small import Small, record

from nmt_feat.report.formats import markdown
from nmt_feat.report.records import find_runs
from nmt_feat.report.report import Report

ONE = (
    "published.source=A paper",
    "published.settings=other text",
    "+published.figures.base={news BLEU: 27.8}",
    "+published.figures.all={news BLEU: 28.4, news chrF: 57.2}",
)


def test_a_table_of_their_own(small: Small) -> None:
    few = ("combiner=none", "trainer.max_steps=1")
    with small.elsewhere("plain") as other:
        plain = other.train(*few)
    folder = small.train(*few, *ONE)
    assert folder.name == plain.name
    assert "published" not in record(folder)["settings"]
    runs = [(run, path) for path, run in find_runs([folder]).items()]
    table, *_, block = Report([*runs, *runs]).blocks
    assert "28.4" not in markdown(table)
    assert block.title == "Published"
    assert block.heading == ["system", "news BLEU", "news chrF"]
    assert block.rows == [["base", "27.8", "-"], ["all", "28.4", "57.2"]]
    assert block.notes == [
        "Source: A paper.",
        "Their settings: other text. Those of the runs above are in their records; where they "
        "differ, the runs are no reproduction.",
    ]
    (without,) = [(run, path) for path, run in find_runs([plain]).items()]
    assert all(each.title != "Published" for each in Report([without]).blocks)
