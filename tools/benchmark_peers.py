"""Compares the speed of nmt_feat with other toolkits, in training and in translation.

python tools/benchmark_peers.py train --data FOLDER --shape tiny --threads 2 --json tiny.json
python tools/benchmark_peers.py translate --data FOLDER --shape tiny --threads 2 --json beam.json

Sockeye, OpenNMT-py, JoeyNMT and CTranslate2 are installed in separate environments. All get the
same pieces, model, token budget per batch and threads, and run in turn, round by round, timed by
the same clock. `sockeye@1.13.1` is Sockeye with another PyTorch. A command that is repeated
continues from the file of --json. The environments take several GiB if PyTorch comes with CUDA.
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
from nmt_feat.export.ctranslate2 import export_model, list_tuples
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.setup.artifacts import EXPORT
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.stored.provenance import code_revision, describe_machine, package_versions
from nmt_feat.runs.trained.model import TrainedModel
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
        """The shape as settings of nmt_feat."""
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
    """Write the text as pieces between spaces, and the vocabulary in the toolkits' forms."""
    folder.mkdir(parents=True, exist_ok=True)
    model = sentencepiece.SentencePieceProcessor(model_file=str(prepared.folder / "target.model"))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    if with_spaces := [piece for piece in pieces if piece.split() != [piece]]:
        raise UserError(f"piece {with_spaces[0]!r} has a space, at which other toolkits would cut")
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


def export_ours(folder: Path, prepared: Prepared, count: int | None, tokens: Path) -> Path:
    """Export our model, in fp32, and write the test's sentences as the tokens of the export."""
    run, out = TrainedModel(folder), folder / EXPORT
    tuples = list_tuples(prepared.train, [])
    assert isinstance(run.model, Transformer)
    if not out.exists():
        export_model(run.model.cpu(), tuples, out, None)
    names = {int(piece): f"t{i}" for i, piece in enumerate(tuples[:, 0])}
    test: EncodedSplit = next(iter(prepared.tests.values()))
    rows = (test.source.row(n) for n in range(min(len(test), count or len(test))))
    lines = [" ".join(names.get(int(i), "<unk>") for i in row) for row in rows]
    tokens.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def ratios(
    runs: Sequence[dict[str, Any]], ours: str, peer: str, unit: str = "sentences_per_second"
) -> list[float]:
    """For each round, how many times as fast as the peer nmt_feat was."""
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
    """Markdown tables: medians of each contender, and ratios with median, minimum and maximum.

    Translations of different models differ in length, so their ratios are also those of pieces/s.
    """
    runs = record["runs"]
    names = list(dict.fromkeys(run["contender"] for run in runs))
    keys = [key for key in COLUMNS if any(key in run for run in runs)]
    lines = ["| | " + " | ".join(COLUMNS[key][0] for key in keys) + " |"]
    lines.append("|---|" + "---|" * len(keys))
    for name in names:
        cells = []
        for key in keys:
            values = [run[key] for run in runs if run["contender"] == name and key in run]
            cells.append(format(statistics.median(values), COLUMNS[key][1]) if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ours = [name for name in names if name.startswith("ours")]
    for unit in ("sentences_per_second", "pieces_per_second"):
        if unit in keys:
            title = f"| times as fast as, {COLUMNS[unit][0]} | " + " | ".join(ours) + " |"
            lines += ["", title, "|---|" + "---|" * len(ours)]
            for name in (name for name in names if name not in ours):
                ratios_of_variants = [ratios(runs, variant, name, unit) for variant in ours]
                cells = [
                    f"{statistics.median(rs):.2f} ({min(rs):.2f} to {max(rs):.2f})" if rs else ""
                    for rs in ratios_of_variants
                ]
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


class Benchmark:
    """The contenders' runs; each is written to a file, so that a benchmark can continue."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.shape = options, SHAPES[options.shape]
        self.work: Path = options.work.resolve()
        self.pythons: dict[str, Path] = {}
        free = ("json", "work", "envs", "rounds", "contenders", "python")
        settings = {k: str(v) for k, v in vars(options).items() if k not in free}
        self.record: dict[str, Any] = {"settings": settings, "shape": asdict(self.shape)}
        self.record |= {"code": code_revision(), "machine": describe_machine()}
        self.record |= {"versions": {"ours": package_versions()}, "runs": []}
        if options.json.exists():
            before = json.loads(options.json.read_bytes())
            if before["settings"] != settings or before["shape"] != asdict(self.shape):
                raise UserError(
                    f"{options.json}: measured with other settings; remove it, "
                    "or give another --json"
                )
            self.record["runs"], self.record["versions"] = before["runs"], before["versions"]
        threads = str(options.threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
        self.env = os.environ | {f"{name}_NUM_THREADS": threads for name in names}
        # Two peers load their checkpoints in a way that newer versions of PyTorch refuse.
        self.env |= {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "TOKENIZERS_PARALLELISM": "false"}

    def prepare(self) -> None:
        """Prepare the environments, the data, and the pieces for all."""
        for name in self.options.contenders:
            self.pythons[name] = Path(sys.executable)
            if toolkit(name) != "ours":
                self.pythons[name] = environment(self.options.envs, name, self.options.python)
                self.record["versions"][name] = versions(self.pythons[name], name)
                print(name, *(f"{k} {v}" for k, v in self.record["versions"][name].items()))
        console = Console(stderr=True)
        cfg = resolve_settings(compose_settings(self.settings("ours-fp32")), False, console)
        self.prepared = prepare(cfg, cfg.features, print)
        self.pieces = self.work / "pieces"
        write_pieces(self.prepared, self.pieces, getattr(self.options, "sentences", None))

    def settings(self, contender: str) -> list[str]:
        """The settings of nmt_feat on the command line of train.py."""
        options = self.options
        return [
            *(f"data={options.corpus}", f"data.folder={options.data.resolve()}", "combiner=none"),
            *self.shape.settings(),
            *(f"trainer.threads={options.threads}", "trainer.accelerator=cpu", "trainer.devices=1"),
            f"trainer.precision={OURS.get(contender, '32-true')}",
            *(f"paths.cache={self.work / 'cache'}", f"seed={options.seed}"),
            *options.ours,
        ]

    def probe(self, contender: str, action: str, job: dict[str, Any]) -> dict[str, Any]:
        """Run a contender once, in a separate process; its figures."""
        folder = self.work / "jobs" / self.options.shape
        folder.mkdir(parents=True, exist_ok=True)
        ours = toolkit(contender) == "ours"
        report, log = folder / f"{contender}.report.json", folder / f"{contender}.{action}.log"
        full = asdict(self.shape) | {"threads": self.options.threads, "seed": self.options.seed}
        full |= {"data": str(self.pieces), "settings": self.settings(contender) if ours else []}
        full |= {"beam": 5, "batch": BATCHES.get(toolkit(contender)), "report": str(report)} | job
        report.unlink(missing_ok=True)
        file = folder / f"{contender}.json"
        file.write_text(json.dumps(full), encoding="utf-8")
        env = {k: v for k, v in self.env.items() if k != "PYTHONPATH"}
        env |= {"PYTHONPATH": str(ROOT)} if ours else {}
        command = [str(self.pythons[contender]), str(PROBE), toolkit(contender), action, str(file)]
        with log.open("wb") as out:
            subprocess.run(command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        if not report.exists():
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise UserError(f"{contender}: {action} failed: {' '.join(last)}; see {log}")
        figures: dict[str, Any] = json.loads(report.read_bytes())
        return figures

    def model(self, contender: str) -> Path:
        """The folder of a contender's fully trained model."""
        folder: Path = self.work / "models" / self.options.shape / contender.replace("@", "-")
        return folder

    def learn(self, contender: str) -> dict[str, Any]:
        """Train with all updates, measure dev perplexity, store the model."""
        options, folder = self.options, self.model(contender)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        job = {"warmup": options.warmup, "updates": options.updates, "seconds": 0, "learn": True}
        figures = self.probe(contender, "train", job | {"model": str(folder)})
        (folder / TRAINED).write_text(self.identity(contender), encoding="utf-8")
        return figures

    def identity(self, contender: str) -> str:
        """All that determines a trained model, as text."""
        options = self.options
        training = [options.warmup + options.updates, options.seed, asdict(self.shape)]
        return json.dumps([*training, self.settings(contender), self.prepared.fingerprint])

    def train(self, contender: str, number: int) -> dict[str, Any]:
        """Train with all updates in the first round; other rounds only measure speed."""
        if number == 1:
            return self.learn(contender)
        options, scratch = self.options, self.work / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        job = {"warmup": options.warmup, "updates": options.updates, "seconds": options.seconds}
        return self.probe(contender, "train", job | {"learn": False, "model": str(scratch)})

    def translate(self, contender: str, number: int) -> dict[str, Any]:
        """Translate with the contender's trained model; CTranslate2 uses that of nmt_feat."""
        kind = toolkit(contender)
        trainer = "ours-fp32" if kind in ("ours", "ctranslate2") else contender
        folder, trained = self.model(trainer), self.model(trainer) / TRAINED
        self.pythons.setdefault(trainer, Path(sys.executable))
        if not trained.exists() or trained.read_text(encoding="utf-8") != self.identity(trainer):
            print(f"training {trainer} before it translates", flush=True)
            self.learn(trainer)
        job: dict[str, Any] = {"model": str(folder), "exported": contender == "ours-exported"}
        job |= {"input": str(self.pieces / "test.txt")}
        if kind in ("ours", "ctranslate2"):
            tokens = self.pieces / f"test.{self.options.shape}.tokens"
            out = export_ours(folder, self.prepared, self.options.sentences, tokens)
            if kind == "ctranslate2":
                job |= {"model": str(out), "tokens": str(tokens), "batch_tokens": 8192 // 5}
                job |= {"compute_type": "int8" if "int8" in contender else "float32"}
                job |= {"patience": 2 if "patience2" in contender else 1}
        return self.probe(contender, "translate", job)

    def run(self) -> None:
        """Run the contenders in turn, round by round, without runs that the file has already."""
        self.prepare()
        done = {(run["round"], run["contender"]) for run in self.record["runs"]}
        measure = self.train if self.options.what == "train" else self.translate
        for number in range(1, self.options.rounds + 1):
            for contender in self.options.contenders:
                if (number, contender) in done:
                    continue
                figures = measure(contender, number)
                run = {"round": number, "contender": contender} | figures
                self.record["runs"].append(run)
                self.options.json.write_text(json.dumps(self.record, indent=2) + "\n")
                phrases = [
                    f"{COLUMNS[key][0]} {value:{COLUMNS[key][1]}}"
                    for key, value in figures.items()
                    if key in COLUMNS
                ]
                print(f"round {number}, {contender}: {', '.join(phrases)}", flush=True)
        print(tables(self.record))


def main() -> None:
    """Measure, print, write."""
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
    options = parser.parse_args()
    contenders = TRAINERS if options.what == "train" else TRANSLATORS
    options.contenders = options.contenders.split(",") if options.contenders else contenders
    with print_mistakes():
        for name in options.contenders:
            if name.partition("@")[0] not in contenders:
                raise UserError(f"--contenders {name}: unknown; {suggest(name, contenders)}")
        Benchmark(options).run()


if __name__ == "__main__":
    main()
