"""A report as one HTML page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from nmt_feat.analysis.corpora import split_by_corpus
from nmt_feat.analysis.examples import Corpora, examples
from nmt_feat.analysis.figures import draw
from nmt_feat.analysis.render import BEST_MEAN
from nmt_feat.analysis.report import Report
from nmt_feat.base.outputs import writing
from nmt_feat.errors import UserError, writing_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PROVENANCE = ("code", "libraries", "machine", "data_hashes", "parameters")
FACTS = ("hash", "updates", "selected", "train_seconds", "tokens_per_second", "peak_memory_mib")


def write_page(report: Report, path: Path, corpora: Corpora) -> list[str]:
    """Write the page, with text from `corpora` only; what it lacks and why, a sentence each."""
    rows = report.table.named()
    shown, missing = examples(rows, report.folders, corpora)
    try:
        figures = [
            (svg(figure, f"f{number}-", shows), shows)
            for number, (figure, shows) in enumerate(draw(report).values(), 1)
        ]
    except UserError as error:  # no Matplotlib
        figures, lacking = [], [f"Without figures: {error}"]
    else:
        lacking = []
    # By the data's fingerprint: runs on the same prepared data share a report.
    data = {str(r.data_report): (r.data, r.data_report) for r, _ in report.runs if r.data_report}
    loader = PackageLoader("nmt_feat.analysis", "static")
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.tests["table"] = _is_table
    templates.filters["code"] = _code
    # Our own files; the page's policy allows no other style and no other script.
    style, script = (
        Markup(loader.get_source(templates, f"page.{kind}")[0]) for kind in ("css", "js")
    )
    content = templates.get_template("page.html").render(
        style=style,
        script=script,
        script_sum=_sum(script),
        corpus="; ".join(split_by_corpus(report.runs)),
        blocks=report.blocks,
        best_mean=BEST_MEAN,
        figures=figures,
        data=list(data.values()),
        runs=[(name, record) for name, records in rows.items() for record in records],
        provenance=PROVENANCE,
        facts=FACTS,
        dump=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        examples=[dataclasses.asdict(some) for some in shown],
        missing=[*missing, *lacking],
    )
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, errors="backslashreplace") as file:  # of lone surrogates
        file.write(content)
    return [*missing, *lacking]


def svg(figure: Figure, prefix: str, label: str) -> Markup:
    """The figure as an SVG element whose ids begin with `prefix`, its text as text."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    for name, namespace in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(name, namespace)
    # XML has no control characters, which values of a corpus may have.
    legible = re.sub(rb"[\0-\x08\x0b\x0c\x0e-\x1f]", "\ufffd".encode(), drawn.getvalue())
    root = ElementTree.fromstring(legible)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):  # would be the page's too
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
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _code(text: str) -> Markup:
    """Escaped, and what is between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _sum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _is_table(value: Any) -> bool:
    """Whether a part of a data report is rows by name, of equal columns."""
    if not isinstance(value, dict) or not value:
        return False
    rows = list(value.values())
    return all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows)
