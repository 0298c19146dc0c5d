"""Commands that are printed for the user to run: quoted for the shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from nmt_feat.base.resources import PACKAGE
from nmt_feat.config.overrides import OVERRIDE
from nmt_feat.errors import escape_controls


def program_name(subcommand: str) -> str:
    """How train, translate or score is called: by a checkout's file, or by a wheel's program."""
    if (PACKAGE.parent / f"{subcommand}.py").is_file():
        return f"python {subcommand}.py"
    return f"nmt-feat {subcommand}"


def shell_command(name: str, *arguments: str) -> str:
    """A command line for a shell. Words in capitals, such as FILE, are for the user to replace."""
    return " ".join(
        (program_name(name), *(shlex.quote(escape_controls(argument)) for argument in arguments))
    )


def drop_settings(settings: Sequence[str], names: Iterable[str]) -> list[str]:
    """The settings of a command line without those of these names.

    A name with a dot at its end means all settings of a group: `combiner.args.`.
    """
    dropped = set(names)
    dropped_groups = tuple(name for name in dropped if name.endswith("."))
    remaining = []
    for setting in settings:
        match = OVERRIDE.fullmatch(setting)
        if not match or not (match[2] in dropped or match[2].startswith(dropped_groups)):
            remaining.append(setting)
    return remaining
