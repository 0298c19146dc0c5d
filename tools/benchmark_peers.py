"""nmt_feat beside other toolkits: speed of training and of translation, by one clock, in turn.

python tools/benchmark_peers.py train --data FOLDER --shape tiny --threads 2 --json tiny.json
python tools/benchmark_peers.py translate --data FOLDER --shape tiny --threads 2 --json beam.json

Sockeye, OpenNMT-py, JoeyNMT and CTranslate2 are installed each in an environment of its own. All
get the same pieces, model, token budget per batch and threads, and run one after the other, round
by round. `sockeye@1.13.1` is Sockeye with another PyTorch. A command that is given again continues
where the file of --json ends. The environments take several GiB where PyTorch brings CUDA.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sentencepiece
from peer_environments import environment, toolkit, versions
from rich.console import Console

from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.hydra_program import print_mistakes
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError, suggest
from nmt_feat.export.ctranslate2 import export, list_tuples
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.artifacts import EXPORT
from nmt_feat.runs.provenance import code_revision, describe_machine, package_versions
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.subwords import SPECIAL

PROBE = Path(__file__).parent / "peers" / "probe.py"
ROOT = Path(__file__).parents[1]
TRAINED = "trained.json"


@dataclass(frozen=True)
class Shape:
    """A model, the batch and the learning rate it is trained with."""

    dim: int
    ffn_dim: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    lr: float
    dropout: float = 0.3
    label_smoothing: float = 0.1
    batch_tokens: int = 4096
    lr_warmup: int = 100

    def settings(self) -> list[str]:
        """The same for nmt_feat."""
        model = ("dim", "ffn_dim", "heads", "encoder_layers", "decoder_layers", "dropout")
        return [
            *(f"model.{name}={getattr(self, name)}" for name in model),
            *("model.tie=all", "model.attention_dropout=0", "model.activation_dropout=0"),
            f"trainer.label_smoothing={self.label_smoothing}",
            f"trainer.batch_tokens={self.batch_tokens}",
            *("optimizer=inverse_sqrt", f"optimizer.lr={self.lr}"),
            f"optimizer.warmup={self.lr_warmup}",
        ]


SHAPES = {
    "tiny": Shape(128, 256, 4, 4, 4, 3e-3),
    "base": Shape(512, 2048, 8, 3, 3, 5e-4),
}
OURS = {"ours-bf16": "bf16-mixed", "ours-fp32": "32-true"}
TRAINERS = ["ours-bf16", "ours-fp32", "sockeye", "opennmt", "joeynmt"]
TRANSLATORS = [
    *("ours", "ours-exported", "sockeye", "opennmt", "joeynmt"),
    *("ctranslate2", "ctranslate2-patience2", "ctranslate2-int8"),
]
BATCHES = {"sockeye": 64, "opennmt": 64, "joeynmt": 64}
"""Sentences translated together; not tuned."""


def write_pieces(prepared: Prepared, folder: Path, limit: int | None) -> None:
    """The text as pieces with spaces between, and the vocabulary in the forms that are read."""
    folder.mkdir(parents=True, exist_ok=True)
    model = sentencepiece.SentencePieceProcessor(model_file=str(prepared.folder / "target.model"))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    if odd := [piece for piece in pieces if piece.split() != [piece]]:
        raise UserError(f"piece {odd[0]!r} has a space inside, which other toolkits would split at")
    (folder / "vocab.txt").write_text("\n".join(pieces[len(SPECIAL) :]) + "\n", encoding="utf-8")
    ids = {piece: i for i, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    test = next(iter(prepared.tests.values()))
    for name, split in {"train": prepared.train, "dev": prepared.dev, "test": test}.items():
        for side, rows in (("src", split.source), ("trg", split.target)):
            count = min(len(split), limit or len(split)) if name == "test" else len(split)
            lines = [" ".join(pieces[i] for i in rows.row(n)[:-1]) for n in range(count)]
            (folder / f"{name}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "\n".join(test.source_texts[:limit]) + "\n"
    (folder / "test.txt").write_text(text, encoding="utf-8")


def export_model(folder: Path, prepared: Prepared, count: int | None, tokens: Path) -> Path:
    """Export our model, in fp32, and write the test's sentences as the tokens of the export."""
    run, out = TrainedModel(folder), folder / EXPORT
    tuples = list_tuples(prepared.train, [])
    assert isinstance(run.model, Transformer)
    if not out.exists():
        export(run.model.cpu(), tuples, out, None)
    names = {int(piece): f"t{i}" for i, piece in enumerate(tuples[:, 0])}
    test: EncodedSplit = next(iter(prepared.tests.values()))
    rows = (test.source.row(n) for n in range(min(len(test), count or len(test))))
    lines = [" ".join(names.get(int(i), "<unk>") for i in row) for row in rows]
    tokens.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def ratios(
    runs: Sequence[dict[str, Any]], ours: str, peer: str, unit: str = "sentences_per_second"
) -> list[float]:
    """How many times as fast as a peer ours was, round by round."""
    speed = {(run["round"], run["contender"]): run[unit] for run in runs if unit in run}
    numbers = sorted({number for number, _ in speed})
    return [
        speed[number, ours] / speed[number, peer]
        for number in numbers
        if (number, ours) in speed and (number, peer) in speed
    ]


COLUMNS = {
    "sentences_per_second": ("sentences/s", ",.1f"),
    "sentences_per_update": ("sentences/update", ".1f"),
    "pieces_per_second": ("pieces/s", ",.0f"),
    "pieces_per_sentence": ("pieces/sentence", ".1f"),
    "cores": ("cores", ".2f"),
    "peak_memory_mib": ("peak memory, MiB", ",.0f"),
    "parameters": ("parameters", ",.0f"),
    "dev_perplexity": ("dev perplexity", ".2f"),
}


def tables(record: dict[str, Any]) -> str:
    """Markdown tables: medians of each contender, and ratios: median, minimum and maximum.

    Translations of different models differ in length, so their ratios are also those of pieces/s.
    """
    runs = record["runs"]
    names = list(dict.fromkeys(run["contender"] for run in runs))
    shown = [key for key in COLUMNS if any(key in run for run in runs)]
    lines = ["| | " + " | ".join(COLUMNS[key][0] for key in shown) + " |"]
    lines.append("|---|" + "---|" * len(shown))
    for name in names:
        cells = []
        for key in shown:
            found = [run[key] for run in runs if run["contender"] == name and key in run]
            cells.append(format(statistics.median(found), COLUMNS[key][1]) if found else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ours = [name for name in names if name.startswith("ours")]
    for unit in ("sentences_per_second", "pieces_per_second"):
        if unit in shown:
            title = f"| times as fast as, {COLUMNS[unit][0]} | " + " | ".join(ours) + " |"
            lines += ["", title, "|---|" + "---|" * len(ours)]
            for name in (name for name in names if name not in ours):
                pairs = [ratios(runs, own, name, unit) for own in ours]
                cells = [
                    f"{statistics.median(p):.2f} ({min(p):.2f} to {max(p):.2f})" if p else ""
                    for p in pairs
                ]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


class Benchmark:
    """The contenders' runs, kept in a file after each, so that a stopped benchmark continues."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.shape = given, SHAPES[given.shape]
        self.work: Path = given.work.resolve()
        self.pythons: dict[str, Path] = {}
        free = ("json", "work", "envs", "rounds", "contenders", "python")
        settings = {k: str(v) for k, v in vars(given).items() if k not in free}
        self.record: dict[str, Any] = {"settings": settings, "shape": asdict(self.shape)}
        self.record |= {"code": code_revision(), "machine": describe_machine()}
        self.record |= {"versions": {"ours": package_versions()}, "runs": []}
        if given.json.exists():
            before = json.loads(given.json.read_bytes())
            if before["settings"] != settings or before["shape"] != asdict(self.shape):
                raise UserError(
                    f"{given.json}: measured with other settings; remove it, or give another --json"
                )
            self.record["runs"], self.record["versions"] = before["runs"], before["versions"]
        threads = str(given.threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
        self.env = os.environ | {f"{name}_NUM_THREADS": threads for name in names}
        # Two of the peers load their own checkpoints in a way that newer PyTorch refuses.
        self.env |= {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "TOKENIZERS_PARALLELISM": "false"}

    def prepare(self) -> None:
        """The environments, the prepared data, and the pieces that all get."""
        for name in self.given.contenders:
            self.pythons[name] = Path(sys.executable)
            if toolkit(name) != "ours":
                self.pythons[name] = environment(self.given.envs, name, self.given.python)
                self.record["versions"][name] = versions(self.pythons[name], name)
                print(name, *(f"{k} {v}" for k, v in self.record["versions"][name].items()))
        console = Console(stderr=True)
        cfg = resolve_settings(compose_settings(self.settings("ours-fp32")), False, console)
        self.prepared = prepare(cfg, cfg.features, print)
        self.pieces = self.work / "pieces"
        write_pieces(self.prepared, self.pieces, getattr(self.given, "sentences", None))

    def settings(self, contender: str) -> list[str]:
        """nmt_feat's settings on the command line of train.py."""
        given = self.given
        return [
            *(f"data={given.corpus}", f"data.folder={given.data.resolve()}", "combiner=none"),
            *self.shape.settings(),
            *(f"trainer.threads={given.threads}", "trainer.accelerator=cpu", "trainer.devices=1"),
            f"trainer.precision={OURS.get(contender, '32-true')}",
            *(f"paths.cache={self.work / 'cache'}", f"seed={given.seed}"),
            *given.ours,
        ]

    def probe(self, contender: str, what: str, job: dict[str, Any]) -> dict[str, Any]:
        """One run of one contender, in a process of its own. Returns its figures."""
        folder = self.work / "jobs" / self.given.shape
        folder.mkdir(parents=True, exist_ok=True)
        ours = toolkit(contender) == "ours"
        report, log = folder / f"{contender}.report.json", folder / f"{contender}.{what}.log"
        full = asdict(self.shape) | {"threads": self.given.threads, "seed": self.given.seed}
        full |= {"data": str(self.pieces), "settings": self.settings(contender) if ours else []}
        full |= {"beam": 5, "batch": BATCHES.get(toolkit(contender)), "report": str(report)} | job
        report.unlink(missing_ok=True)
        file = folder / f"{contender}.json"
        file.write_text(json.dumps(full), encoding="utf-8")
        env = {k: v for k, v in self.env.items() if k != "PYTHONPATH"}
        env |= {"PYTHONPATH": str(ROOT)} if ours else {}
        command = [str(self.pythons[contender]), str(PROBE), toolkit(contender), what, str(file)]
        with log.open("wb") as out:
            subprocess.run(command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        if not report.exists():
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{contender}: {what} failed: {' '.join(last)}; see {log}")
        figures: dict[str, Any] = json.loads(report.read_bytes())
        return figures

    def model(self, contender: str) -> Path:
        """The folder of the model that a contender has trained the whole way."""
        folder: Path = self.work / "models" / self.given.shape / contender.replace("@", "-")
        return folder

    def learn(self, contender: str) -> dict[str, Any]:
        """Train the whole way, ask what was learnt, keep the model."""
        given, folder = self.given, self.model(contender)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        job = {"warmup": given.warmup, "updates": given.updates, "seconds": 0, "learn": True}
        figures = self.probe(contender, "train", job | {"model": str(folder)})
        (folder / TRAINED).write_text(self.identity(contender), encoding="utf-8")
        return figures

    def identity(self, contender: str) -> str:
        """What a trained model is of."""
        given = self.given
        known = [given.warmup + given.updates, given.seed, asdict(self.shape)]
        return json.dumps([*known, self.settings(contender), self.prepared.fingerprint])

    def train(self, contender: str, number: int) -> dict[str, Any]:
        """The first round goes the whole way and asks what was learnt, the others time speed."""
        if number == 1:
            return self.learn(contender)
        given, scratch = self.given, self.work / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        job = {"warmup": given.warmup, "updates": given.updates, "seconds": given.seconds}
        return self.probe(contender, "train", job | {"learn": False, "model": str(scratch)})

    def translate(self, contender: str, number: int) -> dict[str, Any]:
        """Each with the model it has trained; ours and CTranslate2 with the same one."""
        kind = toolkit(contender)
        own = "ours-fp32" if kind in ("ours", "ctranslate2") else contender
        folder, trained = self.model(own), self.model(own) / TRAINED
        self.pythons.setdefault(own, Path(sys.executable))
        if not trained.exists() or trained.read_text(encoding="utf-8") != self.identity(own):
            print(f"training {own} before it translates", flush=True)
            self.learn(own)
        job: dict[str, Any] = {"model": str(folder), "exported": contender == "ours-exported"}
        job |= {"input": str(self.pieces / "test.txt")}
        if kind in ("ours", "ctranslate2"):
            tokens = self.pieces / f"test.{self.given.shape}.tokens"
            out = export_model(folder, self.prepared, self.given.sentences, tokens)
            if kind == "ctranslate2":
                job |= {"model": str(out), "tokens": str(tokens), "batch_tokens": 8192 // 5}
                job |= {"compute_type": "int8" if "int8" in contender else "float32"}
                job |= {"patience": 2 if "patience2" in contender else 1}
        return self.probe(contender, "translate", job)

    def run(self) -> None:
        """Round by round, one contender after the other; what is done already is left out."""
        self.prepare()
        done = {(run["round"], run["contender"]) for run in self.record["runs"]}
        measure = self.train if self.given.what == "train" else self.translate
        for number in range(1, self.given.rounds + 1):
            for contender in self.given.contenders:
                if (number, contender) in done:
                    continue
                figures = measure(contender, number)
                run = {"round": number, "contender": contender} | figures
                self.record["runs"].append(run)
                self.given.json.write_text(json.dumps(self.record, indent=2) + "\n")
                shown = [
                    f"{COLUMNS[key][0]} {value:{COLUMNS[key][1]}}"
                    for key, value in figures.items()
                    if key in COLUMNS
                ]
                print(f"round {number}, {contender}: {', '.join(shown)}", flush=True)
        print(tables(self.record))


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["train", "translate"])
    parser.add_argument("--data", type=Path, required=True, help="folder of Multi30k")
    parser.add_argument("--corpus", default="multi30k_tok", help="a file of conf/data")
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="the model")
    parser.add_argument("--contenders", help="names with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=50, help="updates not timed, at least 1")
    parser.add_argument(
        "--updates", type=int, default=200, help="updates timed at most, in the first round all"
    )
    parser.add_argument(
        "--seconds", type=float, default=30, help="train: timed at most, after the first round"
    )
    parser.add_argument("--sentences", type=int, help="translate: only the first ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ours", nargs="*", default=[], help="more settings of nmt_feat")
    parser.add_argument("--work", type=Path, default=Path("cache/peers"), help="models, logs")
    parser.add_argument("--envs", type=Path, default=Path("cache/peers/envs"), help="environments")
    parser.add_argument("--python", default=sys.executable, help="Python of the environments")
    parser.add_argument("--json", type=Path, required=True, help="file of the figures")
    given = parser.parse_args()
    known = TRAINERS if given.what == "train" else TRANSLATORS
    given.contenders = given.contenders.split(",") if given.contenders else known
    with print_mistakes():
        for name in given.contenders:
            if name.partition("@")[0] not in known:
                raise UserError(f"--contenders {name}: unknown; {suggest(name, known)}")
        Benchmark(given).run()


if __name__ == "__main__":
    main()
