"""Commands of one revision: `python SCRIPT ...` with its code, in a folder of the job's."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LONGEST = 1200
"""Seconds after which a command is ended."""
ENVIRONMENT = {
    **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    **{"OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0", "COLUMNS": "120", "NO_COLOR": "1"},
    **{"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "TOKENIZERS_PARALLELISM": "false"},
}


@dataclass(frozen=True)
class Outcome:
    """What a command has done; a negative code is the signal that ended it."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """Its last line on standard error, which says what was wrong."""
        return (self.err.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Kill:
    """A signal to send as soon as it is time."""

    signal: signal.Signals
    when: Callable[[], bool]


class Runner:
    """Starts commands one after another; by a server that forks, or by a Python of their own."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def run(
        self,
        arguments: list[str],
        cwd: Path,
        paths: list[Path],
        fresh: bool = False,
        kill: Kill | None = None,
    ) -> Outcome:
        """`python ARGUMENTS` in `cwd` with `paths` as PYTHONPATH."""
        out, err = cwd / ".out", cwd / ".err"
        env = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        if fresh:
            code = self._fresh(arguments, cwd, out, err, env, kill)
        else:
            about = {"arguments": arguments, "cwd": str(cwd), "out": str(out), "err": str(err)}
            code = self._forked(json.dumps(about | {"env": env}), kill)
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
        return Outcome(code, *texts)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            assert self._server.stdin
            self._server.stdin.close()
            self._server.wait()

    def _fresh(
        self,
        arguments: list[str],
        cwd: Path,
        out: Path,
        err: Path,
        env: dict[str, str],
        kill: Kill | None,
    ) -> int:
        with out.open("wb") as o, err.open("wb") as e:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=cwd, stdout=o, stderr=e, env=os.environ | env
            )
        end = time.monotonic() + LONGEST
        while (code := process.poll()) is None:
            if kill and kill.when():
                process.send_signal(kill.signal)
                kill = None
            if time.monotonic() > end:
                process.kill()
            time.sleep(0.002 if kill else 0.02)
        return code

    def _forked(self, request: str, kill: Kill | None) -> int:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, str(HERE / "server.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT,
            )
            assert self._line(LONGEST) == "ready"
        assert self._server.stdin
        self._server.stdin.write(request.encode() + b"\n")
        self._server.stdin.flush()
        number, end = int(self._line(LONGEST) or "0"), time.monotonic() + LONGEST
        while (line := self._line(0.002 if kill else 0.2)) is None:
            if kill and kill.when():
                os.kill(number, kill.signal)
                kill = None
            if time.monotonic() > end:
                os.kill(number, signal.SIGKILL)
        return int(line)

    def _line(self, seconds: float) -> str | None:
        """The server's next line, if it comes in time."""
        assert self._server
        assert self._server.stdout
        descriptor = self._server.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            if not (more := os.read(descriptor, 1 << 12)):
                raise RuntimeError("the server that starts commands has ended")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()
