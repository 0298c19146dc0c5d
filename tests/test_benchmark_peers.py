"""`tools/benchmark_peers.py`, as far as it goes without any other toolkit installed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import sentencepiece

from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from tests.support.small import ROOT, SETTINGS, Small, composed

TOOLS = ROOT / "tools"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import benchmark_peers

    return benchmark_peers


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS / "peers"))
    import probe

    return probe


def ticking(probe: ModuleType, monkeypatch: pytest.MonkeyPatch, times: list[float]) -> None:
    rest = iter(times)
    monkeypatch.setattr(probe.time, "perf_counter", lambda: next(rest))


def test_clock_counts_what_follows_the_warm_up(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking(probe, monkeypatch, [10, 12, 13, 15, 18])
    clock = probe.Clock(warmup=2, updates=3)
    for sentences in (100, 100, 30, 40):
        clock.update(sentences)
    with pytest.raises(probe.Done):
        clock.update(50)
    figures = clock.figures()
    assert figures["seconds"] == 18 - 12
    assert figures["updates"] == 3
    assert figures["sentences_per_second"] == (30 + 40 + 50) / 6
    assert figures["sentences_per_update"] == (30 + 40 + 50) / 3


def test_clock_stops_after_its_seconds(probe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(probe, monkeypatch, [0, 4, 9, 11])
    clock = probe.Clock(warmup=1, updates=100, seconds=10)
    for _ in range(3):
        clock.update(5)
    with pytest.raises(probe.Done):
        clock.update(5)
    assert clock.figures()["sentences_per_second"] == 15 / 11


def test_toolkits_cannot_catch_the_end(probe: ModuleType) -> None:
    assert not issubclass(probe.Done, Exception)


def test_stopwatch(probe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(probe, monkeypatch, [3, 5])
    with probe.Stopwatch() as watch:
        pass
    figures = watch.figures([7, 9, 8])
    assert figures["sentences_per_second"] == 1.5
    assert figures["pieces_per_sentence"] == 8
    assert figures["pieces_per_second"] == 12


def test_lengths_are_of_lines_not_of_other_separators(probe: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("▁a b\n\n▁c\x1cd e\n", encoding="utf-8")
    assert probe.lengths(file) == [2, 0, 3]


RUNS = [
    {"round": number, "contender": name, "sentences_per_second": speed, "peak_memory_mib": memory}
    for number, name, speed, memory in (
        (1, "ours-bf16", 900.0, 500.0),
        (1, "sockeye", 100.0, 800.0),
        (2, "ours-bf16", 800.0, 520.0),
        (2, "sockeye", 200.0, 810.0),
        (3, "ours-bf16", 700.0, 510.0),
        (3, "sockeye", 140.0, 900.0),
        (4, "ours-bf16", 7.0, 510.0),  # interrupted before its pair
    )
]


def test_ratios_are_of_pairs_of_the_same_round(peers: ModuleType) -> None:
    assert peers.ratios(RUNS, "ours-bf16", "sockeye") == [9, 4, 5]
    assert peers.ratios(RUNS, "ours-bf16", "joeynmt") == []


def test_tables(peers: ModuleType) -> None:
    runs = [*RUNS, {"round": 1, "contender": "opennmt", "sentences_per_second": 1800.0}]
    runs[0] = runs[0] | {"dev_perplexity": 12.345}
    assert peers.tables({"runs": runs}).splitlines() == [
        "| | sentences/s | peak memory, MiB | dev perplexity |",
        "|---|---|---|---|",
        "| ours-bf16 | 750.0 | 510 | 12.35 |",
        "| sockeye | 140.0 | 810 |  |",
        "| opennmt | 1,800.0 |  |  |",
        "",
        "| times as fast as, sentences/s | ours-bf16 |",
        "|---|---|",
        "| sockeye | 5.00 (4.00 to 9.00) |",
        "| opennmt | 0.50 (0.50 to 0.50) |",
    ]


def test_translations_of_other_lengths_are_compared_by_pieces_too(peers: ModuleType) -> None:
    figures = {"ours": (60.0, 600.0), "joeynmt": (30.0, 30.0)}
    runs = [
        {"round": 1, "contender": name, "sentences_per_second": s, "pieces_per_second": p}
        for name, (s, p) in figures.items()
    ]
    assert peers.tables({"runs": runs}).splitlines()[5:] == [
        "| times as fast as, sentences/s | ours |",
        "|---|---|",
        "| joeynmt | 2.00 (2.00 to 2.00) |",
        "",
        "| times as fast as, pieces/s | ours |",
        "|---|---|",
        "| joeynmt | 20.00 (20.00 to 20.00) |",
    ]


def test_requirements_are_pinned(peers: ModuleType) -> None:
    from peer_environments import PEERS, requirements

    for name in PEERS:
        assert re.fullmatch(r"[\w-]+==[\d.]+", requirements(name)[-1][-1])
    assert requirements("sockeye@1.13.1")[0][0] == "torch==1.13.1"
    assert requirements("sockeye")[1] == ["--no-deps", "sockeye==3.1.34"]
    assert requirements("ctranslate2-int8") == requirements("ctranslate2")


def fake_python(folder: Path, pip: str) -> Path:
    """A Python whose `-m venv` makes a Python whose pip does this."""
    stub = folder / "made"
    stub.write_text(f"#!/bin/sh\n{pip}\n")
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nmkdir -p "$4/bin"\ncp {stub} "$4/bin/python"\nchmod +x "$4/bin/python"\n'
    )
    python.chmod(0o755)
    return python


def test_environment_that_cannot_be_made(peers: ModuleType, tmp_path: Path) -> None:
    python = fake_python(tmp_path, "echo 'ERROR: No matching distribution found' >&2; exit 1")
    with pytest.raises(UserError) as caught:
        peers.environment(tmp_path / "envs", "ctranslate2", str(python))
    home = tmp_path / "envs" / "ctranslate2"
    assert str(caught.value) == (
        f"{home}: no environment for ctranslate2: ERROR: No matching distribution found; it needs "
        f"a network, see `{home}/bin/python -m pip install --quiet ctranslate2==4.8.5`, or leave "
        "ctranslate2 out by --contenders"
    )
    with pytest.raises(UserError, match=r"no environment for sockeye: .*No such file"):
        peers.environment(tmp_path / "envs", "sockeye", str(tmp_path / "nowhere"))


def test_environment_is_made_once(peers: ModuleType, tmp_path: Path) -> None:
    python = fake_python(tmp_path, f"echo $4 $5 $6 >> {tmp_path / 'installed'}")
    for _ in range(2):
        python_of_environment = peers.environment(tmp_path / "envs", "sockeye@1.13.1", str(python))
        assert python_of_environment == tmp_path / "envs" / "sockeye-1.13.1" / "bin" / "python"
    installed = (tmp_path / "installed").read_text().splitlines()
    assert [line.split()[1] for line in installed] == ["torch==1.13.1", "--no-deps"]


def test_all_get_the_same_pieces(peers: ModuleType, small: Small, tmp_path: Path) -> None:
    cfg = composed(tuple(small.overrides("combiner=none")))
    prepared = prepare(cfg, {})
    peers.write_pieces(prepared, tmp_path / "pieces", limit=5)
    model = sentencepiece.SentencePieceProcessor(model_file=str(prepared.folder / "target.model"))
    texts = {"train": prepared.train, "test": prepared.tests["test"]}
    for name, split in texts.items():
        count = 5 if name == "test" else len(split)
        for side, lines in (("src", split.source_texts), ("trg", split.target_texts)):
            written = (tmp_path / "pieces" / f"{name}.{side}").read_text("utf-8").splitlines()
            assert written == [" ".join(model.encode(line, out_type=str)) for line in lines[:count]]
    ids = json.loads((tmp_path / "pieces" / "vocab.json").read_text("utf-8"))
    assert sorted(ids.values()) == list(range(200))
    listed = (tmp_path / "pieces" / "vocab.txt").read_text("utf-8").splitlines()
    assert ["<pad>", "<unk>", "<s>", "</s>", *listed] == sorted(ids, key=ids.__getitem__)


@pytest.fixture
def command(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[tuple[str, int]]]:
    """The command with runs that are made up; what it ran, in order."""
    ran: list[tuple[str, int]] = []

    def measured(self: object, contender: str, number: int) -> dict[str, float]:
        ran.append((contender, number))
        return {"sentences_per_second": 100.0 * number}

    monkeypatch.setattr(peers.Benchmark, "prepare", lambda self: None)
    monkeypatch.setattr(peers.Benchmark, "train", measured)

    def run(*arguments: object) -> list[tuple[str, int]]:
        ran.clear()
        extra_arguments = [
            "train",
            "--data",
            tmp_path,
            "--json",
            tmp_path / "figures.json",
            *arguments,
        ]
        monkeypatch.setattr(peers.sys, "argv", ["benchmark_peers.py", *map(str, extra_arguments)])
        peers.main()
        return list(ran)

    return run


def test_contenders_run_in_turn(command: Callable[..., list[tuple[str, int]]]) -> None:
    assert command("--rounds", 2, "--contenders", "ours-bf16,sockeye@1.13.1") == [
        ("ours-bf16", 1),
        ("sockeye@1.13.1", 1),
        ("ours-bf16", 2),
        ("sockeye@1.13.1", 2),
    ]


def test_stopped_benchmark_continues(
    command: Callable[..., list[tuple[str, int]]], tmp_path: Path
) -> None:
    both = ["--contenders", "ours-bf16,sockeye"]
    command("--rounds", 2, *both)
    file = tmp_path / "figures.json"
    record = json.loads(file.read_bytes())
    file.write_text(json.dumps(record | {"runs": record["runs"][:3]}))
    assert command("--rounds", 3, *both) == [("sockeye", 2), ("ours-bf16", 3), ("sockeye", 3)]
    runs = json.loads(file.read_bytes())["runs"]
    assert [(run["contender"], run["round"]) for run in runs] == [
        (name, number) for number in (1, 2, 3) for name in ("ours-bf16", "sockeye")
    ]
    assert [run["sentences_per_second"] for run in runs] == [100, 100, 200, 200, 300, 300]


def test_other_settings_do_not_mix(
    command: Callable[..., list[tuple[str, int]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command("--rounds", 1, "--contenders", "ours-bf16")
    with pytest.raises(SystemExit) as stopped:
        command("--rounds", 1, "--contenders", "ours-bf16", "--threads", 1)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'figures.json'}: measured with other settings; remove it, or give "
        "another --json\n"
    )


def test_unknown_contender(
    command: Callable[..., list[tuple[str, int]]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("--contenders", "ours-bf16,sockeye@1.13.1,openmnt")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: --contenders openmnt: unknown; did you mean 'opennmt' or 'joeynmt'?\n"
    )


@pytest.mark.slow
def test_ours_is_timed(small: Small) -> None:
    """The command as it is, with nmt_feat alone."""
    settings = [f"{k}={v}" for k, v in SETTINGS.items() if k != "subword.vocab_size"]
    paths = ["--data", small.corpus, "--work", small.folder, "--json", small.folder / "figures"]
    arguments = ["--contenders", "ours-fp32", "--rounds", 1, "--warmup", 1, "--updates", 4]
    arguments += [
        "--corpus",
        "embedded",
        "--threads",
        1,
        "--ours",
        "data.vocab_size=200",
        *settings,
    ]
    command = [sys.executable, TOOLS / "benchmark_peers.py", "train", *paths, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads((small.folder / "figures").read_bytes())["runs"]
    assert run["updates"] == 4
    assert 0 < run["dev_perplexity"] < 1000
    assert run["parameters"] > 0
    assert run["peak_memory_mib"] > 50
