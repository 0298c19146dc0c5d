"""OpenNMT-py 3 under `probe.py`."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from onmt import inference_engine
from onmt import trainer as training
from onmt.bin import train as train_program
from onmt.bin import translate as translate_program
from probe import Clock, Job, Stopwatch, lengths

shared: dict[str, Any] = {}
"""Objects of the toolkit that hooks store for `finish`."""


def train(job: Job, clock: Clock) -> None:
    """Train until the clock says `Done`."""
    trainer = training.Trainer
    accumulate, fit = trainer._gradient_accumulation, trainer.train

    def timed_accumulate(self: Any, batches: Any, *rest: Any) -> None:
        accumulate(self, batches, *rest)
        clock.update(sum(len(batch["tgt"]) for batch in batches))

    def seen_fit(self: Any, *rest: Any, **named: Any) -> Any:
        shared.update(trainer=self, dev=named["valid_iter"])
        return fit(self, *rest, **named)

    trainer._gradient_accumulation, trainer.train = timed_accumulate, seen_fit
    data, model = Path(job["data"]), Path(job["model"])
    model.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": {
            name: {
                "path_src": str(data / f"{split}.src"),
                "path_tgt": str(data / f"{split}.trg"),
                "transforms": [],
            }
            for name, split in (("train", "train"), ("valid", "dev"))
        },
        "save_data": str(model),
        "save_model": str(model / "model"),
        "src_vocab": str(data / "vocab.txt"),
        "tgt_vocab": str(data / "vocab.txt"),
        "share_vocab": True,
        "share_embeddings": True,
        "share_decoder_embeddings": True,
        "encoder_type": "transformer",
        "decoder_type": "transformer",
        "position_encoding": True,
        "add_qkvbias": True,
        "add_ffnbias": True,
        "enc_layers": job["encoder_layers"],
        "dec_layers": job["decoder_layers"],
        "hidden_size": job["dim"],
        "word_vec_size": job["dim"],
        "transformer_ff": job["ffn_dim"],
        "heads": job["heads"],
        "dropout": [job["dropout"]],
        "attention_dropout": [0.0],
        "dropout_steps": [0],
        "label_smoothing": job["label_smoothing"],
        "param_init": 0.0,
        "param_init_glorot": True,
        "bucket_size": 262144,
        "num_workers": 0,
        "batch_type": "tokens",
        "batch_size": job["batch_tokens"],
        "valid_batch_size": job["batch_tokens"],
        "accum_count": [1],
        "accum_steps": [0],
        "normalization": "tokens",
        "optim": "adam",
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        "decay_method": "noam",
        "learning_rate": job["lr"] * math.sqrt(job["dim"] * job["lr_warmup"]),
        "warmup_steps": job["lr_warmup"],
        "train_steps": 10**6,
        "valid_steps": 10**6,
        "save_checkpoint_steps": 10**6,
        "world_size": 1,
        "gpu_ranks": [],
        "seed": job["seed"],
    }
    config = model / "train.json"  # JSON is YAML
    config.write_text(json.dumps(settings), encoding="utf-8")
    sys.argv = ["onmt_train", "-config", str(config)]
    train_program.main()


def finish(job: Job) -> dict[str, float]:
    """Measure dev perplexity, without label smoothing; the model is saved."""
    trainer = shared["trainer"]
    trainer.model_saver.save(1)
    trainer.valid_loss.criterion.label_smoothing = 0.0
    statistics = trainer.validate(shared["dev"])
    parameters = {id(p): p.numel() for p in trainer.model.parameters()}
    perplexity = math.exp(statistics.loss / statistics.n_words)
    return {"dev_perplexity": perplexity, "parameters": sum(parameters.values())}


def translate(job: Job) -> dict[str, float]:
    """Translate the test text by beam search; its figures."""
    engine, out = inference_engine.InferenceEnginePY, Path(job["model"]) / "test.out"
    infer, watch = engine.infer_file, Stopwatch()

    def timed(self: Any) -> Any:
        with watch:
            return infer(self)

    engine.infer_file = timed
    options = {
        "model": Path(job["model"]) / "model_step_1.pt",
        "src": Path(job["data"]) / "test.src",
        "output": out,
        "beam_size": job["beam"],
        "batch_type": "sents",
        "batch_size": job["batch"],
        "length_penalty": "avg",
        "alpha": 1.0,
        "max_length_ratio": 2,
        "gpu": -1,
    }
    arguments = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    sys.argv = ["onmt_translate", *arguments]
    translate_program.main()
    return watch.figures(lengths(out))
