"""Write `docs/reference/settings.md` from the docstrings of the schema and the files in `conf/`.

    python scripts/config_docs.py            # write
    python scripts/config_docs.py --check    # exit with 1 if the document is stale

The schema is read as text (`ast`): the document has defaults and docstrings of fields as they are
in the source. Types and bounds come from the classes. If `python train.py` without settings gets a
value from one of its default options, the document has that value instead of the schema's default.
"""

import argparse
import ast
import json
import re
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import yaml

from nmt_feat.config import data_schema, evaluate_schema, inference_schema, schema
from nmt_feat.config.bounds import choices_of, describe_bounds

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference" / "settings.md"
COMMANDS = {
    "TrainConfig": "train.py",
    "TranslateConfig": "translate.py",
    "ScoreConfig": "score.py",
    "EvaluateConfig": "nmt-feat evaluate",
}
INTRODUCTION = """\
# Settings

<!-- Written by scripts/config_docs.py from nmt_feat/config/schema.py and conf/: edit those. -->

You can give every setting on the command line: `python train.py model.dim=256 combiner=gate`.

- `group=option` takes a file of `conf/<group>/`, and `group.setting=value` changes one of its
  values.
- `python train.py --cfg job` prints all settings of a command, and trains nothing.
- The defaults below are those of `python train.py` alone, which takes `model=mini`,
  `trainer=default` and so on. Another option, such as `model=base`, brings its own values. If a
  setting is **required**, the command line or a file of the group must give it.
- Text stays as you type it, on the command line and in YAML: `paths.runs=2024_12_01`,
  `data.target_lang=no`, `'input=a,b (1).txt'`. Only these have a meaning for Hydra: quotes around a
  whole value, `null`, a backslash before a special character, and `${...}`.
- In a sweep (`-m`) a comma separates values, unless a file has the whole name. Put a name with a
  comma into quotes of its own: `'data.train.source="a,b.txt"'`.
- `data.tests.b.source=... data.tests.b.target=...` adds a test set `b`,
  `features.gender.column=feats.Gender` a feature `gender`, and `logger.mine._target_=...` a logger
  `mine`. In `args` and `factors`, `+` adds a name: `+combiner.args.start=0.5`.
"""


@dataclass(frozen=True)
class Field:
    """A setting: its type, default and meaning, as written in the source."""

    name: str
    kind: str
    default: str
    text: str
    allowed: str
    """The type for readers, with its bounds."""


def format_default(node: ast.expr | None) -> str:
    """The default of a field, as a reader would write it in YAML."""
    if node is None:
        return "**required**"
    source = ast.unparse(node)
    if source == "MISSING":
        return "**required**"
    if isinstance(node, ast.Call):  # field(default_factory=...)
        factory = next(k.value for k in node.keywords if k.arg == "default_factory")
        source = ast.unparse(factory.body if isinstance(factory, ast.Lambda) else factory)
        default_text = "`{}`" if source.isidentifier() else f"`{source}`"  # of a class: settings
        return "`[]`" if source == "list" else default_text
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return f"`{node.value}`"
    source = {"None": "null", "True": "true", "False": "false"}.get(source, source)
    return f"`{source}`"


def read_default_options() -> dict[str, dict[str, Any]]:
    """By group, the settings of the option that `conf/train.yaml` picks."""
    main = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text(encoding="utf-8"))
    settings_of = {}
    for entry in main["defaults"]:
        for group, option in entry.items() if isinstance(entry, dict) else ():
            file = ROOT / "conf" / group / f"{option}.yaml"
            if isinstance(option, str) and file.is_file():
                settings_of[group] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return settings_of


def choose_default(field: Field, settings: dict[str, Any]) -> str:
    """The field's default, or its value in the default option of its group."""
    if field.name not in settings or field.default == "**required**":
        return field.default
    value = settings[field.name]
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def describe_type(kind: Any) -> str:
    """A type for a cell of a table: the words that it allows, or its name and bounds."""
    if choices := choices_of(kind):
        words = [*choices, "null"] if NoneType in get_args(kind) else choices
        return " or ".join(f"`{word}`" for word in words)
    bounds = describe_bounds(kind)
    return f"`{type_name(kind)}`" + (f", {bounds}" if bounds else "")


def type_name(kind: Any) -> str:
    """A type as text, without its constraints."""
    if get_origin(kind) is Annotated:
        return type_name(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(type_name, get_args(kind)))
    if get_origin(kind) in (list, dict):
        return f"{get_origin(kind).__name__}[{', '.join(map(type_name, get_args(kind)))}]"
    if is_dataclass(kind):
        return "settings"  # which have a separate section
    return "None" if kind is NoneType else str(kind.__name__)


def read_schema(module: ModuleType) -> dict[str, tuple[str, list[Field]]]:
    """Docstring and fields of each dataclass of a module of the schema, by its name."""
    file = f"{module.__name__.replace('.', '/')}.py"
    source = (ROOT / file).read_text(encoding="utf-8")
    classes = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        hints = get_type_hints(getattr(module, node.name), include_extras=True)
        fields = []
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not (
                isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
            ):
                continue
            name = statement.target.id
            if not (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                if not isinstance(statement.value, ast.Call):
                    sys.exit(f"{file}:{statement.lineno}: {name} has no docstring")
                text = ""
            else:
                text = " ".join(after.value.value.split())
            kind = ast.unparse(statement.annotation)
            allowed = describe_type(hints[name]) if name in hints else ""
            fields.append(Field(name, kind, format_default(statement.value), text, allowed))
        classes[node.name] = (ast.get_docstring(node) or "", fields)
    return classes


def list_sections(classes: dict[str, tuple[str, list[Field]]], top: str) -> dict[str, list[str]]:
    """The classes that the fields of `top` lead to, each with its dotted keys."""
    paths_of: dict[str, list[str]] = {}

    def walk(name: str, path: str) -> None:
        paths_of.setdefault(name, []).append(path)
        for entry in classes[name][1]:
            if match := re.fullmatch(r"dict\[str, (\w+)\]|(\w+)", entry.kind):
                inner = match[1] or match[2]
                if inner in classes:
                    step = f"{entry.name}.<name>" if match[1] else entry.name
                    walk(inner, f"{path}.{step}" if path else step)

    walk(top, "")
    return paths_of


def list_options(group: str) -> str:
    """The options of a config group, with the help line with which each file begins."""
    rows = [
        f"- `{group}={file.stem}`: {help_line(file)}"
        for file in sorted((ROOT / "conf" / group).glob("*.yaml"))
    ]
    return "\n".join(rows) + "\n" if rows else ""


def list_rows() -> str:
    """The rows of all experiments, with their settings as on a command line."""
    rows: dict[str, dict[str, Any]] = {}
    for file in (ROOT / "conf" / "experiment").glob("*.yaml"):
        rows |= yaml.safe_load(file.read_text(encoding="utf-8")).get("rows", {})
    lines = []
    for name, settings in sorted(rows.items()):
        values = {
            key: f"[{','.join(value)}]" if isinstance(value, list) else json.dumps(value).strip('"')
            for key, value in settings.items()
        }
        lines.append(f"- `row={name}`: `{' '.join(f'{k}={v}' for k, v in values.items())}`")
    return "\n".join(lines) + "\n"


def help_line(file: Path) -> str:
    """The first comment of a config file that is not a directive of Hydra (`@package`)."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        return line.removeprefix("#").strip() if line.startswith("#") else ""
    return ""


def escape_cell(text: str) -> str:
    """`text` for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def render_document() -> str:
    """The whole document."""
    modules = schema, data_schema, inference_schema, evaluate_schema
    classes = {name: entry for module in modules for name, entry in read_schema(module).items()}
    default_options = read_default_options()
    parts = [INTRODUCTION]
    for top, command in COMMANDS.items():
        parts.append(f"## {command}\n\n{classes[top][0]}\n")
        for name, paths in list_sections(classes, top).items():
            text, fields = classes[name]
            if name != top:
                parts.append(f"### {', '.join(f'`{path}`' for path in paths)}\n\n{text}\n")
                is_group = paths[0].removesuffix(".<name>").isidentifier()  # not a part of a group
                if is_group and top == "TrainConfig":
                    parts.append(list_options(paths[0].removesuffix(".<name>")))
            settings = default_options.get(paths[0], {}) if top == "TrainConfig" else {}
            rows = [
                f"| `{entry.name}` | {escape_cell(entry.allowed)} "
                f"| {escape_cell(choose_default(entry, settings))} "
                f"| {escape_cell(entry.text)} |"
                for entry in fields
                if not re.search(r"\w+Config\b", entry.kind)
            ]
            if rows:
                header = "| setting | type | default | meaning |\n|---|---|---|---|\n"
                parts.append(header + "\n".join(rows) + "\n")
    parts.append("## Searches\n\nSearches for good settings, with `-m`.\n")
    parts.append(list_options("hparams_search"))
    parts.append("## Experiments\n\nMany settings under one name; with `-m`, a whole table.\n")
    parts.append(list_options("experiment"))
    parts.append(
        "## Rows\n\nRows of these tables, which their files name. `experiment=controls row=gate` "
        "trains one.\n"
    )
    parts.append(list_rows())
    return "\n".join(part for part in parts if part)


def main() -> int:
    """Write the document, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="do not write, exit with 1 if stale")
    arguments = parser.parse_args()
    document = render_document()
    if arguments.check:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != document:
            print(
                "docs/reference/settings.md is stale: run python scripts/config_docs.py",
                file=sys.stderr,
            )
            return 1
        return 0
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
