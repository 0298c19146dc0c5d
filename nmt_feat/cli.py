"""Entry points: configuration in, one line per mistake out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt_feat import schema
from nmt_feat.errors import UserError, near
from nmt_feat.resources import resource
from nmt_feat.run import digest, train_run

Job = Callable[[DictConfig], float | None]


def _typed(cfg: DictConfig) -> Any:
    try:
        return OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from None


def _names(path: str, root: type) -> list[str]:
    """Names that the schema has at a dotted path."""
    kind: Any = root
    for name in path.split(".") if path else []:
        fields = getattr(kind, "__dataclass_fields__", {})
        if name not in fields:
            return []
        default = fields[name].default_factory
        kind = default if isinstance(default, type) else None
    return list(getattr(kind, "__dataclass_fields__", {}))


def explain(error: Exception) -> str:
    """A configuration error of Hydra or OmegaConf in one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        names = [option for option in error.options or [] if not option.startswith("_")]
        return f"{group}={name}: no such option; {near(name, names)}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    text = str(cause)
    if found := re.search(r"Key '(.*?)' (?:is not in struct|not in '.*?')", text):
        parent, name = str(key or found[1]).rpartition(".")[::2]
        names = _names(parent, schema.TrainConfig)
        return f"{key or found[1]}: no such setting; {near(name, names)}"
    if found := re.search(r"[Mm]issing mandatory value: (\S+)", text):
        return f"{found[1]}: not set, and needed; give {found[1]}=..."
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return f"{key}: {first}" if key else first


def run(name: str, job: Job) -> None:
    """Compose `conf/<name>.yaml` with the command line and run `job`, once or as a sweep.

    Exit codes: 0 done, 1 a job of a sweep failed, 2 the user can mend it.
    """
    schema.register()
    OmegaConf.register_new_resolver("nmt_resource", lambda n: str(resource(n)), replace=True)
    OmegaConf.register_new_resolver("nmt_digest", lambda v: digest(list(v))[:8], replace=True)
    if str(Path.cwd()) not in sys.path:  # a user's own combiner lies in the current folder
        sys.path.insert(0, str(Path.cwd()))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come here, where they become one line
    main = hydra.main(version_base="1.3", config_path=str(resource("conf")), config_name=name)
    try:
        main(job)()
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain(error))
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # head has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> None:
    """Print a message in one line and leave with exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _train(cfg: DictConfig) -> float:
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    record = train_run(_typed(cfg), sweep)
    assert record.dev is not None
    return record.dev.bleu


def train() -> None:
    """`train.py` and `nmt-feat-train`."""
    run("train", _train)


def translate() -> None:
    """`translate.py` and `nmt-feat-translate`."""
    from nmt_feat.apply import translate_main

    run("translate", lambda cfg: translate_main(_typed(cfg)))


def score() -> None:
    """`score.py` and `nmt-feat-score`."""
    from nmt_feat.apply import score_main

    run("score", lambda cfg: score_main(_typed(cfg)))
