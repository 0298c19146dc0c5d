"""Measures what makes code easy to read: names, sizes, lines of code.

    python tools/measure_house.py [FOLDER ...] [--list]

Lines of code leave out comments, docstrings and blank lines. An assigned name is a parameter or
the target of an assignment, a loop, a `with` or a comprehension. `--list` prints where limits are
exceeded.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = "combiners", "embedders", "methods", "model", "decoding", "training"
"""The packages of ring 1."""
BANNED = frozenset(
    {"found", "made", "known", "given", "own", "kept", "left", "said", "told", "shown", "each"}
    | {"several", "place", "what", "other", "turned", "settle"}
)
"""Names that do not say what they hold or do."""
LONG_FUNCTION, LONG_FILE = 45, 450
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> int:
    """The number of lines of code, without comments, docstrings and blank lines."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value
            docstrings |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in ignored and token.string:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def assigned_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of variables and parameters, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    """All functions and methods, without special ones and `forward`."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode) and node.name != "forward" and node.name[:2] != "__":
            yield node


def body_lines(function: FunctionNode) -> int:
    """Lines of a function's body without its docstring."""
    first = function.body[0]
    if ast.get_docstring(function) is not None and len(function.body) > 1:
        first = function.body[1]
    return (function.end_lineno or 0) - first.lineno + 1


def is_banned(name: str) -> bool:
    """Whether a name, without a leading underscore, is on the list."""
    return name.lstrip("_") in BANNED


def measure(files: list[Path], listing: bool) -> None:
    """Print the figures of some files and, with `listing`, where limits are exceeded."""
    names: Counter[str] = Counter()
    one_word, function_count, code, longest = 0, 0, 0, 0
    remarks: list[str] = []
    for path in files:
        source = path.read_text(encoding="utf-8")
        tree, shown_path = ast.parse(source), path.relative_to(ROOT)
        code += code_lines(source)
        line_count = source.count("\n")
        if line_count > LONG_FILE:
            remarks.append(f"{shown_path}: {line_count} lines")
        for name, line in assigned_names(tree):
            names[name] += 1
            if is_banned(name):
                remarks.append(f"{shown_path}:{line}: {name}")
        for function in functions(tree):
            function_count += 1
            longest = max(longest, body_lines(function))
            if body_lines(function) > LONG_FUNCTION:
                remarks.append(
                    f"{shown_path}:{function.lineno}: {function.name}: {body_lines(function)} lines"
                )
            if is_banned(function.name):
                remarks.append(f"{shown_path}:{function.lineno}: {function.name}()")
            if "_" not in function.name.strip("_"):
                one_word += 1
                remarks.append(f"{shown_path}:{function.lineno}: {function.name}(): one word")
    banned = sum(count for name, count in names.items() if is_banned(name))
    total = sum(names.values())
    print(f"{len(files)} files, {code:,} lines of code, longest function {longest} lines")
    print(f"assigned names: {total:,}, banned {banned} ({banned / max(total, 1):.2%})")
    print(
        f"functions: {function_count:,}, one word {one_word} "
        f"({one_word / max(function_count, 1):.1%})"
    )
    if listing:
        print("\n".join(remarks))


def main() -> None:
    """Measure the folders, the package and its core by default."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--list", action="store_true", help="print what is over a limit")
    options = parser.parse_args()
    package = ROOT / "nmt_feat"
    groups = {str(folder): [folder.resolve()] for folder in options.folders} or {
        "nmt_feat": [package],
        "ring 1": [package / name for name in CORE],
    }
    for title, folders in groups.items():
        print(f"{title}:")
        measure(sorted(f for folder in folders for f in folder.rglob("*.py")), options.list)


if __name__ == "__main__":
    main()
