"""nmt_feat under `probe.py`."""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from probe import Clock, Job, Stopwatch
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1]))

from nmt_feat.base.checksums import hash_files, write_sums
from nmt_feat.base.files import write_atomically
from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.data.prepare import prepare
from nmt_feat.evaluation.split_decoding import compute_dev_loss
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.setup.artifacts import WEIGHTS, build_run_model, save_for_translation
from nmt_feat.runs.setup.build_trainer import build_trainer
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.files import read_lines
from nmt_feat.training.checkpoints import model_tensors, to_safetensors

seen: dict[str, Any] = {}


def train(job: Job, clock: Clock) -> None:
    """Train until the clock says `Done`."""
    console = Console(stderr=True)
    cfg = resolve_settings(compose_settings(job["settings"]), False, console)
    fabric = make_fabric(cfg)
    fabric.launch()
    prepared = prepare(cfg, cfg.features)
    model = build_run_model(cfg, prepared.encoder, prepared.target)
    folder = Path(job["model"])
    progress = Progress(console, enabled=False)
    trainer = build_trainer(cfg, prepared, model, folder, fabric, progress)
    seen.update(cfg=cfg, prepared=prepared, model=model, trainer=trainer)
    model.train()
    while True:
        before = trainer.state.sentences
        trainer.update()
        clock.update(trainer.state.sentences - before)


def finish(job: Job) -> dict[str, float]:
    """Dev perplexity, in fp32, without label smoothing; what translation needs is kept."""
    cfg, prepared, model, trainer = (seen[n] for n in ("cfg", "prepared", "model", "trainer"))
    budget, device = cfg.trainer.batch_tokens, trainer.fabric.device
    model.eval()
    with torch.no_grad():
        names = list(prepared.encoder.features)
        objective = trainer.bare_objective
        loss, pieces = compute_dev_loss(objective, prepared.dev, names, budget, device)
    folder = Path(job["model"])
    save_for_translation(cfg, prepared, folder)
    packed = to_safetensors(model_tensors(model))
    write_atomically(folder / WEIGHTS, packed)
    write_sums(folder, hash_files(folder, (WEIGHTS, "encoder/*")))
    parameters = sum(p.numel() for p in model.parameters())
    return {"dev_perplexity": math.exp(loss / pieces), "parameters": parameters}


def translate(job: Job) -> dict[str, float]:
    """Beam search of raw lines, natively or by the export; subwords and encoding count too."""
    run = TrainedModel(job["model"], job["threads"])
    engine = "ctranslate2" if job["exported"] else "native"
    if job["exported"]:
        _ = run.exported_model  # loaded before
    cfg = TranslateConfig(run=job["model"], beam=job["beam"], engine=engine)
    with Stopwatch() as watch:
        sentences = run.annotation.annotate_texts(read_lines(job["input"]), None, job["input"])
        where = [f"{job['input']}:{i}" for i in range(1, len(sentences) + 1)]
        found = run.search_translations(sentences, where, cfg)
    return watch.figures([len(best[0].ids) for best in found])
