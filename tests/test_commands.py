"""Commands that are printed, and the defaults that docs/reference/settings.md shows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.next_steps import REPLACED, suggest_sweep, suggest_translation
from nmt_feat.cli.train_job import print_result
from nmt_feat.config import commands
from nmt_feat.config.overrides import is_sweep
from nmt_feat.runs.run import FinishedRun
from nmt_feat.runs.stored.records import RunRecord
from tests.support import toy_runs
from tests.support.small import ROOT, Small


def test_quoted_for_the_shell() -> None:
    line = commands.shell_command("translate", "run=runs/a b's", "input=FILE")
    assert line == "python translate.py 'run=runs/a b'\"'\"'s' input=FILE"
    assert shlex.split(line)[2] == "run=runs/a b's"


def test_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no translate.py beside the package; `nmt-feat` is there."""
    monkeypatch.setattr(commands, "PACKAGE", tmp_path / "nmt_feat")
    assert commands.program_name("translate") == "nmt-feat translate"
    assert commands.program_name("train") == "nmt-feat train"


def test_what_is_tried_next_keeps_the_rest() -> None:
    typed = ["--config-dir=my x", "combiner=gate", "combiner._target_=a.B", "+combiner.args.c=1"]
    typed += ["seed=3", "resume=x", "control=dummy", "data=mine", "features=[upos]", "model.dim=8"]
    assert commands.drop_settings(typed, REPLACED) == [
        "--config-dir=my x",
        "data=mine",
        "features=[upos]",
        "model.dim=8",
    ]


CONTROLLED = ["control=none,shuffled", "seed=1,2,3"]


@pytest.mark.parametrize(
    ("settings", "combiner", "taken", "expected"),
    [
        ("combiner=add", "add", "", ["combiner=none,concat,add,average,gate", *CONTROLLED]),
        ("combiner=mlp", "mlp", "", ["combiner=none,mlp,concat,add,average,gate", *CONTROLLED]),
        (
            "features=[subword_tag]",
            "add",
            "",
            ["combiner=none,concat,add,average,gate", "seed=1,2,3"],
        ),
        # With a parent: combiners that take its table of words.
        (
            "init.run=p combiner=mlp",
            "mlp",
            "source.words",
            ["combiner=none,mlp,add,average,gate,concat_project", *CONTROLLED],
        ),
        (
            "init.run=p combiner=concat",
            "concat",
            "",
            ["combiner=none,add,average,gate,concat_project", *CONTROLLED],
        ),
        ("init.run=p combiner=concat", "concat", "source.words", ["combiner=concat", *CONTROLLED]),
    ],
)
def test_what_to_try_next(
    small: Small, settings: str, combiner: str, taken: str, expected: list[str]
) -> None:
    cfg = small.config(*settings.split())
    parent = {"taken": {taken: [1, 1]}} if taken else {}
    record = RunRecord(combiner, [], 1, "toy", "h", {}, {}, parent=parent)
    arguments = [*settings.split(), "trainer.max_steps=2"]
    line = suggest_sweep(FinishedRun(cfg, record, small.folder), cfg.features, combiner, arguments)
    same = [s for s in arguments if not s.startswith("combiner=")]
    assert shlex.split(line) == ["python", "train.py", "-m", *same, *expected]


def test_a_run_says_what_to_do_next(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, folder = toy_runs.run(tmp_path, "add", 1, 0.2)
    record.parameters = {"total": 1}
    for control, data, lines in (
        ("none", {}, [f"translate with it: python translate.py run={folder} input=FILE"]),
        ("shuffled", {}, []),
        ("none", {"terminology": {"shuffled": True}}, []),
        ("none", {"objective": "denoise"}, []),
    ):
        record.settings["control"], record.config = control, {"data": data}
        print_result(FinishedRun(small.config(), record, folder), "COMMAND")
        out = capsys.readouterr().out.splitlines()
        assert out[out.index(f"written to {folder}") + 1 :] == [*lines, "try next: COMMAND"]


def test_a_class_of_the_users_is_allowed_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `translate` would refuse the class without the variable, and there alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    for name in ("my/bilinear.py", "film.py"):
        (tmp_path / name).touch()
    commands_by_class = {
        "my.bilinear.Bilinear": "NMT_FEAT_MODULES=my python translate.py run=r input=FILE",
        "film.FiLM": "python translate.py run=r input=FILE",
        "nmt_feat.combiners.Gate": "python translate.py run=r input=FILE",
    }
    for target, command in commands_by_class.items():
        config = {"combiner": {"_target_": target}, "features": {}}
        record = RunRecord("x", [], 1, "toy", "h", {}, config)
        assert suggest_translation(Path("r"), record) == command


@pytest.mark.parametrize(
    ("arguments", "several"),
    [
        (["-m", "seed=1,2"], True),
        (["--multirun"], True),
        (["hydra.mode=MULTIRUN"], True),
        (["seed=1"], False),
        (["--config-dir=-m"], False),
        (["--cfg", "job", "input=-m"], False),
    ],
)
def test_a_sweep_is_told_apart(arguments: list[str], several: bool) -> None:
    assert is_sweep(arguments) is several


def test_the_defaults_are_those_of_a_user() -> None:
    """What docs/reference/settings.md shows for each group is what train.py alone comes to."""
    text = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    page = text.partition("## translate.py")[0]
    cfg: Any = compose_settings([])
    compared = 0
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        group = re.match(r"`(\w+)`\n", section)
        if group is None or group[1] == "features":
            continue
        for name, default_text in re.findall(
            r"^\| `(\w+)` \| .*? \| `(.*?)` \| ", section, re.MULTILINE
        ):
            if "${" in default_text:
                continue
            value = getattr(getattr(cfg, group[1]), name)
            read = value if isinstance(value, str) else json.loads(json.dumps(value))
            expected = default_text if isinstance(value, str) else yaml.safe_load(default_text)
            if isinstance(value, float):
                expected = float(expected)
            assert read == expected, f"{group[1]}.{name}"
            compared += 1
    assert compared > 60
