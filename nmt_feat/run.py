"""A run from its settings to its result: found again, resumed or trained, tested, recorded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import save as serialize
from torch.multiprocessing.spawn import ProcessRaisedException

from nmt_feat.corpus.prepare import Prepared, fingerprint, prepare
from nmt_feat.corpus.store import Split
from nmt_feat.errors import UserError
from nmt_feat.evaluation.metrics import Scores, reading_accuracy, score
from nmt_feat.model.build import arithmetic, build_model, check_widths, unused
from nmt_feat.model.transformer import Transformer
from nmt_feat.report.records import (
    FINISHED,
    CurvePoint,
    RunRecord,
    code_revision,
    library_versions,
    machine,
    method_name,
    peak_memory_mib,
    read_record,
    write_hypotheses,
    write_record,
)
from nmt_feat.report.sweep import current
from nmt_feat.report.tables import summary
from nmt_feat.schema import CombinerConfig, TrainConfig
from nmt_feat.search import translate_split
from nmt_feat.training.checkpoints import (
    Checkpoints,
    restore,
    weights,
    write_atomically,
    write_sums,
)
from nmt_feat.training.loop import Progression, Trainer, build_optimizer
from nmt_feat.training.progress import Progress

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
DEFAULT_THREADS = torch.get_num_threads()


def settle(cfg: TrainConfig, sweep: bool, console: Console) -> TrainConfig:
    """The settings as they take effect; wrong ones are errors, unused ones of a sweep are said.

    Features are sorted by name, since order carries no meaning, and dropped for words only.
    """
    cfg.check()
    combiner, features = cfg.combiner, dict(sorted(cfg.features.items()))
    if combiner._target_ is None:
        if features:
            console.print(f"combiner=none: words only, without {', '.join(features)}")
        features = {}
    elif not features:
        raise UserError(
            "features=[]: the combiner has nothing to merge; choose features, for instance "
            "features=[upos,deprel], or combiner=none"
        )
    left = unused(combiner)
    if left:
        name = method_name(combiner._target_)
        if not sweep:
            path = "combiner.bias" if left[0] == "bias" else f"combiner.args.{left[0]}"
            raise UserError(f"combiner={name} takes no {', '.join(left)}; leave {path} out")
        console.print(f"combiner={name}: unused: {', '.join(left)}")
    cfg = dataclasses.replace(
        cfg,
        features=features,
        combiner=CombinerConfig()
        if combiner._target_ is None
        else dataclasses.replace(
            combiner,
            bias=None if "bias" in left else combiner.bias,
            args={k: v for k, v in combiner.args.items() if k not in left},
        ),
    )
    check_widths(cfg.combiner, features, cfg.model)
    build_optimizer(cfg.optimizer, torch.nn.Linear(1, 1))
    return cfg


def determining(cfg: TrainConfig, data: str) -> dict[str, Any]:
    """The settings that determine the result; `data` is the fingerprint of the prepared data.

    Where files lie, how many processes annotate and what is shown change nothing.
    """
    settings = dataclasses.asdict(cfg)
    del settings["paths"]
    for name in ("progress", "log_every"):
        del settings["trainer"][name]
    source = {k: settings["data"][k] for k in ("name", "source_lang", "target_lang", "tokenized")}
    settings["data"] = {**source, "limit": cfg.data.limit, "hash": data}
    settings["annotator"] = cfg.annotator._target_ if cfg.features else None
    return settings


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def folder_name(cfg: TrainConfig, settings: dict[str, Any]) -> str:
    """`<combiner>-<features>-s<seed>-<hash8>`."""
    parts = [method_name(cfg.combiner._target_)]
    if cfg.features:
        parts.append("+".join(cfg.features))
    return "-".join([*parts, f"s{cfg.seed}", digest(settings)[:8]])


def model_for(cfg: TrainConfig, prepared: Prepared) -> Transformer:
    """The untrained model for prepared data."""
    return build_model(
        cfg.model,
        cfg.combiner,
        cfg.features,
        {name: vocab.size for name, vocab in prepared.encoder.features.items()},
        prepared.encoder.subwords.size,
        prepared.target.size,
        cfg.seed,
    )


def make_fabric(cfg: TrainConfig) -> Fabric:
    """Devices, processes and precision by Lightning Fabric."""
    torch.set_num_threads(cfg.trainer.threads or DEFAULT_THREADS)
    torch.use_deterministic_algorithms(cfg.trainer.deterministic)
    try:
        return Fabric(
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            # Spawned processes, unlike a script started again, also work inside a Hydra sweep.
            strategy="ddp_spawn" if cfg.trainer.devices > 1 else "auto",
            precision=cfg.trainer.precision,  # type: ignore[arg-type]
        )
    except Exception as error:  # of several types: devices that are not there
        found = (
            f"trainer.accelerator={cfg.trainer.accelerator} trainer.devices={cfg.trainer.devices}"
        )
        raise UserError(f"{found}: cannot be had here ({error})") from error


def fit(fabric: Fabric, cfg: TrainConfig, folder: Path) -> Progression:
    """Train or resume in each process; returns the first one's progression."""
    torch.set_num_threads(cfg.trainer.threads or DEFAULT_THREADS)
    prepared = prepare(cfg, cfg.features)
    progress = Progress(Console(), fabric.global_rank == 0, cfg.trainer.progress)
    trainer = Trainer(cfg, prepared, model_for(cfg, prepared), folder, fabric, progress)
    trainer.resume()
    if trainer.at.step and not trainer.at.finished:
        progress.say(f"resumed at update {trainer.at.step} of {cfg.trainer.max_steps}")
    return trainer.fit()


def evaluate(
    cfg: TrainConfig, model: Transformer, prepared: Prepared, split: Split, folder: Path, name: str
) -> Scores:
    """Translate a split by the run's decoding, write the hypotheses, score them."""
    device = next(model.parameters()).device
    found = translate_split(model, split, list(cfg.features), cfg.decoding, device)
    texts = [[prepared.target.decode(h.ids) for h in hypotheses] for hypotheses in found]
    best = [hypotheses[0] for hypotheses in texts]
    write_hypotheses(folder, name, best)
    if cfg.decoding.nbest > 1:
        lines = [
            f"{i} ||| {text} ||| {h.score:.4f}"
            for i, hypotheses in enumerate(found)
            for h, text in zip(hypotheses, texts[i], strict=True)
        ]
        write_hypotheses(folder, f"{name}.nbest", lines)
    scores = score(best, split.target_texts, cfg.data.tokenized)
    if cfg.data.readings:
        values = [[split.feature_text(n, i) for n in cfg.features] for i in range(len(split))]
        scores.reading = reading_accuracy(split.source_texts, split.target_texts, best, values)
    return scores


def parameter_counts(model: Transformer) -> dict[str, int]:
    """Trainable numbers: all, the combiner's, the features' tables'."""

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    source = model.source
    return {
        "total": count(model),
        "combiner": count(source.combiner),
        "features": count(source.features),
    }


def keep(cfg: TrainConfig, prepared: Prepared, folder: Path) -> None:
    """Write into the run's folder all that translation needs beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder").mkdir(exist_ok=True)
    prepared.encoder.save(folder / "encoder")
    prepared.target.save(folder / "encoder" / "target")
    kept = dataclasses.asdict(cfg)
    if cfg.features and cfg.annotator.model:
        copy = folder / "annotator" / Path(cfg.annotator.model).name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(cfg.annotator.model).expanduser(), copy)
        kept["annotator"]["model"] = f"annotator/{copy.name}"
    write_atomically(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(kept)).encode())


def train_run(cfg: TrainConfig, sweep: bool = False) -> RunRecord:
    """Train and test one run, or find it finished. Returns its record; its folder is printed."""
    console = Console()
    begun = time.perf_counter()
    cfg = settle(cfg, sweep, console)
    settings = determining(cfg, fingerprint(cfg, cfg.features))
    folder = Path(cfg.paths.runs) / folder_name(cfg, settings)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            if (folder / FINISHED).exists():
                try:
                    record = read_record(folder / FINISHED)
                except UserError as error:
                    raise UserError(f"{error} after deleting {folder}") from None
                current.finished(folder, trained=False)
                console.print(f"finished before: {folder}", markup=False)
            else:
                record = _train(cfg, settings, folder, console, begun)
    except Timeout:
        raise UserError(f"{folder}: another process is training this run; wait for it") from None
    if sweep:
        return record
    console.print(summary(record))
    following = "none,concat,add,average,gate" if cfg.features else "concat"
    for line in (
        f"written to {folder}",
        f"translate with it: python translate.py run={folder} input=FILE",
        f"try next: python train.py -m combiner={following} seed=1,2,3",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return record


def _train(
    cfg: TrainConfig, settings: dict[str, Any], folder: Path, console: Console, begun: float
) -> RunRecord:
    fabric = make_fabric(cfg)
    prepared = prepare(cfg, cfg.features, lambda phase: console.print(phase, style="dim"))
    for note in prepared.notes:
        console.print(note, markup=False, highlight=False)
    console.print(prepared.report)
    keep(cfg, prepared, folder)
    record = RunRecord(
        method=method_name(cfg.combiner._target_),
        features=list(cfg.features),
        seed=cfg.seed,
        data=cfg.data.name,
        hash=digest(settings),
        settings=settings,
        config=dataclasses.asdict(cfg),
        data_hashes={"prepared": prepared.fingerprint},
        code=code_revision(),
        libraries=library_versions(),
        machine=machine(),
    )
    write_record(folder, record, finished=False)
    current.started(folder)
    model = model_for(cfg, prepared)
    record.parameters = parameter_counts(model)
    widths = arithmetic(model.source.combiner)
    console.print(f"{record.method}: {widths}; {record.parameters['total']:,} parameters")
    before = Checkpoints(folder / "checkpoints", 1).index.get("meta", {}).get("elapsed", 0.0)
    at: Progression
    if cfg.trainer.devices > 1:
        try:
            at = fabric.launch(fit, cfg, folder)  # type: ignore[arg-type]
        except ProcessRaisedException as error:  # it has the traceback as text
            _, mistake, message = (
                str(error).strip().rpartition(f"{UserError.__module__}.UserError: ")
            )
            if mistake:
                raise UserError(message) from None
            raise
    else:
        fabric.launch()
        at = fit(fabric, cfg, folder)
    chosen, steps = Checkpoints(folder / "checkpoints", cfg.trainer.average).select(
        cfg.trainer.select
    )
    restore(model, chosen)
    write_atomically(
        folder / WEIGHTS, serialize({k: v.contiguous() for k, v in weights(model).items()})
    )
    write_sums(folder, (WEIGHTS, "encoder/*", "annotator/*"))
    model.to(fabric.device).eval()
    splits = {"dev": prepared.dev, **prepared.tests}
    scores = {}
    with console.status("translating"):
        for name, split in splits.items():
            scores[name] = evaluate(cfg, model, prepared, split, folder, name)
            record.files[name] = f"{name}.hyp"
    record.dev = scores.pop("dev")
    record.tests = scores
    record.updates = at.step
    record.selected_step = at.best_step
    record.selected = f"{cfg.trainer.select} of updates {', '.join(map(str, steps))}"
    record.curve = [CurvePoint(int(p["step"]), p["loss"], p["bleu"]) for p in at.curve]
    record.train_seconds = at.elapsed
    record.seconds = before + time.perf_counter() - begun
    record.tokens_per_second = at.tokens / at.seconds
    record.peak_memory_mib = peak_memory_mib()
    write_record(folder, record)
    current.finished(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return record
