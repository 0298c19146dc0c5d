"""A table of text in the formats of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console

from nmt_feat.base.terminal import TextTable, literal

Cells = frozenset[tuple[int, int]]
"""Cells of a table, by row and column."""


@dataclass
class ReportTable:
    """A titled table with notes below it, or notes alone."""

    title: str
    heading: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    text_columns: frozenset[str] = frozenset()
    """Headings of the columns of words; other columns are figures."""
    best: Cells = frozenset()
    """The best cells of their columns, in bold."""
    significant: Cells = frozenset()
    """Cells with a significant difference, which get a dagger."""


BEST_MEAN = "Bold: the best mean of its column, which may be chance."
"""The meaning of bold. A dagger marks what the statistics support."""
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "`": "",
    "|": r"\textbar{}",  # otherwise a dash, in LaTeX's first encoding
    "[": "{[}",  # otherwise an argument, after the end of a row
}


def render_latex(table: ReportTable) -> str:
    """A table float for `booktabs`, with title and notes as its caption."""
    columns = "".join("l" if name in table.text_columns else "r" for name in table.heading)
    rows = []
    for i, row in enumerate(table.rows):
        cells = list(map(_escape_latex, row))
        for j, cell in enumerate(cells):
            if (i, j) in table.best:
                cells[j] = rf"\textbf{{{cell}}}"
            if (i, j) in table.significant:
                cells[j] += r"$^\dagger$"
        rows.append(" & ".join(cells) + r" \\")
    heading = " & ".join(map(_escape_latex, table.heading)) + r" \\"
    caption = []
    if table.title:
        caption.append(_escape_latex(_end_sentence(table.title)))
    if table.best:
        caption.append(BEST_MEAN)
    if table.significant:
        caption.append(r"$^\dagger$: differs from the baseline, $p < 0.05$.")
    caption += [_escape_latex(_end_sentence(note)) for note in table.notes]
    lines = [
        *(r"\begin{table}", r"\centering", r"\small", rf"\begin{{tabular}}{{{columns}}}"),
        *(r"\toprule", heading, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"),
        *(rf"\caption{{{' '.join(caption)}}}", r"\end{table}", ""),
    ]
    return "\n".join(lines)


def _end_sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(char, char) for char in text)


def render_markdown(table: ReportTable) -> str:
    """A section of Markdown; pipes inside cells are escaped."""
    lines = [f"## {table.title}", ""] if table.title else []
    if table.heading:
        rows = [table.heading, ["---"] * len(table.heading), *table.rows]
        lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in table.notes), ""])


def make_text_table(table: ReportTable) -> TextTable:
    """The table for a terminal, without title and notes."""
    text_table = TextTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in table.heading:
        side = "left" if name in table.text_columns else "right"
        text_table.add_column(name, justify=side, overflow="fold")
    for row in table.rows:
        text_table.add_row(*row)
    return text_table


def print_table(table: ReportTable, console: Console) -> None:
    """Print a table; where a terminal is too narrow, text is wrapped, never cut."""
    if table.title:
        console.print()
        console.print(literal(table.title), style="bold", highlight=False, soft_wrap=True)
    if table.heading:
        text_table = make_text_table(table)
        if not console.is_terminal:
            unlimited = console.options.update(width=10_000)
            widest = console.measure(text_table, options=unlimited).maximum
            console.width = max(console.width, widest)
        console.print(text_table)
    for note in table.notes:
        console.print(literal(note), highlight=False, soft_wrap=True)
