"""Commands that are printed for the user to repeat: quoted for the shell, and there to be run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from nmt_feat.base.resources import PACKAGE
from nmt_feat.config.overrides import OVERRIDE
from nmt_feat.errors import legible

SCRIPTS = {"train", "translate", "score"}
"""Programs that an installed package has as well, as `nmt-feat-train` and so on."""


def program_name(name: str) -> str:
    """How a program is called: the file of a checkout, or the command that a wheel installs."""
    file = f"{name}.py" if name in SCRIPTS else f"scripts/{name}.py"
    if name in SCRIPTS and not (PACKAGE.parent / file).is_file():
        return f"nmt-feat-{name}"
    return f"python {file}"


def shell_command(name: str, *arguments: str) -> str:
    """A command line for a shell. Words in capitals, such as FILE, are for the user to replace."""
    return " ".join(
        (program_name(name), *(shlex.quote(legible(argument)) for argument in arguments))
    )


def drop_settings(settings: Sequence[str], names: Iterable[str]) -> list[str]:
    """The settings of a command line but those of these names; `combiner.args.` means all in it."""
    dropped = tuple(names)
    matches = ((setting, OVERRIDE.fullmatch(setting)) for setting in settings)
    return [
        setting
        for setting, match in matches
        if not match
        or not (
            match[2] in dropped or match[2].startswith(tuple(n for n in dropped if n[-1] == "."))
        )
    ]
