"""Entry points: configuration in, one line per mistake out."""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.lifetime import end_with_parent
from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.config import schema
from nmt_feat.config.config_source import read_rows, register_reader
from nmt_feat.config.members import describe_members, leave_out_unchosen
from nmt_feat.config.overrides import SINGLE, is_sweep, keep_text, quote_value, setting_of
from nmt_feat.errors import UserError, fail, out_of_memory, suggest
from nmt_feat.runs.signals import AT_ONCE, STOPPED, Interrupted, signals
from nmt_feat.runs.trained_model import score_main, translate_main

MEANINGS = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "{key}={0}: no whole number",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "{key}={0}: no number",
    r"Value '(.*)' is not a valid bool": "{key}={0}: give true or false",
    r"field '[\w.]+' is not Optional()": "{key}=null: needs a value",
    r"Incompatible value 'None' for field of type '(str)'": "{key}: null, needs a value",
    r"Invalid value assigned: (\w+) is not a ListConfig": "{key}: is a list; write {key}=[a,b]",
    r"Cannot assign (\w+) to Dict": "{key}: is a dictionary; write {key}={{name:value}}",
    r"dict is not a subclass of FeatureConfig|in struct[^[]*\[str, FeatureConfig": "{entry}: no "
    "such feature is chosen; choose it by name, features=[upos,deprel], or describe a new one by "
    "{entry}.column=...",
    r"dict is not a subclass of LoggerConfig|in struct[^[]*\[str, LoggerConfig": "{entry}: no such "
    "logger is chosen; choose it by name, logger=[csv], or describe a new one by "
    "{entry}._target_=...",
    r"dict is not a subclass of SplitConfig|in struct[^[]*\[str, SplitConfig": "{entry}: no such "
    "test set; to add one, give both {entry}.source=... and {entry}.target=...",
    r"is not a subclass of \w+Config": "{key}: has settings of its own; write {{name: value}}",
    r"Could not override '(.*)'\.\s*No match in the defaults": "{0}: no setting of this command; "
    "--help lists them",
    r"An item is already at '(.*)'\.": "{0}: is there already; write it without +",
    r"Interpolation key '(.*)' not found": "{key}: ${{{0}}} names no setting; to write these very "
    r"characters, put \ before the $",
    r"is not in struct": "{key}: is not there yet; to add it, write +{key}=...",
    rf"Ambiguous value for argument '((?:{'|'.join((*SINGLE, 'experiment', 'row'))})=.*)'": "{0}: "
    "several options; put -m before it for a sweep",
    r"Ambiguous value for argument '(.*)'": "{0}: several values; put -m before it for a sweep, "
    "or brackets around a list",
}
"""What Hydra and OmegaConf say of a setting, as regular expressions, and what we say instead."""

SCHEMAS = {
    "train": schema.TrainConfig,
    "translate": schema.TranslateConfig,
    "score": schema.ScoreConfig,
}

EXTRAS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_slurm": "submitit",
    "hydra/launcher=submitit_local": "submitit",
    "hydra/sweeper=optuna": "optuna",
}
"""Hydra's plugins, and the extra that installs each."""

INTERRUPTED = "interrupted; a file output=FILE is as it was, and the same command starts again"
"""Of a program that writes a file when it is whole."""


def explain(error: Exception) -> str:
    """An error of Hydra or OmegaConf in one line."""
    text = f"{error}\n{error.__cause__ or ''}"
    first = " ".join(text.partition("\n    full_key")[0].split())
    if isinstance(error, OverrideParseException):
        name, _, value = str(error.override).partition("=")
        advice = (
            "write name=value without spaces, lists as name=[a,b], and quote what the shell would "
            "change"
        )
        if value.startswith("~"):
            advice = f"write {name}=$HOME{value[1:]}"
        elif "/" in value and value[0] not in "[{":
            advice = f"quote such a path twice: {shlex.quote(f'{name}={quote_value(value)}')}"
        return f"{error.override}: cannot be read ({first.partition(' See http')[0]}); {advice}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if extra := EXTRAS.get(f"{group}={name}"):
            return f"{group}={name}: not installed; do: pip install 'nmt_feat[{extra}]'"
        folders = re.findall(r"path=file://(.*)", text)
        names = {path.stem for folder in folders for path in Path(folder, group).glob("*.yaml")}
        names |= {k.removeprefix(f"{group}=") for k in EXTRAS if k.startswith(f"{group}=")}
        if group == "row":
            names = names.union(*(read_rows(Path(folder)) for folder in folders))
        return f"{group or 'config'}={name}: no such option; {suggest(name, names)}"
    where = f"{found[1]}.yaml: " if (found := re.search(r"In '(\S+)': \w+ raised", text)) else ""
    keys = re.findall(r"(?:full_key: |merging override [+]*)([^\s=]+)", text)
    key = max(keys, key=len, default=getattr(error, "full_key", None) or "")
    if found := re.search(r"Key '(.*)' not in '(\w+)'", text):
        kinds = get_type_hints(getattr(schema, found[2]))
        inside = [g for g, k in kinds.items() if key in getattr(k, "__dataclass_fields__", ())]
        hint = suggest(key.rpartition(".")[2], kinds)
        if inside:
            hint = f"did you mean {' or '.join(repr(f'{group}.{key}') for group in inside)}?"
        return f"{where}{key}: no such setting; {hint}"
    for pattern, message in MEANINGS.items():
        if found := re.search(pattern, text):
            entry = ".".join(key.split(".")[: 3 if key.startswith("data.") else 2])
            advice = ""
            if message.endswith("needs a value") and _is_text(key):
                typed = shlex.quote(f"{key}={quote_value('null')}")
                if where:  # of a file
                    typed = f"{key.rpartition('.')[2]}: {quote_value('null')}"
                advice = f"; for the text null write {typed}"
            return where + message.format(*found.groups(), key=key, entry=entry) + advice
    return f"{where}{key and f'{key}: '}{first}"


def _is_text(key: str) -> bool:
    """Whether a setting of any of the commands is text."""
    settings = [setting_of(key, kind) for kind in SCHEMAS.values()]
    return any(setting is not None and setting.kind is str for setting in settings)


@functools.cache
def _structure(name: str) -> Any:
    """What the settings of an entry point must be; slow to make from its dataclass."""
    return OmegaConf.structured(SCHEMAS[name])


def _typed(cfg: DictConfig, name: str = "train") -> Any:
    """The settings as their dataclass; each is set and known (Hydra's `+` adds any name)."""
    if OmegaConf.get_type(cfg) is not SCHEMAS[name]:
        raise UserError(
            f"--config-name: the file has not the settings of {name}.py; let it begin with "
            f"defaults: [{name}, _self_]"
        )
    try:
        return OmegaConf.to_object(OmegaConf.merge(_structure(name), OmegaConf.to_container(cfg)))
    except MissingMandatoryValue:
        missing = sorted(OmegaConf.missing_keys(cfg))
        names = ", ".join(missing)
        raise UserError(f"not set, and needed: {names}; give {missing[0]}=...") from None
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from None


def by_scale(reduced: Any, full: Any, _root_: DictConfig) -> Any:
    """`${nmt_scale:500,8000}`: one of two values by `scale`."""
    return full if _root_.scale == "full" else reduced


def _prepare_hydra(name: str) -> None:
    """Let Hydra know the settings of an entry point, and how files of them are read."""
    schema.register_schemas()
    register_reader(SCHEMAS[name])
    _resolvers()


def readable(settings: Sequence[str], name: str, sweep: bool) -> list[str]:
    """The settings of a command line as Hydra reads what was typed."""
    overrides = [keep_text(setting, SCHEMAS[name], sweep) for setting in settings]
    return describe_members(overrides, sweep) if name == "train" else overrides


WITH_VALUE = "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"
"""Options of Hydra whose value may be an argument of its own."""


def _command_line(name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra takes them: options first, then settings, which keep their text."""
    options, settings, rest = [], [], iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:  # its value may look like a setting
            options.append("=".join((argument, *(value for value in [next(rest, None)] if value))))
        elif re.match(r"~\w|[^-].*=", argument, re.DOTALL):
            settings.append(argument)
        else:
            options.append(argument)
    return options + readable(settings, name, is_sweep(arguments))


def _resolvers() -> None:
    OmegaConf.register_new_resolver("nmt_resource", lambda n: str(find_resource(n)), replace=True)
    OmegaConf.register_new_resolver("nmt_scale", by_scale, replace=True)


def composed(settings: Sequence[str], config_dir: str | None = None) -> schema.TrainConfig:
    """The settings of train.py with these on its command line; mistakes are `UserError`s.

    `config_dir` is a folder of the user's own options, as `--config-dir` of train.py.
    """
    _prepare_hydra("train")
    overrides = readable(settings, "train", sweep=False)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir={config_dir}: no such folder")
        overrides.append(f"hydra.searchpath=[{quote_value(str(Path(config_dir).absolute()))}]")
    try:
        with hydra.initialize_config_dir(version_base="1.3", config_dir=str(find_resource("conf"))):
            cfg: schema.TrainConfig = _typed(hydra.compose("train", overrides))
        check_overrides(settings)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None
    return cfg


@contextlib.contextmanager
def _mistakes() -> Iterator[None]:
    """What the user can mend ends in one line."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain(error))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        fail(
            "out of memory outside of an update; lower decoding.batch_tokens, or give it more: the "
            "same command continues from what is finished"
        )
    except BrokenPipeError:  # head has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(name: str, act: Callable[[Any], float | None]) -> None:
    """Compose `conf/<name>.yaml` with the command line and do `act`, once or as a sweep.

    Exit codes: 0 done, 1 a job of a sweep failed, 2 the user can mend it, 75 a signal has stopped
    training and the same command continues, 130 interrupted at once.
    """

    def job(cfg: DictConfig) -> float | None:
        _resolvers()  # a launcher may have started this process
        use_utf8()
        if multiprocessing.parent_process():
            end_with_parent()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            leave_out_unchosen(cfg, HydraConfig.get().overrides.task)
            return act(_typed(cfg, name))
        with _mistakes():  # here, before Hydra adds lines of its own
            return act(_typed(cfg, name))

    use_utf8()
    _prepare_hydra(name)
    for argument in sys.argv[1:]:
        given = re.fullmatch(r"--?((\w+)[\w.]*)(?:=(.*))?", argument, re.DOTALL)
        if given and given[2] in (*get_type_hints(SCHEMAS[name]), "experiment", "row"):
            fail(f"{argument}: settings have no dashes; write {given[1]}={given[3] or '...'}")
    # The sweep's folder is named by its command: the same sweep finds its table again.
    os.environ["NMT_FEAT_SWEEP"] = hash_json(sorted(sys.argv[1:]))[:8]
    sys.argv[1:] = _command_line(name, sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come here, where they become one line
    main = hydra.main(version_base="1.3", config_path=str(find_resource("conf")), config_name=name)
    try:
        with _mistakes(), signals.handled():
            main(job)()
    except KeyboardInterrupt as error:
        if name != "train":
            say(INTERRUPTED, file=sys.stderr)
        elif isinstance(error, Interrupted):
            say(error, file=sys.stderr)
            sys.exit(STOPPED)
        else:
            say("interrupted; the same command continues", file=sys.stderr)
        sys.exit(AT_ONCE)
    except Exception as error:
        if any(frame.f_code is job.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise  # a defect of ours: with its traceback
        if "No trials are completed" in str(error):  # of Optuna, which then has no best one
            say("every trial of the search has failed; see above", file=sys.stderr)
            sys.exit(1)
        fail(f"the settings cannot be read: {' '.join(str(error).split())}")


KEEPING = (
    *("experiment", "scale", "seed", "published", "resume", "paths", "logger", "annotator"),
    *("data.folder", "data.processes", "trainer.threads", "trainer.accelerator"),
    *("trainer.progress", "trainer.log_every", "trainer.resume_exact"),
)
"""Settings that leave a paper's experiment what it is."""


def scaled(cfg: schema.TrainConfig, overrides: Sequence[str]) -> schema.TrainConfig:
    """The settings, `reduced` and no more `full` if the command line changes others; it is said."""
    names = [override.partition("=")[0].lstrip("+~") for override in overrides]
    kept = tuple(f"{name}." for name in KEEPING)
    changed = [n for n in names if not f"{n}.".startswith(kept)]
    there = cfg.published.source and not cfg.published.no_full  # else `check_settings` refuses it
    if cfg.scale == "full" and changed and there:
        say(f"scale=reduced, no more full: the command line gives {', '.join(changed)}")
        cfg.scale = "reduced"
    return cfg


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse settings of the command line that Hydra would merge in silence."""
    for override in overrides:
        names = re.findall(r"\w+", override)
        if override.startswith("features=[") and len(set(names)) < len(names):
            raise UserError(f"{override}: names a feature twice; leave one out")
        group, _, value = override.lstrip("+").partition("=")
        if group in SINGLE and value.startswith("[") and "," in value:
            raise UserError(
                f"{override}: a run has one of them; choose one, or put -m before "
                f"{group}={value[1:-1]} for a sweep"
            )


def _say_one_run() -> None:
    """Say it where an experiment is a table and, without -m, only one run of it is made."""
    found = HydraConfig.get()
    given = {override.partition("=")[0].lstrip("+") for override in found.overrides.task}
    left = [name for name in found.sweeper.get("params") or () if name not in given]
    if found.mode == RunMode.RUN and left:
        say(
            f"one run of experiment={found.runtime.choices.get('experiment')}; for its table, over "
            f"{', '.join(left)}, put -m before it"
        )


def _train(cfg: schema.TrainConfig) -> float:
    cfg = scaled(cfg, HydraConfig.get().overrides.task)
    check_overrides(HydraConfig.get().overrides.task)
    _say_one_run()
    from nmt_feat.runs.run import train_run  # a second that only training takes

    try:
        record = train_run(cfg, HydraConfig.get().mode == RunMode.MULTIRUN, sys.argv[1:])
    except OSError as error:
        if error.strerror is None or isinstance(error, BrokenPipeError):
            raise
        place = f"{error.filename}: " if error.filename else ""
        hint = "set paths.runs and paths.cache to folders that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room, then the same command continues from what is finished"
        raise UserError(f"{place}{error.strerror}; {hint}") from error
    assert record.dev is not None
    return record.dev.bleu


# `train.py` and `nmt-feat-train`, and so on
train = functools.partial(run, "train", _train)
translate = functools.partial(run, "translate", translate_main)
score = functools.partial(run, "score", score_main)
