"""The entry points as a user meets them, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from unittest import mock

from hydra._internal.hydra import Hydra

from nmt_feat.cli.main import run_subcommand


@dataclass
class Done:
    """What a command has left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(name: str, *arguments: object, stdin: bytes = b"") -> Done:
    """`python <name>.py <arguments>` in the current folder."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = [f"{name}.py", *map(str, arguments)]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "path", [*sys.path]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.dict(os.environ),
        # Composes all settings to look for hydra.mode, which no file of this project sets.
        mock.patch.object(Hydra, "get_mode", return_value=None),
    ):
        try:
            run_subcommand(name)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, out.getvalue(), err.getvalue())
