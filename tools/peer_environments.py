"""Environments of the toolkits that `benchmark_peers.py` compares with nmt_feat."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nmt_feat.errors import UserError

READY = "ready.json"


@dataclass(frozen=True)
class Peer:
    """A toolkit: its package, further packages that it needs, and its default version of PyTorch.

    `bare`: the package is installed without the dependencies that it names, because these ask for
    an older PyTorch than it can run with.
    """

    package: str
    needs: tuple[str, ...] = ()
    torch: str | None = None
    bare: bool = False


PEERS = {
    "sockeye": Peer(
        "sockeye==3.1.34",
        ("numpy<2", "pyyaml>=5.1", "sacrebleu>=2.3", "setuptools<81"),
        "2.13.0",
        bare=True,
    ),
    "opennmt": Peer(
        "OpenNMT-py==3.5.1",
        (
            *("numpy<2", "setuptools<81", "configargparse", "ctranslate2>=4,<5", "fasttext-wheel"),
            *("flask", "pyahocorasick", "pyonmttok>=1.37,<2", "pyyaml", "rapidfuzz", "sacrebleu"),
            *("six", "spacy", "tensorboard", "waitress"),
        ),
        "2.13.0",
        bare=True,
    ),
    "joeynmt": Peer("joeynmt==2.3.0", ("importlib_metadata", "setuptools<81"), "2.13.0"),
    "ctranslate2": Peer("ctranslate2==4.8.5"),
}


def toolkit(contender: str) -> str:
    """The name of the toolkit that a contender is a variant of."""
    return contender.partition("@")[0].partition("-")[0]


def requirements(contender: str) -> list[list[str]]:
    """The packages that pip installs for a contender, step by step."""
    peer = PEERS[toolkit(contender)]
    torch = contender.partition("@")[2] or peer.torch
    first = [*([f"torch=={torch}"] if torch else []), *peer.needs]
    if peer.bare:
        return [first, ["--no-deps", peer.package]]
    return [[*first, peer.package]]


def environment(folder: Path, contender: str, base: str) -> Path:
    """The Python of a contender's environment, which is created if it does not exist."""
    torch = contender.partition("@")[2]
    home = folder / (f"{toolkit(contender)}-{torch}" if torch else toolkit(contender))
    python, ready = home / "bin" / "python", home / READY
    packages = requirements(contender)
    if ready.exists() and json.loads(ready.read_bytes()) == packages:
        return python
    print(f"installing {contender} into {home}", flush=True)
    steps = [[base, "-m", "venv", "--clear", str(home)]]
    steps += [[str(python), "-m", "pip", "install", "--quiet", *step] for step in packages]
    for step in steps:
        try:
            done = subprocess.run(step, capture_output=True, text=True)
            message, code = done.stderr, done.returncode
        except OSError as error:
            message, code = str(error), 1
        if code:
            lines = [line for line in message.splitlines() if line.strip()] or ["no message"]
            raise UserError(
                f"{home}: no environment for {contender}: {lines[-1]}; it needs a network, see "
                f"`{' '.join(step)}`, or leave {contender} out by --contenders"
            )
    ready.write_text(json.dumps(packages), encoding="utf-8")
    return python


def versions(python: Path, contender: str) -> dict[str, str]:
    """The versions of the toolkit, PyTorch and NumPy in an environment."""
    names = [PEERS[toolkit(contender)].package.partition("==")[0], "torch", "numpy"]
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: found[n.lower()] for n in sys.argv[1:] if n.lower() in found}))"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, check=True)
    versions_by_name: dict[str, str] = json.loads(done.stdout)
    return versions_by_name
