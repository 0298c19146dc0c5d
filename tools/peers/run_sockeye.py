"""Sockeye 3 under `probe.py`."""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from probe import Clock, Job, Stopwatch, lengths
from sockeye import train as train_program
from sockeye import training
from sockeye import translate as translate_program

shared: dict[str, Any] = {}
"""Objects of the toolkit that hooks store for `finish`."""


def train(job: Job, clock: Clock) -> None:
    """Train until the clock says `Done`."""
    trainer = training.EarlyStoppingTrainer
    step, fit = trainer._step, trainer.fit

    def timed_step(self: Any, batch: Any) -> Any:
        stepped = step(self, batch)
        clock.update(batch.samples)
        return stepped

    def seen_fit(self: Any, train_iter: Any, validation_iter: Any, *rest: Any, **named: Any) -> Any:
        shared.update(trainer=self, dev=validation_iter)
        return fit(self, train_iter, validation_iter, *rest, **named)

    trainer._step, trainer.fit = timed_step, seen_fit
    data, both = Path(job["data"]), "{0}:{0}".format
    options = {
        "source": data / "train.src",
        "target": data / "train.trg",
        "validation-source": data / "dev.src",
        "validation-target": data / "dev.trg",
        "source-vocab": data / "vocab.json",
        "target-vocab": data / "vocab.json",
        "max-seq-len": both(256),
        "output": job["model"],
        "num-layers": f"{job['encoder_layers']}:{job['decoder_layers']}",
        "transformer-model-size": both(job["dim"]),
        "transformer-attention-heads": both(job["heads"]),
        "transformer-feed-forward-num-hidden": both(job["ffn_dim"]),
        "weight-tying-type": "src_trg_softmax",
        "transformer-dropout-prepost": both(job["dropout"]),
        "transformer-dropout-attention": both(0),
        "transformer-dropout-act": both(0),
        "label-smoothing": job["label_smoothing"],
        "label-smoothing-impl": "torch",
        "batch-type": "max-word",
        "batch-size": job["batch_tokens"],
        "batch-sentences-multiple-of": 1,
        "bucket-width": job.get("bucket_width", 4),
        "optimizer-betas": "0.9:0.98",
        "optimizer-eps": 1e-9,
        "gradient-clipping-type": "norm",
        "gradient-clipping-threshold": 1.0,
        "initial-learning-rate": job["lr"] * math.sqrt(job["lr_warmup"]),
        "learning-rate-scheduler-type": "inv-sqrt-decay",
        "learning-rate-warmup": job["lr_warmup"],
        "checkpoint-interval": 10**6,
        "max-updates": 10**6,
        "seed": job["seed"],
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    sys.argv = ["sockeye-train", *arguments, "--shared-vocab", "--use-cpu", "--overwrite-output"]
    train_program.main()


def finish(job: Job) -> dict[str, float]:
    """Measure dev perplexity, without label smoothing; the model is saved."""
    trainer, dev = shared["trainer"], shared["dev"]
    model = trainer.sockeye_model
    model.save_parameters(str(Path(job["model"]) / "params.best"))
    model.eval()
    dev.reset()
    total, count = 0.0, 0
    for batch in dev:
        with torch.inference_mode():
            out = model(batch.source, batch.source_length, batch.target, batch.target_length)
        labels = batch.labels["target_label"].long().flatten()
        logits = out["logits"].float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=0, reduction="sum")
        total += float(loss)
        count += int((labels != 0).sum())
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"dev_perplexity": math.exp(total / count), "parameters": parameters}


def translate(job: Job) -> dict[str, float]:
    """Translate the test text by beam search, after a few sentences: Sockeye traces its model."""
    source, out = Path(job["data"]) / "test.src", Path(job["model"]) / "test.out"
    start = Path(job["model"]) / "start.src"
    lines = source.read_text(encoding="utf-8").split("\n")[:-1]
    start.write_text("\n".join(lines[: job["batch"]]) + "\n", encoding="utf-8")
    original, watch = translate_program.read_and_translate, Stopwatch()

    def timed(**named: Any) -> None:
        original(**named | {"input_file": str(start)})
        with watch:
            original(**named)

    translate_program.read_and_translate = timed
    options = {
        "models": job["model"],
        "input": source,
        "output": out,
        "beam-size": job["beam"],
        "batch-size": job["batch"],
        "chunk-size": 10**5,
        "length-penalty-alpha": 1.0,
        "seed": job["seed"],
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    if job.get("int8"):
        arguments += ["--dtype", "int8"]
    sys.argv = ["sockeye-translate", *arguments, "--use-cpu"]
    translate_program.main()
    return watch.figures(lengths(out)[-len(lines) :])
