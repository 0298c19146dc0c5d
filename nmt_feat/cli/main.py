"""`nmt-feat`: one program with a subcommand for each task.

Listing the subcommands imports nothing heavy; a subcommand's module is imported when it is called.
"""

from __future__ import annotations

import importlib
import os
import sys

from nmt_feat import __version__
from nmt_feat.errors import UserError, discard_output, fail, suggest

SUBCOMMANDS = {
    "train": "train one run, or with -m a sweep of runs and its table",
    "translate": "translate with a trained run",
    "score": "log-probabilities of given translations",
    "evaluate": "test finished runs on further sets, by another search or metric",
    "report": "the table of finished runs, its statistics, figures and page",
    "inspect": "what features say about a corpus, with advice and example sentences",
    "annotate": "annotate text as CoNLL-U, by UDPipe, spaCy, HanTa or another annotator",
    "convert": "convert annotated text between the formats of toolkits",
    "export": "export a run to CTranslate2",
    "cache": "what the cache holds and which runs use it; prune removes the rest",
    "contrast": "reading accuracy of a run by forced scoring",
    "reliance": "how much a run relies on its annotation",
    "claims": "what the tables of reports support, in BLEU and in chrF",
    "train-vectors": "two sets of word vectors from the training text",
    "glossary": "a glossary from text and its translation, for data.terminology",
    "score-comet": "COMET of translations, by its own package",
}
"""What each subcommand does, in one line."""

WINDOWS = (
    "nmt_feat runs on Linux and macOS, not on Windows; there, use it in the Windows Subsystem for "
    "Linux: wsl --install"
)

SPIN_COUNT, SHORT_SPIN = "GOMP_SPINCOUNT", "2000"
"""How many turns a thread waits awake, where cores are shared; OpenMP's own number is 300,000."""
SPIN_CHOICES = SPIN_COUNT, "OMP_WAIT_POLICY"
"""Environment variables by which a user chooses how threads wait."""
LIBRARY_DEFAULTS = {
    # Batches come in more shapes than oneDNN keeps kernels for by default.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
    # Threads that spin long for each other waste cores that are shared; those that do not spin at
    # all wake too slowly where cores are free.
    SPIN_COUNT: SHORT_SPIN,
}
"""Environment variables that libraries read when PyTorch is imported."""


def set_library_defaults(subcommand: str = "") -> None:
    """Set what PyTorch's libraries read at their start, where the user has not set it.

    A training chooses how long threads spin when it knows how many it has, see `spinning`.
    """
    defaults = dict(LIBRARY_DEFAULTS)
    if subcommand == "train" or any(name in os.environ for name in SPIN_CHOICES):
        del defaults[SPIN_COUNT]
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def list_subcommands() -> str:
    """The text of `nmt-feat --help`."""
    width = max(map(len, SUBCOMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in SUBCOMMANDS.items()]
    return "\n".join(
        [
            "usage: nmt-feat SUBCOMMAND ...",
            "",
            "Neural machine translation experiments with linguistic input features.",
            "",
            *lines,
            "",
            "nmt-feat SUBCOMMAND --help describes one of them.",
        ]
    )


def main() -> None:
    """Run the subcommand that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(list_subcommands())
    elif arguments[0] == "--version":
        print(f"nmt-feat {__version__}")
    elif arguments[0] in SUBCOMMANDS:
        sys.argv = [f"nmt-feat {arguments[0]}", *arguments[1:]]
        run_subcommand(arguments[0])
    elif arguments[0].startswith("-") or "=" in arguments[0]:
        fail(f"{arguments[0]}: is not a subcommand; begin with one, such as nmt-feat train")
    else:
        fail(f"{arguments[0]}: no such subcommand; {suggest(arguments[0], SUBCOMMANDS)}")


def run_subcommand(name: str) -> None:
    """Run a subcommand with the arguments of this process; mistakes end it in one line."""
    if sys.platform == "win32":
        fail(WINDOWS)
    from nmt_feat.base.terminal import use_utf8  # imports Rich

    use_utf8()
    set_library_defaults(name)
    module = "inspect_features" if name == "inspect" else name.replace("-", "_")
    try:
        importlib.import_module(f"nmt_feat.cli.{module}").main()
    except UserError as error:
        fail(str(error))
    except BrokenPipeError:
        discard_output()


def train() -> None:
    """`nmt-feat-train`, an earlier name of `nmt-feat train`."""
    run_subcommand("train")


def translate() -> None:
    """`nmt-feat-translate`, an earlier name of `nmt-feat translate`."""
    run_subcommand("translate")


def score() -> None:
    """`nmt-feat-score`, an earlier name of `nmt-feat score`."""
    run_subcommand("score")
