"""Finished runs without a training, for the page: outputs and names that try to break out of it."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from nmt_feat.config.schema import FeatureConfig
from nmt_feat.evaluation.counts import count_sentences, counts_file, write_counts
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.evaluation.test_sets import write_hypotheses
from nmt_feat.runs.stored.records import CurvePoint, RunRecord, write_record

ATTACK = "<script>alert(1)</script>"
SOURCES = [
    [("They", "PRON"), ("fish", "NOUN")],
    [("They", "PRON"), ("fish", "VERB")],
    [(ATTACK, "</script><b>"), ("&amp;", "X"), ("\u0639", "X")],
    [("Good", "ADJ"), ("morning", "NOUN"), ("to", "ADP"), ("all", "PRON")],
]
REFERENCES = [
    "Sie Fisch hier und dort",
    "Sie fischen hier und dort",
    f"{ATTACK} bleibt was es ist",
    "Guten Morgen an euch alle",
]
OUTPUTS = {
    "none": ["Sie fischen hier und dort"] * 2
    + [f"{ATTACK} <!-- bleibt", "Guten Abend an euch alle"],
    "gate</script><img src=x onerror=alert(2)>": REFERENCES,
}


def write_corpus(folder: Path) -> None:
    """The test set's files."""
    blocks = []
    for words in SOURCES:
        lines = [f"# text = {' '.join(word for word, _ in words)}"]
        for i, (word, upos) in enumerate(words, 1):
            lines.append("\t".join([str(i), word, "_", upos, "_", "_", str(i - 1), *"___"]))
        blocks.append("\n".join(lines) + "\n")
    (folder / "test.conllu").write_text("\n".join(blocks), encoding="utf-8")
    (folder / "test.de").write_text("".join(f"{r}\n" for r in REFERENCES), encoding="utf-8")


def write_run(folder: Path, method: str, seed: int) -> tuple[RunRecord, Path]:
    """A finished run with its translations in its folder."""
    split = {"source": "test.conllu", "target": "test.de"}
    data = {"name": "toy", "folder": str(folder), "source_lang": "en", "target_lang": "de"}
    config: dict[str, Any] = {
        "data": data | {"train": split, "dev": split, "tests": {"test": split}},
        "paths": {"cache": str(folder / "cache")},
        "features": {"upos": dataclasses.asdict(FeatureConfig(column="upos"))},
        "seed": ATTACK,
    }
    outputs = OUTPUTS[method]
    record = RunRecord(method, ["upos"], seed, "toy", f"{len(method)}-{seed}", {}, config)
    record.settings = {"seed": seed}
    record.dev = score_translations(outputs, REFERENCES)
    record.tests = {"test": score_translations(outputs, REFERENCES)}
    record.machine = {"cpu": ATTACK}
    record.curve = [CurvePoint(step, 1.0, 10.0 * step + seed) for step in (1, 2)]
    record.data_report = {"splits": {"train": {"sentences": 4, "top": [[ATTACK, 0.5]]}}}
    run_folder = folder / record.hash
    run_folder.mkdir(parents=True, exist_ok=True)
    record.files = {"test": write_hypotheses(run_folder, "test", outputs)}
    record.counts = {"test": counts_file("test")}
    write_counts(
        run_folder / record.counts["test"], count_sentences(outputs, REFERENCES), REFERENCES
    )
    write_record(run_folder, record)
    return record, run_folder


def write_runs(folder: Path) -> list[tuple[RunRecord, Path]]:
    """Two seeds of each method, with their corpus."""
    write_corpus(folder)
    return [write_run(folder, method, seed) for method in OUTPUTS for seed in (1, 2)]


class Page(HTMLParser):
    """Elements and the text in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.shown = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.shown += data
