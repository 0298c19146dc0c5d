"""Optional packages, each with an extra that installs it."""

import importlib
from typing import Any

from nmt_feat.errors import UserError


def import_optional(module: str, needed_by: str, extra: str, alternative: str = "") -> Any:
    """The module of an optional package of the same name.

    `needed_by` is the setting or command that needs it; `pip install 'nmt_feat[extra]'` installs
    it. A package that is missing or cannot be imported is a `UserError`; `alternative`, such as
    `set data.bleu_tokenizer=char`, ends its message.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # Otherwise the package is there, and a module that it needs is missing or fails.
        is_missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        reason = "" if is_missing else f" (importing it failed: {error})"
        or_else = f", or {alternative}" if alternative else ""
        raise UserError(
            f"{needed_by} needs the package {module}{reason}: pip install 'nmt_feat[{extra}]'"
            f"{or_else}"
        ) from None
