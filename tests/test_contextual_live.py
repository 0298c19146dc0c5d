"""An encoder in the model: the vectors of the stored ones, trained with it, resumed, applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import TEXTS, UNITS
from nmt_feat.evaluation.split_decoding import compute_dev_loss
from nmt_feat.features import Contextual
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained
from nmt_feat.text.conllu import read_conllu
from nmt_feat.training.loop import Trainer
from nmt_feat.training.objective import Objective
from tests.support.applied import said
from tests.support.encoders import LAYERS, byte_pairs, corpus_texts, save, transformers, word_piece  # type: ignore[attr-defined]
from tests.support.entry import call
from tests.support.small import Small, outcome, record
from tests.support.stops import Killed, stop_at

pytestmark = pytest.mark.slow

OWN = "source.features.contextual.encoder."
TRAINED = ("features.contextual.live=true", "features.contextual.trained=true")


@pytest.fixture(scope="module")
def encoders(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoders, one of which reads many sentences in parts."""
    folder = tmp_path_factory.mktemp("encoders")
    texts = corpus_texts(corpus)
    save(folder / "tiny", word_piece(texts))
    save(folder / "bytes", byte_pairs(texts), longest=12, seed=1)
    return folder


def settings(encoders: Path, *more: str, name: str = "tiny") -> list[str]:
    arguments = ["features=[contextual]", f"features.contextual.encoder={encoders / name}"]
    return ["combiner=add", *arguments, "trainer.max_steps=4", "model.dim=32", *more]


def settled(small: Small, *command: str) -> TrainConfig:
    return resolve_settings(small.config(*command), sweep=False, console=Console())


def kept(folder: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights in a run's."""
    tensors = load_file(folder / "model.safetensors")
    return {k.removeprefix(OWN): v for k, v in tensors.items() if k.startswith(OWN)}


def given(encoders: Path) -> dict[str, torch.Tensor]:
    return load_file(encoders / "tiny" / "model.safetensors")


@pytest.mark.parametrize("name", ["tiny", "bytes"])
def test_the_vectors_are_those_that_are_stored(name: str, small: Small, encoders: Path) -> None:
    stored, live = (
        settled(small, *settings(encoders, setting, name=name))
        for setting in ("features.contextual.precision=float32", "features.contextual.live=true")
    )
    one, two = prepare(stored, stored.features), prepare(live, live.features)
    model, notes, _ = build_untrained(live, two)
    feature = model.source.features["contextual"]
    assert isinstance(feature, Contextual)
    parameters = transformers.AutoModel.from_pretrained(encoders / name).num_parameters()
    assert notes == [
        f"features.contextual: its encoder, in the model, has {parameters:,} parameters; 0 of them "
        "are trained"
    ]
    assert feature.scale == pytest.approx(one.encoder.features["contextual"].scale)
    for indices in (np.array([5, 0, 17]), np.arange(len(one.train))):
        first, second = (
            collate(item.train, indices, ["contextual"]).features for item in (one, two)
        )
        assert first["contextual"].equal(second["contextual"])
        read = feature.read_states(second["contextual" + UNITS], second["contextual" + TEXTS])
        torch.testing.assert_close(read, first["contextual" + UNITS], atol=1e-5, rtol=1e-4)
    losses = [
        compute_dev_loss(
            Objective(build_untrained(cfg, data)[0].eval(), 0.1, True),
            data.dev,
            ["contextual"],
            256,
            torch.device("cpu"),
        )
        for cfg, data in ((stored, one), (live, two))
    ]
    assert losses[0] == (pytest.approx(losses[1][0], rel=1e-5), losses[1][1])


def test_frozen(small: Small, encoders: Path, tmp_path: Path) -> None:
    """The run of stored vectors; the encoder is named, not kept, and raw text is translated."""
    stored = small.train(*settings(encoders, "features.contextual.precision=float32"))
    live = small.train(*settings(encoders, "features.contextual.live=true"))
    assert live != stored
    one, two = (load_file(folder / "model.safetensors") for folder in (stored, live))
    assert one.keys() == two.keys()
    losses = [[point["loss"] for point in record(run)["curve"]] for run in (stored, live)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert (live / "test.hyp").read_text() == (stored / "test.hyp").read_text()
    assert record(live)["parameters"] == record(stored)["parameters"]
    translates(live, small, tmp_path)


def translates(run: Path, small: Small, tmp_path: Path) -> None:
    """Raw text gives the run's own hypotheses."""
    text = tmp_path / "text"
    sentences = [sentence.text for sentence in read_conllu(small.corpus / "test.conllu")]
    text.write_text("".join(f"{sentence}\n" for sentence in sentences))
    done = call("translate", f"run={run}", f"input={text}", "chunk=3")
    assert (done.code, said(done)) == (0, "")
    assert done.out == (run / "test.hyp").read_text()


def test_trained(small: Small, encoders: Path, tmp_path: Path) -> None:
    """Its weights are the run's and change, but for those that the layer does not depend on."""
    folder = small.train(*settings(encoders, *TRAINED))
    before, after = given(encoders), kept(folder)
    unused = (f"encoder.layer.{LAYERS - 1}.", "pooler.")  # the layer is the second to last
    trained = 0
    for name, tensor in before.items():
        assert after[name].equal(tensor) == name.startswith(unused), name
        trained += 0 if name.startswith(unused) else tensor.numel()
    run_record = record(folder)["parameters"]
    assert run_record["encoders"] == trained
    frozen = record(small.train(*settings(encoders, "features.contextual.live=true")))["parameters"]
    assert run_record["features"] == frozen["features"]
    assert run_record["total"] == frozen["total"] + trained
    translates(folder, small, tmp_path)


def test_training_it_lowers_the_loss(small: Small, encoders: Path) -> None:
    """Of a batch, where nothing else is trained."""
    cfg = settled(small, *settings(encoders, *TRAINED))
    prepared_data = prepare(cfg, cfg.features)
    model = build_untrained(cfg, prepared_data).model
    objective = Objective(model.eval(), 0.0, True)
    batch = collate(prepared_data.train, np.arange(16), ["contextual"])
    feature = model.source.features["contextual"]
    assert isinstance(feature, Contextual)
    assert feature.encoder is not None
    optimizer = torch.optim.Adam(feature.encoder.parameters(), lr=0.03)
    losses = []
    for _ in range(30):
        loss = objective(*batch.objective_inputs)[0] / batch.tokens
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1


def test_a_learning_rate_of_its_own(small: Small, encoders: Path) -> None:
    """Under the schedule of all; the first update of Adam is as large as the rate, if the gradient
    is not next to nothing."""
    sizes = {}
    steps = ("trainer.max_steps=1", "optimizer.warmup=4")
    for rate in (None, 2e-3, 1e-4):
        more = [] if rate is None else [f"features.contextual.learning_rate={rate}"]
        after = kept(small.train(*settings(encoders, *TRAINED, *steps, *more)))
        sizes[rate] = max(float((after[k] - v).abs().max()) for k, v in given(encoders).items())
    assert sizes[None] == sizes[2e-3] == pytest.approx(2e-3 / 4, rel=0.01)
    assert sizes[1e-4] == pytest.approx(1e-4 / 4, rel=0.02)


@pytest.mark.parametrize("more", [TRAINED, TRAINED[:1]])
def test_resumed(
    more: tuple[str, ...], small: Small, encoders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits as without a stop, dropout of the encoder included."""
    rate_settings = ["features.contextual.learning_rate=1e-3"] if more == TRAINED else []
    command = settings(encoders, *more, *rate_settings)
    expected = small.whole(*command)
    with monkeypatch.context() as patch:
        stop_at(patch, Trainer, "update", 4, after=False)
        with pytest.raises(Killed):
            small.train(*command)
    assert outcome(small.train(*command)) == expected


def test_controlled_and_beside_others(small: Small, encoders: Path) -> None:
    """Values of other words come from other sentences, which the encoder reads as well."""
    shared = [o for o in settings(encoders, *TRAINED) if not o.startswith(("features=", "comb"))]
    shared += ["combiner=mixed", "features=[contextual,upos,char]", "trainer.max_steps=2"]
    dropped = ("features.contextual.dropout=1", "features.contextual.sentence_dropout=0.2")
    for more in (dropped, ("control=shuffled",), ("control=by_type",), ("control=matched",)):
        assert record(small.train(*shared, *more))["updates"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("features.contextual.trained=true",),
            "features.contextual.trained=true: stored vectors are not trained; set "
            "features.contextual.live=true, or leave it out",
        ),
        (
            ("features.contextual.live=true", "features.contextual.learning_rate=0.1"),
            "features.contextual.learning_rate=0.1: is for an encoder that is trained; set "
            "features.contextual.trained=true, or leave it out",
        ),
        (
            (*TRAINED, "features.contextual.learning_rate=0"),
            "features.contextual.learning_rate=0.0: must be above 0",
        ),
        (
            ("features=[upos]", "features.upos.live=true"),
            "features.upos.live=true: is for vectors of an encoder; leave it out",
        ),
    ],
)
def test_bad_settings(
    overrides: tuple[str, ...], message: str, small: Small, encoders: Path
) -> None:
    alone = overrides[0] == "features=[upos]"
    shared: list[Any] = ["combiner=add"] if alone else settings(encoders)
    done = call("train", *small.overrides(*shared, *overrides))
    assert (done.code, done.err) == (2, f"error: {message}\n")


def test_a_tokeniser_of_another_model(small: Small, encoders: Path, tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(encoders / "tiny")
    folder = save(tmp_path / "other", word_piece(["I saw her duck"], size=60))
    model.resize_token_embeddings(10)
    model.save_pretrained(folder)
    command = [o.replace(str(encoders / "tiny"), str(folder)) for o in settings(encoders)]
    done = call("train", *small.overrides(*command, *TRAINED))
    assert (done.code, done.err) == (
        2,
        f"error: features.contextual.encoder={folder}: its tokeniser has more pieces than its "
        "model has embeddings, 10; get it again\n",
    )
