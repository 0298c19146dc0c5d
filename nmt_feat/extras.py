"""Optional packages, each an extra of this one: there, or one line that says how to get it."""

import importlib
from typing import Any

from nmt_feat.errors import UserError


def optional(module: str, needed_by: str, extra: str) -> Any:
    """The module of an optional package, which is named as the module.

    `needed_by` is a setting or a feature of the program; `pip install 'nmt_feat[extra]'` brings
    it. A package that is missing or cannot be imported is a `UserError`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        reason = "" if missing else f" (importing it failed: {error})"
        raise UserError(
            f"{needed_by} needs the package {module}{reason}: pip install 'nmt_feat[{extra}]'"
        ) from None
