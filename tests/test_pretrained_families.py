"""Each kind of pretrained model: pieces, codes, start and greedy search are `transformers`' own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from rich.console import Console
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="needs the extra transformers")

from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.decoding.search import SearchOptions, search
from nmt_feat.errors import UserError
from nmt_feat.model.batch import Batch
from nmt_feat.pretrained.model import PretrainedModel
from nmt_feat.runs.launcher import Parallel
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.pretrained import (
    Reference,
    describe,
    generate,
    is_mbart,
    make_m2m,
    make_marian,
    make_mbart,
    make_nllb,
    make_t5,
    shift,
)
from tests.support.small import Small, cut, outcome
from tests.support.stops import stop

SENTENCES = 100
LIMIT = 12
"""Pieces of a translation at most."""


class Case(NamedTuple):
    """A kind of model, and what its languages are called there."""

    make: Callable[[Path, Path], Path]
    languages: tuple[str, ...] = ()
    prefix: str = ""


CASES = {
    "marian": Case(make_marian, prefix=">>de<<"),
    "m2m": Case(make_m2m, ("en", "de")),
    "nllb": Case(make_nllb, ("eng_Latn", "deu_Latn")),
    "mbart": Case(make_mbart, ("en_XX", "de_DE")),
    "mbart50": Case(partial(make_mbart, name="mbart50"), ("en_XX", "de_DE")),
    "t5": Case(make_t5, prefix="translate English to German:"),
    "mt5": Case(partial(make_t5, name="mt5")),
}


def list_settings(name: str, folder: Path) -> list[str]:
    """The settings of a run with a model of this kind."""
    settings = ["model=pretrained", f"model.folder={folder}", "combiner=concat_project"]
    settings += ["model.encoder_layers=2", "model.decoder_layers=2", "features=[upos]"]
    settings += ["model.heads=3"] if name in ("t5", "mt5") else []  # which do not divide its width
    _, languages, prefix = CASES[name]
    settings += [f"model.languages=[{','.join(languages)}]"] if languages else []
    return settings + ([f"model.prefix='{prefix}'"] if prefix else [])


class Start(NamedTuple):
    """A model as `transformers` has it, and as a run starts from it, with the same sentences."""

    reference: Reference
    model: PretrainedModel
    batch: Batch
    prepared: Prepared


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of enough sentences."""
    return cut(tmp_path_factory.mktemp("corpus") / "larger", train=SENTENCES + 20)


def list_cases(*quick: str) -> list[ParameterSet]:
    """All kinds of model; those that are not `quick` are for slow tests."""
    slow = [pytest.mark.slow]
    return [pytest.param(name, marks=[] if name in quick else slow) for name in CASES]


@pytest.fixture(scope="module", params=list_cases("marian", "nllb", "mbart", "t5"))
def start(
    request: pytest.FixtureRequest, larger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Start:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("pretrained")
    reference = describe(
        case.make(folder / "model", larger), larger, case.languages, SENTENCES, case.prefix
    )
    small = Small(larger, larger.parent / "cache", folder)
    cfg = small.config(*list_settings(request.param, reference.folder))
    cfg = resolve_settings(cfg, False, Console(quiet=True))
    prepared = prepare(cfg, cfg.features)
    model = build_untrained(cfg, prepared).model.eval()
    assert isinstance(model, PretrainedModel)
    batch = collate(prepared.train, np.arange(SENTENCES), ["upos"])
    return Start(reference, model, batch, prepared)


@pytest.fixture(scope="module")
def folders(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose settings are refused."""
    folder = tmp_path_factory.mktemp("pretrained")
    return {name: CASES[name].make(folder / name, corpus) for name in ("t5", "mbart", "m2m")}


def without_codes(ids: torch.Tensor, reference: Reference) -> list[list[int]]:
    """The rows without codes and padding."""
    dropped = {reference.model.config.pad_token_id, *reference.codes}
    return [[id for id in row if id not in dropped] for row in ids.tolist()]


def test_pieces(start: Start) -> None:
    """Ids are the tokeniser's, but for codes of languages; spans are those of the raw text."""
    reference, model, batch, prepared = start
    source, target = model.ids[batch.source], model.ids[batch.target_out]
    texts = reference.texts["input_ids"][:, len(model.before) :]
    assert without_codes(source, reference) == without_codes(texts, reference)
    assert without_codes(target, reference) == without_codes(reference.labels, reference)
    assert model.before + model.behind == tuple(
        reference.texts["input_ids"][0, : len(model.before)].tolist()
        if model.before
        else reference.codes[:1]
    )
    subwords = prepared.encoder.subwords
    for text in prepared.train.source_texts[:10]:
        for piece in subwords.encode(text):
            name = subwords.names[piece.id].replace("▁", " ").strip()
            assert text[piece.start : piece.end].strip() == name


def test_start(start: Start) -> None:
    """At update 0 encoder, logits and loss are those of the model alone."""
    reference, model, batch, _ = start
    labels = reference.labels.masked_fill(
        reference.labels == reference.model.config.pad_token_id, -100
    )
    is_code = torch.isin(labels, torch.tensor(reference.codes or [-1]))
    with torch.no_grad():
        output = reference.model(
            **reference.texts,
            decoder_input_ids=shift(reference),
            labels=labels.masked_fill(is_code, -100),  # codes are not learned
        )
        memory = model.encode(batch.source, batch.features, batch.source_mask)
        mask = reference.texts["attention_mask"].bool()
        expected = output.encoder_last_hidden_state
        assert torch.allclose(memory[mask], expected[mask], atol=1e-5)
        states = model.decode(batch.target_in, memory, batch.source_mask)
        logits = torch.nn.functional.linear(states, *model.output_layer())
        theirs = output.logits[:, :-1] if is_mbart(reference) else output.logits
        theirs = theirs[:, 1:] if reference.codes and not is_mbart(reference) else theirs
        real = batch.target_out != 0
        assert torch.allclose(logits[real], theirs[real], atol=1e-5)
        for fused in (True, False):
            _, nll = Objective(model, 0.0, fused)(*batch.objective_inputs)
            assert float(nll) / batch.tokens == pytest.approx(float(output.loss), rel=1e-5)


def test_greedy_translations(start: Start) -> None:
    """Token for token those of `generate`."""
    ours = translate(start, 1)
    assert ours == generate(start.reference, 1, LIMIT)
    assert len(set(map(len, ours))) > 3


def translate(start: Start, beam: int, **settings: Any) -> list[list[int]]:
    """Our translations by the ids of the pretrained model, the n best of each sentence."""
    model, batch = start.model, start.batch
    inputs = batch.source, batch.features, batch.source_mask
    limits: dict[str, Any] = {"max_ratio": 0.0, "max_extra": LIMIT}
    nbest = search(model, *inputs, SearchOptions(beam, nbest=beam, **limits, **settings))
    return [[int(model.ids[id]) for id in one.ids] for best in nbest for one in best]


@pytest.mark.thorough
@pytest.mark.parametrize("start", list_cases("marian", "mbart"), indirect=True)
@pytest.mark.parametrize(
    ("stop", "early"),
    [("likely", False), pytest.param("proven", "never", marks=pytest.mark.slow)],
)
def test_beams(start: Start, stop: str, early: bool | str) -> None:
    """Beams that stay full: the best of five are those of `generate`, token for token."""
    ours = translate(start, 5, stop=stop, refill=True)
    theirs = generate(start.reference, 5, LIMIT, early_stopping=early)
    assert ours[::5] == theirs[::5]
    pairs = zip(ours, theirs, strict=True)
    # Others of the five can be as good as one another, but for rounding.
    assert sum(a == b for a, b in pairs) >= 0.98 * len(ours)
    # That is not because no hypothesis ends before the others.
    assert translate(start, 5)[::5] != ours[::5]


@pytest.mark.slow
def test_training(small: Small, tmp_path: Path) -> None:
    """A model whose output has a table of its own: exact resume; frozen, it is not in the run."""
    folder = CASES["mt5"].make(tmp_path / "mt5", small.corpus)
    settings = (*list_settings("mt5", folder), "init.freeze=[output,encoder]")
    expected = small.whole(*settings)
    stop(small, *settings)
    run = small.train(*settings)
    assert outcome(run) == expected
    names = set(load_file(run / "model.safetensors"))
    assert "words.weight" in names
    assert "output.weight" not in names
    done = call("translate", f"run={run}", f"input={small.corpus / 'test.conllu'}", "output=-")
    assert done.code == 0, done.err
    assert done.out == (run / "test.hyp").read_text(encoding="utf-8")


def test_no_such_layer(start: Start) -> None:
    """The message names a layer of this kind of model, not a table beside the layers."""
    with pytest.raises(UserError) as raised:
        start.model.freeze_parts(["encoder.layr"])
    layer = str(raised.value).removesuffix(" ...").rpartition(", ")[2]
    assert re.fullmatch(r"encoder\.[a-z]+\.0", layer)
    weights = [n for n, _ in start.model.named_parameters() if n.startswith(f"{layer}.")]
    assert len(weights) > 1  # a table beside the layers is one


@pytest.mark.parametrize(
    ("name", "change", "settings", "message"),
    [
        (
            "t5",
            ("config.json", "vocab_size", 400),
            (),
            "FOLDER spiece.model has 110 pieces, the mo",
        ),
        ("t5", ("config.json", "eos_token_id", None), (), "FOLDER config.json has no eos_token_id"),
        ("t5", None, ("model.attention_dropout=0.1",), "FOLDER model.attention_dropout=0.1: does"),
        ("t5", None, ("model.prefix='>>de<<'",), "FOLDER model.prefix=>>de<<: no such code; known"),
        ("mbart", None, ("model.prefix=translate",), "FOLDER model.prefix=translate: this model"),
        ("mbart", None, ("model.languages=[en_XX,xx]",), "FOLDER has no language 'xx'; set model."),
        ("m2m", None, ("model.languages=[en,xx]",), "FOLDER has no language 'xx'; set model."),
        (
            "t5",
            None,
            ("init.freeze=[output]",),
            "init.freeze=[output]: the output layer of this model is the table of its words",
        ),
        ("mbart", None, ("model.languages=[en,de_DE]",), "FOLDER has no language 'en'; set model."),
        (
            "mbart",
            ("tokenizer_config.json", "legacy_behaviour", True),
            (),
            "FOLDER legacy_behaviour of its tokenizer_config.json puts codes of languages",
        ),
    ],
)
def test_refusals(
    name: str,
    change: tuple[str, str, object] | None,
    settings: tuple[str, ...],
    message: str,
    folders: dict[str, Path],
    small: Small,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "bad"))
    if change:
        file, key, value = change
        content = json.loads((folder / file).read_text(encoding="utf-8")) | {key: value}
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    cfg = small.config(*list_settings(name, folder), *settings)
    with pytest.raises(UserError) as raised:
        resolve_settings(cfg, False, Console(quiet=True))
    where = f"model.folder={folder}" + (" " if "model." in message[:14] else ": ")
    assert str(raised.value).startswith(message.replace("FOLDER ", where))


def test_processes_wait_for_no_layer_that_another_leaves_out(
    small: Small, folders: dict[str, Path]
) -> None:
    """M2M-100 leaves out layers at random, each process others; mBART leaves out none."""
    for name, waits_for_used in (("m2m", True), ("mbart", False)):
        cfg = small.config(*list_settings(name, folders[name]), "trainer.devices=2")
        strategy = make_fabric(cfg).strategy
        assert isinstance(strategy, Parallel)
        assert strategy._ddp_kwargs["find_unused_parameters"] is waits_for_used
