"""Optional packages, each with an extra that installs it."""

import importlib
from typing import Any

from nmt_feat.errors import UserError


def optional(module: str, needed_by: str, extra: str) -> Any:
    """The module of an optional package of the same name.

    `needed_by` is the setting or command that needs it; `pip install 'nmt_feat[extra]'` installs
    it. A package that is missing or cannot be imported is a `UserError`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # Otherwise the package is there, and a module that it needs is missing or fails.
        is_missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        reason = "" if is_missing else f" (importing it failed: {error})"
        raise UserError(
            f"{needed_by} needs the package {module}{reason}: pip install 'nmt_feat[{extra}]'"
        ) from None
