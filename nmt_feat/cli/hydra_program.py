"""Programs whose settings Hydra composes: configuration in, one line per mistake out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.lifetime import end_with_parent
from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.cli.compose import arrange_arguments, prepare_hydra, register_resolvers, to_dataclass
from nmt_feat.cli.explain import SCHEMAS, explain_error
from nmt_feat.config.members import leave_out_unchosen
from nmt_feat.errors import UserError, discard_output, fail, is_out_of_memory
from nmt_feat.runs.signals import AT_ONCE, STOPPED, Interrupted, signals

INTERRUPTED = "interrupted; the file output=FILE is unchanged, and the same command starts again"
"""Printed by programs that write their file under another name and rename it when it is whole."""


@contextlib.contextmanager
def print_mistakes() -> Iterator[None]:
    """End the process with one line where the user can mend the error."""
    try:
        yield
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_error(error))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fail(
            "out of memory outside of an update; lower decoding.batch_tokens or provide more "
            "memory; the same command continues from what is finished"
        )
    except BrokenPipeError:
        discard_output()


def run_program(name: str, execute: Callable[[Any], float | None]) -> None:
    """Compose `conf/<name>.yaml` with the command line and `execute` it, once or for each job.

    Exit codes: 0 success, 1 a job of a sweep failed, 2 an error that the user can mend, 75 a signal
    has stopped training and the same command continues, 130 interrupted at once.
    """

    def run_job(cfg: DictConfig) -> float | None:
        register_resolvers()  # a launcher may have started this process
        use_utf8()
        if multiprocessing.parent_process():
            end_with_parent()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            leave_out_unchosen(cfg, HydraConfig.get().overrides.task)
            return execute(to_dataclass(cfg, name))
        with print_mistakes():  # here, before Hydra adds lines of its own
            return execute(to_dataclass(cfg, name))

    prepare_hydra(name)
    refuse_dashes(name, sys.argv[1:])
    # The sweep's folder is named by its command: the same sweep finds its table again.
    os.environ["NMT_FEAT_SWEEP"] = hash_json(sorted(sys.argv[1:]))[:8]
    sys.argv[1:] = arrange_arguments(name, sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come here, where they become one line
    main = hydra.main(version_base="1.3", config_path=str(find_resource("conf")), config_name=name)
    try:
        with print_mistakes(), signals.handled():
            main(run_job)()
    except KeyboardInterrupt as error:
        end_interrupted(name, error)
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        if any(frame.f_code is run_job.__code__ for frame, _ in frames):
            raise  # a defect of ours: with its traceback
        if "No trials are completed" in str(error):  # by Optuna, asked for the best trial
            say("every trial of the search has failed; see above", file=sys.stderr)
            sys.exit(1)
        fail(f"the settings cannot be read: {' '.join(str(error).split())}")


def refuse_dashes(name: str, arguments: list[str]) -> None:
    """End the process where a setting is written like an option: `--seed=1`."""
    settings = (*get_type_hints(SCHEMAS[name]), "experiment", "row")
    for argument in arguments:
        option = re.fullmatch(r"--?((\w+)[\w.]*)(?:=(.*))?", argument, re.DOTALL)
        if option and option[2] in settings:
            fail(f"{argument}: settings have no dashes; write {option[1]}={option[3] or '...'}")


def end_interrupted(name: str, error: KeyboardInterrupt) -> None:
    """Say how an interrupted program continues, and end the process."""
    if name not in ("train", "evaluate"):
        say(INTERRUPTED, file=sys.stderr)
    elif isinstance(error, Interrupted):
        say(error, file=sys.stderr)
        sys.exit(STOPPED)
    else:
        say("interrupted; the same command continues", file=sys.stderr)
    sys.exit(AT_ONCE)
