"""Sphinx builds the site from these pages: `make docs`. A warning is an error."""

import re
from pathlib import Path
from typing import Any

import nmt_feat

project = "nmt_feat"
author = "The nmt_feat maintainers"
version = release = nmt_feat.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute", "results/**"]

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
# Notebooks are shown with the output that they were saved with; tests execute them.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True

html_theme = "pydata_sphinx_theme"
html_title = "nmt_feat"
html_theme_options = {
    "show_prev_next": True,
    "navigation_depth": 2,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "tutorial": [], "results": []}
html_copy_source = False
html_show_sourcelink = False


def unlink_files(app: Any, page: str, source: list[str]) -> None:
    """Keep the text of links to what is no page: folders, and files beside the docs.

    They lead somewhere for who reads the sources, and nowhere on the site.
    """
    folder = (Path(app.srcdir) / page).parent

    def keep_text(link: re.Match[str]) -> str:
        target = (folder / link[2].split("#")[0]).resolve()
        is_page = target.suffix in (".md", ".ipynb") and target.is_relative_to(app.srcdir)
        is_page = is_page and not target.is_relative_to(Path(app.srcdir) / "results")
        return link[0] if "://" in link[2] or link[2].startswith("#") or is_page else link[1]

    source[0] = re.sub(r"(?<!!)\[([^]]+)\]\(([^)\s]+)\)", keep_text, source[0])


def read_markdown(
    app: Any, kind: str, name: str, what: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings quote code as Markdown does, `like this`; Sphinx reads reStructuredText."""
    # Code in backticks stays as it is, and so do indented blocks behind a colon and a blank line.
    pieces = re.split(r"(`[^`]+`|:\n\n(?: {4}.*\n|\n)+)", "\n".join([*lines, ""]))
    for number, piece in enumerate(pieces):
        if piece.startswith("`"):
            code = " ".join(piece.strip("`").split())
            # Text that follows code without a space stands beside it.
            glue = "" if pieces[number + 1][:1].isspace() else "\\ "
            pieces[number] = f"``{code}``{glue}"
        elif piece.startswith(":\n"):
            pieces[number] = f":{piece}"
        else:
            pieces[number] = re.sub(r"([*|]|\b_|_\b)", r"\\\1", piece)
    lines[:] = "".join(pieces).split("\n")
    if kind in ("attribute", "property"):
        # An empty comment first: of the first line napoleon takes what precedes a colon for a type.
        lines[:0] = ["..", ""]


def setup(app: Any) -> None:
    """Register both."""
    app.connect("source-read", unlink_files)
    # Before napoleon (500), whose reStructuredText must stay as it is.
    app.connect("autodoc-process-docstring", read_markdown, priority=400)
