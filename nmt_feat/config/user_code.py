"""Checksums of the files of user-defined classes, which change a run and have no version."""

from __future__ import annotations

import functools
import sys
from typing import Any

from nmt_feat.base.checksums import hash_file, hash_json
from nmt_feat.config.instantiate import SHIPPED, may_import


@functools.cache
def module_sum(module: str) -> str:
    """A checksum of the file of a module, as it was when this process first asked."""
    return hash_file(str(sys.modules[module].__file__))[:16]


def user_code_hash(*classes: type[Any]) -> dict[str, str]:
    """Under `code`, a checksum of the files of those classes and bases that are user-defined.

    Empty if all are of nmt_feat and PyTorch, whose revision and version are in the record.
    """
    modules = {base.__module__ for cls in classes for base in cls.__mro__}
    user_modules = sorted(
        m for m in modules if m.partition(".")[0] not in SHIPPED and may_import(m)
    )
    return {"code": hash_json([module_sum(m) for m in user_modules])[:16]} if user_modules else {}
