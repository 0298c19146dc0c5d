"""Contrastive suites: their forms, decisions by forced scoring, and accuracies over seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import ResultTable, mean_and_deviation
from nmt_feat.cli.contrast import list_text_readers
from nmt_feat.errors import UserError
from nmt_feat.evaluation.contrastive_suites import ContrastResult, make_result, read_suite
from nmt_feat.runs.stored.records import read_run, write_record
from nmt_feat.runs.trained.long_lines import MostPieces
from nmt_feat.runs.trained.model import TrainedModel
from tests.support import toy_runs
from tests.support.entry import call
from tests.support.small import Small

LINGEVAL = [
    {
        "source": "The bank is closed .",
        "reference": "Die Bank ist geschlossen .",
        "origin": "test",
        "errors": [
            {"contrastive": "Das Bank ist geschlossen .", "type": "np_agreement", "distance": 1},
            {"contrastive": "Die Bank sind geschlossen .", "type": "subj_verb_agreement"},
            {"contrastive": "Die Bank ist geschlossen ", "type": "np_agreement", "distance": 20},
        ],
    },
    {"source": "No error here .", "reference": "Hier ist keiner .", "errors": []},
]
WORD_SENSES = [
    {
        "source": "I saw her duck .",
        "reference": "Ich sah ihre Ente .",
        "ambig word": "duck",
        "sense": "bird",
        "errors": [
            {"contrastive": f"Ich sah {word} .", "replacement": word, "type": "word_sense"}
            for word in ("sie ducken", "ihr Tauchen")
        ],
    }
]
TABLE = (
    "source\treference\tcontrastive\tcategory\tdistance\n"
    "The bank is closed .\tDie Bank ist zu .\tDas Bank ist zu .\tgender\t1\n"
)


def write(path: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def test_each_form_is_read(tmp_path: Path) -> None:
    decisions = read_suite(write(tmp_path / "l.json", LINGEVAL))
    assert [(d.category, d.distance) for d in decisions] == [
        *(("np_agreement", 1), ("subj_verb_agreement", None), ("np_agreement", 20)),
    ]
    result = make_result(tmp_path / "l.json", decisions, [True, False, False])
    assert (result.outcomes, result.categories) == (
        "100",
        {"np_agreement": [1, 2], "subj_verb_agreement": [0, 1]},
    )
    assert result.distances == {"1": [1, 1], "above 15": [0, 1]}
    [sense] = read_suite(write(tmp_path / "w.json", WORD_SENSES))
    assert (sense.category, len(sense.contrastives)) == ("duck:bird", 2)
    [row] = read_suite(write(tmp_path / "t.tsv", f"\ufeff{TABLE}"))  # as spreadsheets write it
    assert (row.reference, row.category, row.distance) == ("Die Bank ist zu .", "gender", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "not readable as JSON"),
        ({"source": "a"}, "not a list of entries"),
        ([{"source": "a", "reference": " ", "errors": []}], "entry 1: has no text 'reference'"),
        ([{"source": "a", "reference": "b"}], "entry 1: has no list errors"),
        ([], "has no pair to decide"),
        ("source\treference\n", "has no column contrastive"),
        (TABLE.replace("\t1\n", "\n"), ":2: does not have the 5 columns"),
        (TABLE + "x" * 140_000, "not readable as a table"),
        (TABLE.replace("\t1\n", "\tfar\n"), "distance 'far' is not a whole number"),
    ],
)
def test_wrong_suites(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_suite(write(tmp_path / "suite", content))
    assert "\n" not in str(error.value)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["embedding", "multitask"])
def test_decisions_of_a_run(small: Small, tmp_path: Path, method: str) -> None:
    """They are those of the log-probabilities, and stand in the record.

    Of multitask too, which has features, but reads none of a text.
    """
    run = small.train("combiner=none", "features=[upos]", f"method={method}")
    suite = write(tmp_path / "mine.json", LINGEVAL)
    done = call("contrast", f"run={run}", f"suite={suite}")
    assert (done.code, "of 3 decisions are right" in done.out) == (0, True)
    texts = [LINGEVAL[0]["reference"], *(e["contrastive"] for e in LINGEVAL[0]["errors"])]
    model = TrainedModel(run)
    sentences = model.annotation.annotate_texts([LINGEVAL[0]["source"]] * 4, None, "x")
    scores = [s for s, _ in model.score_pairs(sentences, texts, ["x"] * 4, MostPieces(99))]
    expected = "".join("1" if scores[0] > score else "0" for score in scores[1:])
    assert read_run(run).contrast["mine"].outcomes == expected
    before = (run / "result.json").stat().st_mtime_ns
    again = call("contrast", run.parent, "--suite", suite)  # all runs of a folder; nothing is new
    assert (again.code, (run / "result.json").stat().st_mtime_ns) == (0, before)
    assert call("report", run.parent).out.count("Contrastive suite mine") == 1


@pytest.mark.thorough
def test_annotated_sources_of_a_suite(small: Small, tmp_path: Path) -> None:
    run = small.train("combiner=gate", "features=[upos]")
    suite = write(tmp_path / "mine.json", LINGEVAL[:1])
    refused = call("contrast", run, "--suite", suite)
    assert (refused.code, "give CoNLL-U" in refused.err) == (2, True)
    words = LINGEVAL[0]["source"].split()
    lines = [f"{i}\t{w}\t_\tNOUN" + "\t_" * 6 for i, w in enumerate(words, 1)]
    annotated = write(tmp_path / "mine.conllu", "\n".join([*lines, "", ""]))
    done = call("contrast", run, "--suite", suite, "--source", annotated)
    earlier = read_run(run).contrast["mine"]
    assert (done.code, len(earlier.outcomes)) == (0, 3)
    write(annotated, annotated.read_text().replace("NOUN", "VERB"))  # other decisions perhaps
    call("contrast", run, "--suite", suite, "--source", annotated)
    assert read_run(run).contrast["mine"].source != earlier.source
    whole = annotated.read_text()
    for entries, text, message in (
        (LINGEVAL[:1] * 2, whole, "has 1 sentences"),
        (
            LINGEVAL[:1] * 2,
            whole.replace("bank", "river") * 2,
            "sentence 1 differs from the text of entry 1",
        ),
    ):
        write(suite, entries)
        write(annotated, text)
        refused = call("contrast", run, "--suite", suite, "--source", annotated)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert message in refused.err


@pytest.mark.thorough
def test_accuracies_over_seeds(tmp_path: Path) -> None:
    """By hand: none has 1 and 2 of 4 right, gate 4 and 3."""
    runs = []
    for method, outcomes in (("none", ("1000", "1100")), ("gate", ("1111", "1101"))):
        for seed, outcome in enumerate(outcomes, 1):
            record, folder = toy_runs.run(tmp_path, method, seed, 0.1)
            categories = {"np": [outcome[:2].count("1"), 2], "verb": [outcome[2:].count("1"), 2]}
            record.contrast = {"suite": ContrastResult("sum", outcome, categories)}
            write_record(folder, record)
            runs.append((read_run(folder), folder))
    tables = {table.title: table for table in Report(runs).tables}
    table = tables["Contrastive suite suite"]
    assert table.heading == ["pairs of", "decisions", "none", "gate"]
    assert table.rows[0] == ["all", "4", "37.5 ± 17.7", "87.5 ± 17.7"]
    assert table.rows[1] == ["np", "2", "75.0 ± 35.4", "100.0 ± 0.0"]
    differences = tables["Contrastive suite suite: differences to none, in points of %"]
    assert differences.rows[0][:2] == ["gate", "+50.0"]
    assert "suite contrast %" in tables[""].heading


def test_suites_of_one_name_are_not_averaged(tmp_path: Path) -> None:
    """Seed 2 was decided by another file of the name; `same` is one suite."""
    runs = []
    for seed, (suite, outcome) in enumerate((("1" * 16, "1000"), ("2" * 16, "11")), 1):
        record, folder = toy_runs.run(tmp_path, "none", seed, 0.1)
        record.contrast = {
            "mine": ContrastResult(suite, outcome),
            "same": ContrastResult("3" * 16, "10"),
        }
        runs.append((record, folder))
    table = ResultTable(record for record, _ in runs)
    names = [figure for figure in table.figures if "contrast" in figure]
    assert names == ["mine@11111111 contrast %", "same contrast %", "mine@22222222 contrast %"]
    (row,) = table.rows.values()
    assert mean_and_deviation(row, names[0]) == (0.25, None, 1)
    assert mean_and_deviation(row, names[1]) == (0.5, 0.0, 2)


def test_runs_of_a_folder_that_do_not_translate_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (_, plain), *others = (toy_runs.run(tmp_path, "none", seed, 0.1) for seed in (1, 2, 3))
    settings = {"terminology": {"shuffled": True}}, {"objective": "denoise"}
    for (record, folder), data in zip(others, settings, strict=True):
        record.config = {"data": data}
        write_record(folder, record)
    assert list_text_readers(tmp_path) == [plain]
    assert capsys.readouterr().out.splitlines() == [
        f"{others[0][1].name}: a control, to which a text means nothing; left out",
        f"{others[1][1].name}: restores text and does not translate; left out",
    ]
