"""The one place where a config's `_target_` becomes an object.

Settings come from files, also from files of a run that somebody else has trained. So only a few
packages and the user's own modules are imported, and only objects of an expected class are built.
Hydra's policy on what may be called is changing; only this module would have to follow. It also
has the checksums of the files of user-defined classes.
"""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from hydra.utils import get_class

from nmt_feat.base.checksums import hash_file, hash_json
from nmt_feat.config.earlier_formats import TODAYS_NAMES
from nmt_feat.errors import UserError, short_repr, suggest

MODULES = ("nmt_feat", "torch.nn", "torch.optim")
"""Modules and packages that may be imported, with all they contain; beside them, modules of the
current folder."""
SHIPPED = "nmt_feat", "torch"
"""Packages whose revision or version is in the record: their classes are not the user's."""
BUILT_GROUPS = "combiner", "method", "features", "annotator"
"""Groups of a run's settings from which objects are built when the run is used."""
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
TRUSTED = "NMT_FEAT_MODULES"
"""The environment variable that names further modules to trust, separated by commas."""


def may_import(module: str) -> bool:
    """Whether a module that the user names may be imported.

    It may if it is one of `MODULES`, if the user trusts it, if it is a file below the current
    folder but not in the folder of a run, or if it does not exist at all (importing it then says
    so).
    """
    if _is_shipped(module) or _lies_in_run(module):
        return _is_allowed(module) and not _lies_in_run(module)
    if _is_allowed(module):
        return True
    folder, names = Path.cwd().resolve(), module.split(".")
    for i, name in enumerate(names, 1):
        try:
            spec = importlib.util.find_spec(".".join(names[:i]))
        except ValueError:  # such as __main__
            return False
        if spec is None:
            break
        if spec.origin:  # the file that is imported first: a namespace package has none
            file = Path(spec.origin)
            if file.name == "__init__.py":
                file = file.parent
            return file.stem == name and file.parent.resolve() == folder
        folder /= name
    return True


def _is_allowed(module: str) -> bool:
    """Whether a module is of this package, of PyTorch, or one that the user allows."""
    trusted = [name.strip() for name in os.environ.get(TRUSTED, "").split(",")]
    return any(f"{module}.".startswith(f"{name}.") for name in (*MODULES, *trusted) if name)


def _is_shipped(module: str) -> bool:
    return module.partition(".")[0] in SHIPPED


def _file_here(module: str) -> Path:
    """Path of a module of the current folder, without the file's ending; it need not exist."""
    return Path.cwd().joinpath(*module.split("."))


def _paths_of(module: str) -> list[Path]:
    """Paths from which a module would be imported, without the file's ending; imports nothing."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:  # such as __main__
        return []
    if spec is None:
        return []
    if folders := list(spec.submodule_search_locations or ()):
        return [Path(folder).joinpath(*rest) for folder in folders]
    return [Path(spec.origin).with_suffix("")] if spec.origin else []


def _lies_in_run(module: str) -> bool:
    """Whether a module is in the folder of a run, through links too; ours and PyTorch are not."""
    if _is_shipped(module):
        return False
    files: set[Path] = set()
    # Always look in the current folder, too: an earlier import may hide its module from Python.
    for path in (_file_here(module), *_paths_of(module)):
        for file in (path, path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.exists():
                files |= {file, file.resolve()}
    return any(_is_run(folder) for file in files for folder in (file, *file.parents))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and any(
        (folder / name).exists() for name in ("model.safetensors", "run.json", "result.json")
    )


def refuse_classes_of_run(settings: Mapping[str, Any], where: str) -> None:
    """Refuse classes that the settings of a run name, unless they are from a trusted module.

    Somebody else may have trained the run, and its folder may contain modules. So its classes have
    to be of nmt_feat or PyTorch, of a module that the user trusts, or of a file directly in the
    current folder; never of a file inside a run.

    Args:
        settings: of the run, as plain data. Checked are every `_target_` of `BUILT_GROUPS`, each
            feature's `kind`, and dotted names in `args` (`combiner=mixed` takes names of classes).
        where: the file of the settings, for the message.
    """
    for key, target in _classes_of_run(settings):
        if not DOTTED.fullmatch(target):
            raise UserError(f"{where}: {key}={short_repr(target)}: not a dotted name, module.Class")
        module = target.rpartition(".")[0]
        if _is_shipped(module) and _is_allowed(module):
            continue
        where_named = f"{where}: {key}={target}"
        if _lies_in_run(module):
            raise UserError(
                f"{where_named}: {module} lies inside a run, and modules of a run are never "
                "imported; if you know what it does, copy its file to a folder of your own"
            )
        if _is_allowed(module) or _is_file_here(module):
            continue
        if not _exists(module):
            continue  # `locate_class` refuses it, or an argument only looks like a class name
        raise UserError(
            f"{where_named}: a run may name classes of {', '.join(MODULES)}, and of a file in the "
            f"current folder; {module} is none of these. If you know what it does, allow it: "
            f"{TRUSTED}={module.partition('.')[0]}"
        )


def modules_to_allow(settings: Mapping[str, Any]) -> list[str]:
    """The modules that `TRUSTED` has to name where a run with these settings is used.

    Args:
        settings: of the run, as plain data.
    """
    modules = (target.rpartition(".")[0] for _, target in _classes_of_run(settings))
    unchecked = (m for m in modules if m and not _is_shipped(m) and not _is_file_here(m))
    # An argument may only look like the name of a class.
    return sorted({module.partition(".")[0] for module in unchecked if _exists(module)})


def _classes_of_run(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of classes that a run is built from, each with its key."""
    used = {group: settings[group] for group in BUILT_GROUPS if group in settings}
    yield from _class_names(used)
    yield from _user_kinds(used.get("features"))


def _class_names(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The names of classes in settings, each with its key."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            path = f"{key}.{name}".lstrip(".")
            if name == "_target_" and isinstance(value, str):
                yield path, value
            else:
                yield from _class_names(value, path)
    elif isinstance(settings, (list, tuple)):
        for i, value in enumerate(settings):
            yield from _class_names(value, f"{key}[{i}]")
    elif isinstance(settings, str) and ".args" in key and DOTTED.fullmatch(settings):
        yield key, settings


def _user_kinds(features: Any) -> Iterator[tuple[str, str]]:
    """The names of user-defined kinds of features, each with its key."""
    for name, feature in features.items() if isinstance(features, Mapping) else ():
        kind = feature.get("kind") if isinstance(feature, Mapping) else None
        if isinstance(kind, str):
            yield f"features.{name}.kind", kind


def _is_file_here(module: str) -> bool:
    """Whether a module is a file directly in the current folder, and the one that is imported."""
    if "." in module:
        return False
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:
        return False
    file = Path.cwd() / f"{module}.py"
    if spec is None:  # the current folder may not be searched yet, see `locate_class`
        return file.is_file()
    return bool(spec.origin) and Path(str(spec.origin)).resolve() == file.resolve()


def _exists(module: str) -> bool:
    """Whether the first part of a dotted name is a module or a folder here; imports nothing."""
    first = module.partition(".")[0]
    with contextlib.suppress(ValueError):
        return importlib.util.find_spec(first) is not None or _file_here(first).exists()
    return True


def locate_class(target: str) -> type[Any]:
    """The class of a dotted name, `package.module.Class`; user modules in the current folder too.

    An unknown module or class is a `UserError` with the near names, and so is a module that may not
    be imported.
    """
    target = TODAYS_NAMES.get(target, target)
    where = f"_target_={target}"
    module_name, _, class_name = target.rpartition(".")
    if not DOTTED.fullmatch(target):
        raise UserError(f"{where}: not a dotted name; write module.Class")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # an installed console script does not search the current folder
    if _lies_in_run(module_name):
        raise UserError(
            f"{where}: {module_name} lies inside a run, and modules of a run are never imported; "
            "copy its file to a folder of your own"
        )
    if not may_import(module_name):
        raise UserError(
            f"{where}: {module_name} is neither in {', '.join(MODULES)} nor in the current folder; "
            f"if you know what its import does, allow it: "
            f"{TRUSTED}={module_name.partition('.')[0]}"
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
        hint = suggest(name, [m.name for m in pkgutil.iter_modules(path)])
        where_missing = "" if parent else ", neither in the current folder nor installed"
        raise UserError(f"{where}: no module {missing!r}{where_missing}; {hint}") from None
    if not inspect.isclass(getattr(module, class_name, None)):
        classes = inspect.getmembers(module, inspect.isclass)
        class_names = [
            n for n, c in classes if c.__module__.startswith(module_name) and n[0] != "_"
        ]
        hint = suggest(class_name, class_names)
        raise UserError(f"{where}: no class {class_name!r} in {module_name}; {hint}")
    return get_class(target)  # by Hydra, which refuses what its policy blocks


@contextlib.contextmanager
def naming_failures(cls: type[Any], kind: type[Any]) -> Iterator[None]:
    """Turn an exception of a configured class into a `UserError` that names the line in its file.

    If another object of the `kind` inside it fails, as under `combiner=mixed`, that one is named.
    """
    try:
        yield
    except UserError:
        raise
    except getattr(kind, "Error", UserError) as error:  # `Combiner.Error` is a sentence for users
        raise UserError(str(error)) from error
    except Exception as error:
        frames = [
            (f.f_code, f.f_locals, line) for f, line in traceback.walk_tb(error.__traceback__)
        ]
        for code, variables, _ in frames:  # the innermost such object remains
            instance = variables.get("self")
            if isinstance(instance, kind) and code.co_filename == _file(type(instance)):
                cls = type(instance)
        lines = [line for code, _, line in frames if code.co_filename == _file(cls)]
        location = f"{cls.__module__}.{cls.__qualname__}" + (f", line {lines[-1]}" if lines else "")
        raise UserError(
            f"{location}: {type(error).__name__}: {error}".removesuffix(": ")
        ) from error


def _file(cls: type[Any]) -> str | None:
    return getattr(sys.modules[cls.__module__], "__file__", None)


def _refuse_untyped(
    target: str, parameters: Mapping[str, inspect.Parameter], args: Mapping[str, Any]
) -> None:
    """Refuse a number or a truth value for an argument that is text, such as YAML's `no`."""
    for name, value in args.items():
        kind = parameters[name].annotation if name in parameters else None
        is_text = str in (kind, *get_args(kind)) or kind in ("str", "str | None")
        if is_text and isinstance(value, (bool, int, float)):
            kind_read = "a truth value" if isinstance(value, bool) else "a number"
            raise UserError(
                f"{target}: the argument {name!r} is text, and {value} was read as {kind_read}; "
                f"write it in quotes ('{name}=\"...\"' on the command line, '...' in YAML)"
            )


def build_object(
    target: str,
    kind: type[Any],
    args: Mapping[str, Any] = MappingProxyType({}),
    /,
    **values: Any,
) -> Any:
    """An object of the class `target`, constructed with the keyword arguments `values` and `args`.

    Args:
        target: the dotted name of the class.
        kind: its required base class.
        args: arguments from the settings.
        values: arguments from the program.

    Raises:
        UserError: if the class is not of the `kind`, if an argument is missing, unknown, or in both
            `args` and `values`, and whatever exception the class raises.
    """
    cls = locate_class(target)
    if not issubclass(cls, kind):
        name = f"{kind.__module__.removesuffix('.base')}.{kind.__qualname__}"
        raise UserError(f"_target_={target}: must be derived from {name}")
    parameters = inspect.signature(cls).parameters
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in (*values, *args):
        if name in values and name in args:
            raise UserError(f"{target}: the argument {name!r} is set already; leave it out of args")
        if name not in named and not takes_any:
            raise UserError(f"{target} takes no argument {name!r}; {suggest(name, named)}")
    _refuse_untyped(target, parameters, args)
    for name in named:
        if parameters[name].default is inspect.Parameter.empty and name not in {*values, *args}:
            raise UserError(f"{target} needs the argument {name!r}")
    with naming_failures(cls, kind):
        return cls(**values, **args)


@functools.cache
def module_sum(module: str) -> str:
    """A checksum of the file of a module, as it was when this process first asked."""
    return hash_file(str(sys.modules[module].__file__))[:16]


def user_code_hash(*classes: type[Any]) -> dict[str, str]:
    """Under `code`, a checksum of the files of those classes and bases that are user-defined.

    Empty if all are of nmt_feat and PyTorch, whose revision and version are in the record.
    """
    modules = {base.__module__ for cls in classes for base in cls.__mro__}
    user_modules = sorted(m for m in modules if not _is_shipped(m) and may_import(m))
    return {"code": hash_json([module_sum(m) for m in user_modules])[:16]} if user_modules else {}
