"""Runs Python scripts, each in a fork of this process, which has imported the large libraries.

Nothing of the compared revisions is imported here. A request is a line of JSON on standard
input; the answers are lines as well: the process's number, then its exit code.
"""

import importlib
import json
import os
import runpy
import sys
from typing import Any

LIBRARIES = (
    *("torch", "hydra", "omegaconf", "lightning_fabric", "numpy", "pyarrow", "pyarrow.compute"),
    *("sacrebleu", "sentencepiece", "safetensors.torch", "scipy.stats", "rich.console"),
    *("filelock", "jinja2", "pyarrow.parquet", "rich.table", "rich.progress"),
)


def serve() -> dict[str, Any] | None:
    """The request, in a child process that executes it; None, in this process, at the end."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        sys.stdout.flush()
        number = os.fork()
        if number == 0:
            return request
        print(number, flush=True)
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def execute(request: dict[str, Any]) -> None:
    """Become `python SCRIPT ...`, as if it had just been started."""
    os.chdir(request["cwd"])
    for descriptor, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags, 0o644), descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.update(request["env"])
    script, *_ = sys.argv = request["arguments"]
    paths = request["env"]["PYTHONPATH"].split(os.pathsep)
    sys.path[0:1] = [os.path.dirname(script), *paths]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    print("ready", flush=True)
    if (request := serve()) is not None:
        execute(request)
