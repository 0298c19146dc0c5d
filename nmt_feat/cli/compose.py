"""Settings of `conf/` and of a command line, composed by Hydra into a typed schema.

Options stand in three places: the package's `conf`, a folder `conf` in the current one, whose
options are added and take the place of the package's, and the folder of `--config-dir`.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import say
from nmt_feat.cli.explain import SCHEMAS, explain_error
from nmt_feat.config.commands import program_name
from nmt_feat.config.config_source import register_reader
from nmt_feat.config.local import fill_local_paths
from nmt_feat.config.members import describe_members
from nmt_feat.config.overrides import SINGLE, is_sweep, keep_text, name_annotators, quote_value
from nmt_feat.config.schema import LocalConfig, TrainConfig
from nmt_feat.errors import UserError

WITH_VALUE = "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"
"""Options of Hydra whose value may be an argument of its own."""


class UserFolder(SearchPathPlugin):
    """Hydra searches the folder `conf` of the current one before the package's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder, if there is one; it is the package's in a checkout."""
        user, package = Path("conf").absolute(), find_resource("conf")
        if user.is_dir() and not user.samefile(package):
            search_path.prepend("user", f"file://{user}", "main")
            for path in sorted(user.rglob("*.yaml")):
                if (package / path.relative_to(user)).is_file():
                    say(
                        f"{path.relative_to(user.parent)}: takes the place of the package's option",
                        file=sys.stderr,
                    )


def prepare_hydra(name: str) -> None:
    """Register with Hydra the settings of a command, and how their files are read."""
    register_schemas()
    register_reader(SCHEMAS[name])
    Plugins.instance().register(UserFolder)
    register_resolvers()


@functools.cache
def register_schemas() -> None:
    """Store the schemas under the names that `conf/*.yaml` take as their first default."""
    store = ConfigStore.instance()
    for name, kind in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=kind)
    store.store(name="members", node={})  # see nmt_feat/config/members.py


def register_resolvers() -> None:
    """Register with OmegaConf the functions that files of `conf` call."""
    OmegaConf.register_new_resolver(
        "nmt_resource", lambda name: str(find_resource(name)), replace=True
    )
    OmegaConf.register_new_resolver("nmt_scale", select_by_scale, replace=True)
    OmegaConf.register_new_resolver("nmt_program", program_name, replace=True)


def select_by_scale(reduced: Any, full: Any, _root_: DictConfig) -> Any:
    """`${nmt_scale:500,8000}`: one of two values by `scale`."""
    return full if _root_.scale == "full" else reduced


def compose_settings(settings: Sequence[str], config_dir: str | None = None) -> TrainConfig:
    """The settings of train.py with these on its command line; mistakes are `UserError`s.

    `config_dir` is a folder of the user's own options, as `--config-dir` of train.py.
    """
    prepare_hydra("train")
    overrides = keep_typed_text(settings, "train", sweep=False)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir={config_dir}: no such folder")
        overrides.append(f"hydra.searchpath=[{quote_value(str(Path(config_dir).absolute()))}]")
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(find_resource("conf"))):
            cfg: TrainConfig = to_dataclass(hydra.compose("train", overrides), "train")
        refuse_silent_merges(settings)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain_error(error)) from None
    except ValueError as error:  # by Hydra, of forms that it does not know, such as ~features=[x]
        raise UserError(f"the settings cannot be read: {' '.join(str(error).split())}") from None
    return cfg


def to_dataclass(cfg: DictConfig, name: str) -> Any:
    """The settings of a command as its dataclass.

    A required setting without a value is a `UserError`, and so is a setting that the schema does
    not have: Hydra's `+` adds any name.
    """
    if OmegaConf.get_type(cfg) is not SCHEMAS[name]:
        raise UserError(
            f"--config-name: the file does not have the settings of {name}.py; begin it with "
            f"defaults: [{name}, _self_]"
        )
    settings: Any = OmegaConf.to_container(cfg)
    if name == "train":
        fill_local_paths(settings)
    try:
        typed: Any = OmegaConf.to_object(OmegaConf.merge(_structure(name), settings))
    except MissingMandatoryValue:
        missing = sorted(OmegaConf.missing_keys(cfg))
        names = ", ".join(missing)
        raise UserError(f"required, but not set: {names}; give {missing[0]}=...") from None
    except OmegaConfBaseException as error:
        raise UserError(explain_error(error)) from None
    if name == "train":
        # They are filled in above. The run's record must not list the other paths of this machine.
        typed.local = LocalConfig()
    return typed


@functools.cache
def _structure(name: str) -> Any:
    """The schema of a command as OmegaConf's container, cached because building it is slow."""
    return OmegaConf.structured(SCHEMAS[name])


def keep_typed_text(settings: Sequence[str], name: str, sweep: bool) -> list[str]:
    """The settings of a command line, quoted so that Hydra reads what was typed."""
    top = SCHEMAS[name]
    overrides = [keep_text(name_annotators(setting, top), top, sweep) for setting in settings]
    return describe_members(overrides, sweep) if name in ("train", "evaluate") else overrides


def arrange_arguments(name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments in Hydra's order: options, then settings, quoted so that text stays text."""
    options, settings, rest = [], [], iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:  # its value may look like a setting
            value = next(rest, None)
            options.append(f"{argument}={value}" if value else argument)
        elif re.match(r"~\w|[^-].*=", argument, re.DOTALL):
            settings.append(argument)
        else:
            options.append(argument)
    return options + keep_typed_text(settings, name, is_sweep(arguments))


def refuse_silent_merges(overrides: Sequence[str]) -> None:
    """Refuse lists on the command line that Hydra would merge without a message."""
    for override in overrides:
        names = re.findall(r"\w+", override)
        if override.startswith("features=[") and len(set(names)) < len(names):
            raise UserError(f"{override}: names a feature twice; leave one out")
        group, _, value = override.lstrip("+").partition("=")
        is_list = value.startswith("[") and "," in value
        if is_list and group in SINGLE and group != "annotator":  # annotators are combined
            raise UserError(
                f"{override}: a run has one of them; choose one, or put -m before "
                f"{group}={value[1:-1]} for a sweep"
            )
