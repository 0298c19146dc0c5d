"""A report as one HTML page, which needs no server, no network and no other file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nmt_feat.analysis.corpora import split_by_corpus
from nmt_feat.analysis.examples import Corpora, collect_examples
from nmt_feat.analysis.figures import draw_figures
from nmt_feat.analysis.render import BEST_MEAN
from nmt_feat.analysis.report import Report
from nmt_feat.base.outputs import write_to
from nmt_feat.errors import UserError, writing_to
from nmt_feat.extras import import_optional

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PROVENANCE = ("code", "libraries", "machine", "data_hashes", "parameters", "parent")
FACTS = ("hash", "updates", "selected", "train_seconds", "tokens_per_second", "peak_memory_mib")
WORDS = {
    "train_read": "training pairs before filtering",
    "source_size": "source vocabulary",
    "target_size": "target vocabulary",
    "kept": "values in the vocabulary",
    "entropy": "bits",
    "given_word": "given word",
    "random_by_type": "random",
    "unknown_dev": "unknown in dev",
    "agreement": "pieces agree",
    "top": "most frequent",
}
"""The console's words for keys of a data report, which the glossary explains."""
SHARES = {"unknown": 2, "unknown_dev": 2, "coverage": 1, "agreement": 1, "lost": 1}
"""Shares in a data report, with their decimals as percentages."""


def write_page(report: Report, path: Path, corpora: Corpora) -> list[str]:
    """Write the page, with text only from `corpora`; sentences on what it lacks, and why."""
    jinja2 = import_optional("jinja2", "the HTML page", "analysis")
    rows = report.table.runs_by_name()
    example_sets, missing = collect_examples(rows, report.folders, corpora)
    try:
        figures = [
            (render_svg(figure, f"f{number}-", description), description)
            for number, (figure, description) in enumerate(draw_figures(report).values(), 1)
        ]
    except UserError as error:  # Matplotlib is not installed
        figures = []
        missing.append(f"Without figures: {error}")
    # Runs on the same prepared data share a report on it.
    data = {str(r.data_report): (r.data, r.data_report) for r, _ in report.runs if r.data_report}
    loader = jinja2.PackageLoader("nmt_feat.analysis", "static")
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    templates.tests["table"] = _is_table
    templates.filters["code"] = mark_code
    templates.filters["words"] = name_report
    # The page's security policy allows no other style and no other script.
    style, script = (loader.get_source(templates, f"page.{kind}")[0] for kind in ("css", "js"))
    content = templates.get_template("page.html").render(
        style=_markup(style),
        script=_markup(script),
        script_hash=hash_script(script),
        corpus="; ".join(split_by_corpus(report.runs)),
        tables=report.tables,
        best_mean=BEST_MEAN,
        figures=figures,
        data=list(data.values()),
        runs=[(name, record) for name, records in rows.items() for record in records],
        provenance=PROVENANCE,
        facts=FACTS,
        dump=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        examples=[dataclasses.asdict(test_set) for test_set in example_sets],
        missing=missing,
    )
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with write_to(path, errors="backslashreplace") as file:  # of lone surrogates
        file.write(content)
    return missing


def render_svg(figure: Figure, prefix: str, label: str) -> Markup:
    """The figure as an SVG element whose ids begin with `prefix`; its text stays text."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    for name, namespace in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(name, namespace)
    # XML has no control characters, which values of a corpus may have.
    control_free = re.sub(rb"[\0-\x08\x0b\x0c\x0e-\x1f]", "\ufffd".encode(), content.getvalue())
    root = ElementTree.fromstring(control_free)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style would change the whole page.
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, prefix + value)
            elif key in ("href", f"{{{XLINK}}}href"):
                element.set(key, re.sub(r"^#", f"#{prefix}", value))
            else:
                element.set(key, value.replace("url(#", f"url(#{prefix}"))
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.set("style", f"width:{width};aspect-ratio:{width[:-2]}/{height[:-2]}")
    root.set("stroke-linejoin", "round")
    root.set("role", "img")
    root.set("aria-label", label)
    # ElementTree has escaped every text and attribute.
    return _markup(ElementTree.tostring(root, encoding="unicode"))


def mark_code(text: str) -> Markup:
    """The text, escaped, with parts between backticks as code."""
    from markupsafe import escape

    return _markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def name_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A data report in the words and percentages of the console."""
    named = _name_figures(report)
    for part in ("splits", "features"):  # their keys are names of users
        if rows := report.get(part):
            named[part] = {name: _name_figures(figures) for name, figures in rows.items()}
    return named


def _name_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with the console's words for their keys, shares as percentages."""
    named: dict[str, Any] = {}
    for key, value in figures.items():
        cell = value
        if key in SHARES and isinstance(value, float):
            cell = f"{value:.{SHARES[key]}%}"
        elif key == "top":
            cell = [f"{label} {share:.0%}" for label, share in value]
        elif key in ("source", "target", "together") and isinstance(value, Mapping):
            cell = _name_figures(value)
        named[WORDS.get(key, key)] = cell
    return named


def _markup(text: str) -> Markup:
    """Text that is already HTML; markupsafe comes with Jinja2, of the extra `analysis`."""
    from markupsafe import Markup

    return Markup(text)


def hash_script(text: str) -> str:
    """SHA-256 in the form in which the page's security policy names its only script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _is_table(value: Any) -> bool:
    """Whether a part of a data report has named rows with the same columns."""
    if not isinstance(value, dict) or not value:
        return False
    rows = list(value.values())
    return all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows)
