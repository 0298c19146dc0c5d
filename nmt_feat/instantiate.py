"""The one place where a config's `_target_` becomes an object.

Settings come from files, also from those of a run that somebody else has trained. So only a few
packages and the user's own modules are imported, and only classes of the kind that is wanted are
made. Hydra's policy on what may be called is changing; only this module would have to follow.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra.utils import get_class

from nmt_feat.errors import UserError, near

MODULES = ("nmt_feat", "torch.nn", "torch.optim")
"""What may be imported with all that is in it, beside modules of the current folder."""
TRUSTED = "NMT_FEAT_MODULES"
"""The environment variable that names further ones, with commas between."""


def may_import(module: str) -> bool:
    """Whether a module is one of those, or of the current folder, or is not there at all."""
    further = [name.strip() for name in os.environ.get(TRUSTED, "").split(",")]
    if any(f"{module}.".startswith(f"{name}.") for name in (*MODULES, *further) if name):
        return True
    folder, names = Path.cwd().resolve(), module.split(".")
    for i, name in enumerate(names, 1):
        try:
            spec = importlib.util.find_spec(".".join(names[:i]))
        except ValueError:  # such as __main__
            return False
        if spec is None:
            break
        if spec.origin:  # what is imported first; a folder without __init__.py is nothing yet
            file = Path(spec.origin)
            if file.name == "__init__.py":
                file = file.parent
            return file.stem == name and file.parent.resolve() == folder
        folder /= name
    return True


def locate(target: str) -> type[Any]:
    """The class of a dotted name, `package.module.Class`; user modules in the current folder too.

    An unknown module or class is a `UserError` with the near names, and so is a module that may not
    be imported.
    """
    where = f"_target_={target}"
    module_name, _, class_name = target.rpartition(".")
    if not module_name:
        raise UserError(f"{where}: not a dotted name; write module.Class")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # an installed console script does not search the current folder
    if not may_import(module_name):
        raise UserError(
            f"{where}: {module_name} is not of {', '.join(MODULES)} nor in the current folder; if "
            f"you know what its import does, allow it: {TRUSTED}={module_name.partition('.')[0]}"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not missing or not f"{module_name}.".startswith(f"{missing}."):  # inside of the module
            kind = "" if missing else f"{type(error).__name__}: "
            raise UserError(f"{where}: importing {module_name} failed: {kind}{error}") from error
        parent, _, name = missing.rpartition(".")
        path = getattr(sys.modules.get(parent), "__path__", []) if parent else [here]
        hint = near(name, [m.name for m in pkgutil.iter_modules(path)])
        place = "" if parent else ", neither in the current folder nor installed"
        raise UserError(f"{where}: no module {missing!r}{place}; {hint}") from None
    if not inspect.isclass(getattr(module, class_name, None)):
        classes = inspect.getmembers(module, inspect.isclass)
        known = [n for n, c in classes if c.__module__.startswith(module_name) and n[0] != "_"]
        hint = near(class_name, known)
        raise UserError(f"{where}: no class {class_name!r} in {module_name}; {hint}")
    return get_class(target)  # by Hydra, which refuses what its policy blocks


@contextlib.contextmanager
def blamed(cls: type[Any], kind: type[Any]) -> Iterator[None]:
    """What a configured class raises is a `UserError` that names the line in its own file.

    Another of the `kind` inside, as under `combiner=mixed`, is named in its place if it fails.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = [(f.f_code, f.f_locals, n) for f, n in traceback.walk_tb(error.__traceback__)]
        for code, names, _ in frames:
            if isinstance(own := names.get("self"), kind) and code.co_filename == _file(type(own)):
                cls = type(own)
        lines = [number for code, _, number in frames if code.co_filename == _file(cls)]
        place = f"{cls.__module__}.{cls.__qualname__}" + (f", line {lines[-1]}" if lines else "")
        raise UserError(f"{place}: {type(error).__name__}: {error}".removesuffix(": ")) from error


def _file(cls: type[Any]) -> str | None:
    return getattr(sys.modules[cls.__module__], "__file__", None)


def build(
    target: str,
    kind: type[Any],
    args: Mapping[str, Any] = MappingProxyType({}),
    /,
    **values: Any,
) -> Any:
    """An object of the class `target`, constructed with `values` by keyword, as they are.

    `args` are those of the settings. One that is among `values` too is a `UserError`, a class that
    is no `kind`, a missing or an unknown argument, and whatever the class raises.
    """
    cls = locate(target)
    if not issubclass(cls, kind):
        name = f"{kind.__module__.removesuffix('.base')}.{kind.__qualname__}"
        raise UserError(f"_target_={target}: is no {name}; derive the class from it")
    parameters = inspect.signature(cls).parameters
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in (*values, *args):
        if name in values and name in args:
            raise UserError(f"{target}: the argument {name!r} is set already; leave it out of args")
        if name not in named and not takes_any:
            raise UserError(f"{target} takes no argument {name!r}; {near(name, named)}")
    for name in named:
        if parameters[name].default is inspect.Parameter.empty and name not in {*values, *args}:
            raise UserError(f"{target} needs the argument {name!r}")
    with blamed(cls, kind):
        return cls(**values, **args)
