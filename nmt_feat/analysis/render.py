"""A table of text in the formats of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console

from nmt_feat.base.terminal import TextTable, literal


@dataclass
class Block:
    """A titled table with notes below it; a block may be notes alone."""

    title: str
    heading: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: frozenset[str] = field(default_factory=frozenset)
    """Headings of columns of words; the others are figures."""
    best: frozenset[tuple[int, int]] = frozenset()
    """Cells, by row and column, that are the best of their column: bold."""
    sure: frozenset[tuple[int, int]] = frozenset()
    """Cells with a significant difference: a dagger."""


BEST_MEAN = "Bold: the best mean of its column, which may be chance."
"""What bold says: what the statistics support has a dagger."""
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "`": "",
    "|": r"\textbar{}",  # else a dash, in LaTeX's first encoding
    "[": "{[}",  # else an argument, after the end of a row
}


def latex(block: Block) -> str:
    """A table float for `booktabs`, with title and notes as its caption."""
    columns = "".join("l" if name in block.left else "r" for name in block.heading)
    rows = []
    for i, row in enumerate(block.rows):
        cells = list(map(_latex, row))
        for j, cell in enumerate(cells):
            bold = rf"\textbf{{{cell}}}" if (i, j) in block.best else cell
            cells[j] = bold + (r"$^\dagger$" if (i, j) in block.sure else "")
        rows.append(" & ".join(cells) + r" \\")
    heading = " & ".join(map(_latex, block.heading)) + r" \\"
    notes = [f"{note.rstrip('.')}." for note in block.notes]
    legend = [BEST_MEAN] * bool(block.best)
    legend += [r"$^\dagger$: differs from the baseline, $p < 0.05$."] * bool(block.sure)
    title = [f"{_latex(block.title)}."] if block.title else []
    caption = " ".join([*title, *legend, *map(_latex, notes)])
    lines = [
        *(r"\begin{table}", r"\centering", r"\small", rf"\begin{{tabular}}{{{columns}}}"),
        *(r"\toprule", heading, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"),
        *(rf"\caption{{{caption}}}", r"\end{table}", ""),
    ]
    return "\n".join(lines)


def _latex(text: str) -> str:
    return "".join(LATEX.get(char, char) for char in text)


def markdown(block: Block) -> str:
    """A section; pipes inside cells are escaped."""
    lines = [f"## {block.title}", ""] if block.title else []
    if block.heading:
        table = [block.heading, ["---"] * len(block.heading), *block.rows]
        lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in table]
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in block.notes), ""])


def drawn(block: Block) -> TextTable:
    """Its table for a terminal."""
    table = TextTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in block.heading:
        side = "left" if name in block.left else "right"
        table.add_column(name, justify=side, overflow="fold")
    for row in block.rows:
        table.add_row(*row)
    return table


def show(block: Block, console: Console) -> None:
    """Print it; what a terminal has no room for is wrapped, never cut."""
    if block.title:
        console.print()
        console.print(literal(block.title), style="bold", highlight=False, soft_wrap=True)
    if block.heading:
        table = drawn(block)
        if not console.is_terminal:
            wide = console.measure(table, options=console.options.update(width=10_000))
            console.width = max(console.width, wide.maximum)
        console.print(table)
    for note in block.notes:
        console.print(literal(note), highlight=False, soft_wrap=True)
