"""Pretrained models with features: equal to `transformers` at the start, then trained as any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers", reason="needs the extra transformers")

from nmt_feat.cli.next_steps import suggest_sweep
from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.decoding.search import SearchOptions, search
from nmt_feat.errors import UserError
from nmt_feat.model.batch import Batch
from nmt_feat.model.translation_model import ANY_LENGTH
from nmt_feat.pretrained.model import PretrainedModel
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained, refuse_long_pairs
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.pretrained import Reference, describe, generate, make_marian
from tests.support.small import Small, outcome, record
from tests.support.stops import refused, stop

SENTENCES = 24
LIMIT = 30
"""Pieces of a translation at most."""
LAYERS = ("model=pretrained", "model.encoder_layers=2", "model.decoder_layers=2")
ABLE = ["none", "add", "concat_project", "gate"]
"""Combiners that start as the word; others with the slow tests."""
GATES = ("gate", "word_gate", "dynamic_switch")
"""Those that let a few millionths of the features in."""
MORE = ["weighted_sum", "additive_gate", "word_gate", "dynamic_switch"]


@pytest.fixture(scope="module")
def reference(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return describe(make_marian(tmp_path_factory.mktemp("pretrained") / "marian", corpus), corpus)


Start = Callable[..., tuple[PretrainedModel, Prepared, Batch]]


@pytest.fixture
def start(small: Small, reference: Reference) -> Start:
    """The model that a run starts from, its data and a batch of the first sentences."""

    def build(*settings: str) -> tuple[PretrainedModel, Prepared, Batch]:
        cfg = small.config(*LAYERS, f"model.folder={reference.folder}", *settings)
        cfg = resolve_settings(cfg, False, Console(quiet=True))
        prepared = prepare(cfg, cfg.features)
        model = build_untrained(cfg, prepared).model.eval()
        assert isinstance(model, PretrainedModel)
        return model, prepared, collate(prepared.train, np.arange(SENTENCES), list(cfg.features))

    return build


def test_pieces(start: Start, reference: Reference) -> None:
    """Ids are the tokeniser's; spans are those of the raw text, so features fall on pieces."""
    model, prepared, batch = start("combiner=gate", "features=[upos]")
    assert model.ids[batch.source].equal(reference.texts["input_ids"])
    assert model.ids[batch.target_out].equal(reference.labels)
    subwords, upos = prepared.encoder.subwords, prepared.encoder.features["upos"]
    text = prepared.train.source_texts[0]
    pieces = subwords.encode(text)
    for piece in pieces:
        name = subwords.names[piece.id].replace("▁", " ").strip()
        assert text[piece.start : piece.end].strip() == name
    first_word = [piece for piece in pieces if piece.end <= text.index(" ")]
    values = batch.features["upos"][0]
    assert len(set(values[: len(first_word)].tolist())) == 1
    assert upos.values[int(values[0]) - 3] in ("DET", "PRON", "NOUN", "PROPN", "ADJ")
    assert values[len(pieces)] == 2  # of the end symbol, a value of its own
    odd = "  ﬁne  text "  # which the model's normalisation changes
    assert "".join(odd[p.start : p.end] for p in subwords.encode(odd)).split() == odd.split()
    ids = reference.tokenizer(odd).input_ids[:-1]
    assert model.ids[torch.tensor([p.id for p in subwords.encode(odd)])].tolist() == ids
    target = [p.id for p in prepared.target.encode(prepared.train.target_texts[0])]
    assert prepared.target.decode([*target, 3]) == prepared.train.target_texts[0]


@pytest.mark.parametrize(
    "combiner", [*ABLE, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_start(combiner: str, start: Start, reference: Reference) -> None:
    """At update 0 the encoder's output and the loss are those of the model alone."""
    model, _, batch = start(f"combiner={combiner}")
    labels = reference.labels.masked_fill(
        reference.labels == reference.model.config.pad_token_id, -100
    )
    with torch.no_grad():
        memory = model.encode(batch.source, batch.features, batch.source_mask)
        encoder = reference.model.get_encoder()
        expected = encoder(**reference.texts).last_hidden_state
        mask = batch.source_mask
        assert torch.allclose(
            memory[mask], expected[mask], atol=2e-3 if combiner in GATES else 1e-5
        )
        if combiner not in ("none", "gate"):
            return
        loss = float(reference.model(**reference.texts, labels=labels).loss)
        for fused in (True, False):
            total, nll = Objective(model, 0.0, fused)(*batch.objective_inputs)
            assert float(total) == pytest.approx(float(nll), rel=1e-5)
            assert float(nll) / batch.tokens == pytest.approx(loss, rel=1e-5)


@pytest.mark.thorough
def test_features_are_learned(start: Start) -> None:
    """Though they change nothing at the start, they have a gradient, and so has the gate."""
    for combiner in ABLE[1:]:
        model, _, batch = start(f"combiner={combiner}")
        Objective(model, 0.0, True)(*batch.objective_inputs)[0].backward()
        gradients = [p.grad for p in model.source.combiner.parameters()]
        gradients += [embedder.table.weight.grad for embedder in model.source.features.values()]
        assert any(gradient is not None and gradient.abs().max() > 1e-6 for gradient in gradients)


def translate(start: Start, beam: int, model: Any = None) -> list[list[list[int]]]:
    """Our translations by the ids of the pretrained model, the n best of each sentence."""
    pretrained, _, batch = start("combiner=gate")
    nbest = search(
        model or pretrained,
        *(batch.source, batch.features, batch.source_mask),
        SearchOptions(beam=beam, nbest=beam, max_ratio=0.0, max_extra=LIMIT),
    )
    return [[[pretrained.ids.tolist()[i] for i in one.ids] for one in best] for best in nbest]


def test_greedy_translations(start: Start, reference: Reference) -> None:
    """Token for token those of `generate`."""
    ours = [best[0] for best in translate(start, 1)]
    assert ours == generate(reference, 1, LIMIT)
    assert len(set(map(len, ours))) > 2


def test_pairs_that_it_cannot_read(start: Start) -> None:
    """Said before training; a translation ends where the model's positions do."""
    model, prepared, batch = start("combiner=none")
    assert (model.longest_source, model.longest_target) == (127, 127)
    tests = prepared.tests["test"]
    tests.target_lengths = np.array([*tests.target_lengths[:-1], 129])
    message = r"^test: the target '.*' has 128 pieces, the pretrained model reads 127 at most"
    with pytest.raises(UserError, match=message):
        refuse_long_pairs(model, prepared)
    model.longest, model.longest_target = 60, 59
    options = SearchOptions(beam=1, max_extra=60)
    hypotheses = search(model, batch.source, batch.features, batch.source_mask, options)
    assert max(len(best[0].ids) for best in hypotheses) == 59


@pytest.mark.parametrize("too_long", ["split", "empty", "refuse"])
def test_lines_that_their_terms_make_too_long(
    too_long: str,
    small: Small,
    reference: Reference,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The model reads 127 pieces; the text has fewer, and more with its translations."""
    (trained := tmp_path / "trained.tsv").write_text("woman\tFrau\n", encoding="utf-8")
    (glossary := tmp_path / "glossary.tsv").write_text("the\tder die das\n", encoding="utf-8")
    run = small.train(
        *(*LAYERS, f"model.folder={reference.folder}", "combiner=none", "trainer.max_steps=1"),
        f"data.terminology.glossary={trained}",
    )
    assert f"\nmodel.folder={reference.folder}: 18,064 parameters; " in capsys.readouterr().out
    (text := tmp_path / "text.en").write_text(f"the\n{'the ' * 25}\nthe\n", encoding="utf-8")
    command = (f"run={run}", f"input={text}", f"glossary={glossary}", f"too_long={too_long}")
    done = call("translate", *command)
    message = f"{text}:2: has 250 pieces with its terms, above the limit of 127"
    if too_long == "refuse":
        advice = "shorten the line, set too_long=split or too_long=empty"
        assert (done.code, done.err) == (2, f"error: {message}; {advice}\n")
        return
    assert done.code == 0, done.err
    end = "translated in " if too_long == "split" else "its translation is left empty"
    assert f"{message}: {end}" in done.err
    lines = done.out.split("\n")
    assert (len(lines), bool(lines[1]), lines[0]) == (4, too_long == "split", lines[2])


class Uncached:
    """The pretrained model for our search, which computes all of a prefix at each step."""

    training = False
    longest_target = ANY_LENGTH

    def __init__(self, reference: Reference, ids: torch.Tensor) -> None:
        self.reference, self.ids, self.prefixes = reference, ids, torch.zeros(0)

    def train(self, mode: bool = True) -> None:
        pass

    def encode(self, source: Any, features: Any, mask: Any) -> Any:
        return self.reference.model.get_encoder()(**self.reference.texts).last_hidden_state

    def start_cache(self, memory: Any, mask: Any) -> Uncached:
        self.memory, self.mask = memory, mask
        self.prefixes = torch.zeros(len(memory), 0, dtype=torch.int64)
        return self

    def select_rows(self, index: torch.Tensor) -> Uncached:
        self.memory, self.mask = self.memory[index], self.mask[index]
        self.prefixes = self.prefixes[index]
        return self

    def decode_step(self, tokens: torch.Tensor, position: int, cache: Any) -> Any:
        self.prefixes = torch.cat([self.prefixes, self.ids[tokens][:, None]], dim=1)
        logits = self.reference.model(
            encoder_outputs=(self.memory,),
            attention_mask=self.mask.long(),
            decoder_input_ids=self.prefixes,
        ).logits[:, -1]
        return logits[:, self.ids].index_fill(1, torch.tensor(2), -torch.inf)


@pytest.mark.thorough
def test_search_on_the_cache(start: Start, reference: Reference) -> None:
    """The translations are those of the same search without one, whenever hypotheses end."""
    # Words only: a gate that is open to the word is so but for some 1e-5.
    cached = start("combiner=none")[0]
    ours = translate(start, 5, cached)
    assert ours == translate(start, 5, Uncached(reference, cached.ids))
    assert len({len(best[0]) for best in ours}) > 2


SETTINGS = ("combiner=gate", "features=[upos]", *LAYERS)


@pytest.mark.thorough
def test_training(
    small: Small, reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some updates, exact resume, the record, what to try next, and translation without the folder
    of the pretrained model."""
    folder = Path(shutil.copytree(reference.folder, tmp_path / "opus"))
    settings = (*SETTINGS, f"model.folder={folder}")
    expected = small.whole(*settings)
    stop(small, *settings)
    run = small.train(*settings)
    assert outcome(run) == expected
    content = record(run)
    before = load_file(folder / "model.safetensors")["model.shared.weight"]
    assert not before.equal(load_file(run / "model.safetensors")["words.weight"])
    assert len(content["settings"]["model"]["folder"]) == 64
    assert content["parent"]["weights"] == content["settings"]["model"]["folder"]
    assert content["settings"]["subword"]["kind"] == "pretrained"
    moved = folder.rename(tmp_path / "moved")
    finished = run_training(small.config(*SETTINGS, f"model.folder={moved}"))
    assert finished.folder == run
    command = suggest_sweep(finished, finished.cfg.features, "gate", SETTINGS)
    assert "combiner=none,add,gate,concat_project control=none,shuffled seed=1,2,3" in command
    shutil.rmtree(moved)
    text = tmp_path / "text.conllu"
    shutil.copy(small.corpus / "test.conllu", text)
    done = call("translate", f"run={run}", f"input={text}", f"output={tmp_path / 'out'}")
    assert done.code == 0, done.err
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert lines == (run / "test.hyp").read_text(encoding="utf-8").splitlines()
    assert "cannot be exported" in call("export", str(run)).err
    words = "".join(f"{i}\tthe\t_\tDET" + "\t_" * 6 + "\n" for i in range(1, 301))
    text.write_text(f"{words}\n", encoding="utf-8")  # more than it has positions for
    done = call("translate", f"run={run}", f"input={text}")
    assert (done.code, "pieces, above the limit of 127: translated in" in done.err) == (0, True)


@pytest.mark.slow
def test_frozen_parts(small: Small, reference: Reference, tmp_path: Path) -> None:
    """They are not in the run's weights, and come from the folder, if it is the same."""
    folder = Path(shutil.copytree(reference.folder, tmp_path / "opus"))
    settings = (*SETTINGS, f"model.folder={folder}", "init.freeze=[encoder,words]", "init.lr=0.01")
    run = small.train(*settings, "trainer.max_steps=2")
    weights = load_file(run / "model.safetensors")
    assert not [name for name in weights if name.startswith(("encoder", "words"))]
    assert [name for name in weights if name.startswith("decoder.layers.0")]
    text = small.corpus / "test.conllu"
    arguments = (f"run={run}", f"input={text}", f"output={tmp_path / 'out'}")
    assert call("translate", *arguments).code == 0
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert lines == (run / "test.hyp").read_text(encoding="utf-8").splitlines()
    tensors = load_file(folder / "model.safetensors")
    tensors["model.shared.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    done = call("translate", *arguments)
    assert done.code == 2
    assert "its weights have changed since training" in done.err


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "combiner._target_",
            "nmt_feat.combiners.Average",
            "combiner=average: cannot start as the word alone, which a pretrained model needs; "
            "choose none, add, weighted_sum, additive_gate, concat_project, gate or word_gate",
        ),
        ("combiner._target_", "nmt_feat.combiners.MLP", "combiner=mlp: cannot start as the word"),
        ("model.dim", 32, "FOLDER model.dim=32: the pretrained model has 16; leave it out"),
        ("subword.kind", "unigram", "FOLDER subword=unigram: does not go with a pretrained model"),
        (
            "method._target_",
            "nmt_feat.methods.OutputGate",
            "FOLDER method=output_gate: does not go with a pretrained model",
        ),
        ("model.tie", "all", "FOLDER model.tie=all: does not go with a pretrained model"),
        ("model.languages", ["en"], "model.languages=[en]: give source and target language of a"),
        ("init.freeze", ["encodr"], "init.freeze=[encodr]: no such part; did you mean 'encoder'"),
        ("model.folder", "", "model=pretrained: give the folder of the model, model.folder=FOLDER"),
        ("model.folder", None, "subword.kind=pretrained: follows from model.folder=FOLDER"),
    ],
)
def test_wrong_settings(
    small: Small, reference: Reference, setting: str, value: object, message: str
) -> None:
    cfg = small.config(*SETTINGS, f"model.folder={reference.folder}")
    cfg.subword.kind = "pretrained"
    group, name = setting.split(".")
    setattr(getattr(cfg, group), name, value)
    with pytest.raises(UserError) as raised:
        resolve_settings(cfg, False, Console(quiet=True))
    if message.startswith("FOLDER"):
        message = f"model.folder={reference.folder}{message.removeprefix('FOLDER')}"
    assert str(raised.value).startswith(message)


def test_a_tag_before_the_sentence_is_refused(small: Small, reference: Reference) -> None:
    """The model would not start as it was."""
    tag = ["features=[domain]", "features.domain.policy=tag"]
    cfg = small.config(*SETTINGS, f"model.folder={reference.folder}", *tag)
    cfg.subword.kind = "pretrained"
    with pytest.raises(UserError, match=r"features\.domain\.policy=tag: a token"):
        resolve_settings(cfg, False, Console(quiet=True))


def test_no_folder(small: Small) -> None:
    assert refused(small, "model=pretrained", "combiner=gate").startswith("model=pretrained: give")


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.decoder.layers.1.fc1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | values
        path.write_text(json.dumps(content), encoding="utf-8")

    return change


def add_index(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


BAD_FOLDERS: dict[str, Callable[[Path], object]] = {
    "no such folder": shutil.rmtree,
    "has no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json is damaged": lambda folder: (folder / "config.json").write_text("{"),
    "has no tokeniser (source.spm is missing)": lambda folder: (folder / "source.spm").unlink(),
    "its tokeniser is damaged": lambda folder: (folder / "target.spm").write_bytes(b"no model"),
    "vocab.json has": change_config(vocab_size=500),
    "a model of the type gpt2, which has no encoder and decoder; known": change_config(
        model_type="gpt2", is_encoder_decoder=False
    ),
    "its two sides have separate tables": change_config(share_encoder_decoder_embeddings=False),
    "model.safetensors is damaged": lambda folder: (folder / "model.safetensors").write_bytes(b"x"),
    "model.safetensors is missing": lambda folder: (folder / "model.safetensors").unlink(),
    "model-00001-of-00002.safetensors is missing": add_index,
    "its weights are a pickle": lambda folder: (folder / "model.safetensors").rename(
        folder / "pytorch_model.bin"
    ),
    "its weights lack model.decoder.layers.1.fc1.weight": drop_tensor,
}


@pytest.mark.parametrize("problem", BAD_FOLDERS)
def test_bad_folders(problem: str, small: Small, reference: Reference, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reference.folder, tmp_path / "bad"))
    BAD_FOLDERS[problem](folder)
    cfg = small.config("combiner=none", *LAYERS, f"model.folder={folder}")

    def begin() -> None:
        resolved = resolve_settings(cfg, False, Console(quiet=True))
        build_untrained(resolved, prepare(resolved, {}))

    with pytest.raises(UserError) as raised:
        begin()
    assert str(raised.value).startswith(f"model.folder={folder}: {problem}")
