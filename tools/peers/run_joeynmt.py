"""JoeyNMT 2 under `probe.py`."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from joeynmt import __main__ as program
from joeynmt import prediction, training
from probe import Clock, Job, Stopwatch, lengths

shared: dict[str, Any] = {}
"""Objects of the toolkit that hooks store for `finish`."""


def settings(job: Job) -> dict[str, Any]:
    """The configuration of JoeyNMT."""
    data = Path(job["data"])
    words = {"voc_file": str(data / "vocab.txt"), "level": "word", "lowercase": False}
    side = {
        "type": "transformer",
        "hidden_size": job["dim"],
        "ff_size": job["ffn_dim"],
        "num_heads": job["heads"],
        "dropout": job["dropout"],
        "layer_norm": "pre",
        "embeddings": {"embedding_dim": job["dim"], "scale": True, "dropout": 0.0},
    }
    return {
        "name": "peer",
        "joeynmt_version": "2.3.0",
        "model_dir": job["model"],
        "use_cuda": False,
        "random_seed": job["seed"],
        "num_workers": 0,
        "data": {
            "train": str(data / "train"),
            "dev": str(data / "dev"),
            "test": str(data / "test"),
            "dataset_type": "plain",
            "src": {"lang": "src", **words},
            "trg": {"lang": "trg", **words},
        },
        "model": {
            "initializer": "xavier_uniform",
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": side | {"num_layers": job["encoder_layers"]},
            "decoder": side | {"num_layers": job["decoder_layers"]},
        },
        "training": {
            "overwrite": True,
            "normalization": "tokens",
            "label_smoothing": job["label_smoothing"],
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "scheduling": "noam",
            "learning_rate": job["lr"],
            "learning_rate_factor": job["lr"] * math.sqrt(job["dim"] * job["lr_warmup"]),
            "learning_rate_warmup": job["lr_warmup"],
            "learning_rate_min": 0.0,
            "clip_grad_norm": 1.0,
            "batch_type": "token",
            "batch_size": job["batch_tokens"],
            "epochs": 10**6,
            "updates": 10**6,
            "logging_freq": 100,
            "validation_freq": 10**6,
            "early_stopping_metric": "ppl",
        },
        "testing": {
            "batch_type": "sentence",
            "batch_size": job["batch"],
            "beam_size": job["beam"],
            "beam_alpha": 1.0,
            "max_output_length": -1,  # its own limit: 1.5 times the longest source of the batch
        },
    }


def train(job: Job, clock: Clock) -> None:
    """Train until the clock says `Done`."""
    trainer = training.TrainManager
    step, fit = trainer._train_step, trainer.train_and_validate

    def seen_step(self: Any, batch: Any) -> Any:
        shared["sentences"] = batch.nseqs
        return step(self, batch)

    def seen_fit(self: Any, train_data: Any, valid_data: Any) -> None:
        shared.update(trainer=self, dev=valid_data)
        update = self.optimizer.step

        def timed_update() -> None:
            update()
            clock.update(shared["sentences"])

        self.optimizer.step = timed_update
        fit(self, train_data, valid_data)

    trainer._train_step, trainer.train_and_validate = seen_step, seen_fit
    config = Path(job["report"]).with_suffix(".joeynmt.json")  # JSON is YAML
    config.write_text(json.dumps(settings(job)), encoding="utf-8")
    sys.argv = ["joeynmt", "train", str(config), "--skip-test"]
    program.main()


def finish(job: Job) -> dict[str, float]:
    """Measure dev perplexity, without label smoothing; JoeyNMT has saved the model."""
    trainer = shared["trainer"]
    trainer.model.loss_function = ("crossentropy", 0.0)
    scores, *_ = prediction.predict(
        model=trainer.model,
        data=shared["dev"],
        compute_loss=True,
        device=trainer.device,
        n_gpu=0,
        normalization="tokens",
        args=trainer.dev_cfg._replace(return_prob="ref", return_attention=True),
        autocast=trainer.autocast,
    )
    parameters = {id(p): p.numel() for p in trainer.model.parameters()}
    return {"dev_perplexity": scores["ppl"], "parameters": sum(parameters.values())}


def translate(job: Job) -> dict[str, float]:
    """Translate the test text by beam search; its figures."""
    predict, watch = prediction.predict, Stopwatch()

    def timed(**named: Any) -> Any:
        with watch:
            return predict(**named)

    prediction.predict = timed
    cfg = settings(job)
    cfg["data"]["dev"] = None
    cfg["testing"]["load_model"] = str(Path(job["model"]) / "latest.ckpt")
    out = Path(job["model"]) / "result"
    prediction.test(cfg, output_path=str(out))
    return watch.figures(lengths(out.with_suffix(".test")))
