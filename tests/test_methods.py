"""Methods beyond the embedding: their formulas, what they leave as it is, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from nmt_feat.cli.export import export_run
from nmt_feat.config.identity import name_row_method
from nmt_feat.config.schema import (
    CombinerConfig,
    FeatureConfig,
    MethodConfig,
    TrainConfig,
)
from nmt_feat.data.batches import collate
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import BOS, END, EOS, FIRST, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.model.transformer import (
    DecoderLayer,
    FeatureEncoders,
)
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup.identity import identity_settings
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import match_parameters
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.formulas import affine, everywhere, softmax
from tests.support.small import ROOT, Small, outcome
from tests.support.small_methods import COMBINER, DIM, FEATURES, VALUES, batch, make, settings
from tests.support.stops import stop

NAMES = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
BEYOND = [name for name in NAMES if name != "embedding"]
QUICK = "interleave", "multitask", "tree_attention"
"""Methods that the quick tests train: one of each way."""
ENCODERS = {"EncodersConcat": "concat_project", "EncodersSum": "add"}
"""Methods with several encoders, and the formula of what becomes of their outputs."""
ATTENDING = "EncodersSerial", "EncodersParallel"
WITHOUT_PARAMETERS = "interleave", "tree_attention"
"""Beside the tables of words and features."""


def test_the_default_adds_no_parameter() -> None:
    """So models of before are models of today, parameter by parameter, in the same order."""
    names = [name for name, _ in make("Embedding").named_parameters()]
    assert not any(name.startswith("method.") for name in names)
    assert names[-4:] == [
        *("source.words.weight", "source.features.deprel.table.weight"),
        *("source.features.upos.table.weight", "target.words.weight"),
    ]


@pytest.mark.parametrize("method", ["OutputGate", *ENCODERS, *ATTENDING])
def test_a_method_starts_from_the_model_of_words_only(method: str) -> None:
    words = dict(make(None).named_parameters())
    gated = dict(make(method, "Concat" if method == "OutputGate" else "").named_parameters())
    assert all(gated[name].equal(weight) for name, weight in words.items())
    further = {name.split(".")[0] for name in gated.keys() - words.keys()}
    assert further == ({"method", "decoder"} if method in ATTENDING else {"method"})


@pytest.mark.parametrize("combiner", ["Concat", "Gate", "MLP"])
def test_output_gate(combiner: str) -> None:
    """At each piece the gate of the encoder's output and of the merged features, by hand."""
    model = make("OutputGate", combiner)
    source, features, mask = batch([5, 3])
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator())
        states = make(None).encode(source, {}, mask)
        embedding = model.feature_embedding
        tables = [embedding.features[name].table.weight[features[name]] for name in VALUES]  # type: ignore[union-attr,index]
        merged = embedding.combiner(tables) * math.sqrt(DIM)
        result = model.encode(source, features, mask)
    weights = {name: weight.double().numpy() for name, weight in model.method.state_dict().items()}
    parts = [states.double().numpy(), merged.double().numpy()]
    expected = torch.from_numpy(everywhere("output_gate", parts, weights)).float()
    torch.testing.assert_close(result[mask], expected[mask])


def test_method_of_the_guide() -> None:
    """A user's method: the merged features are added to the encoder's output of words only."""
    model = make("examples.output_sum.OutputSum", "Add")
    source, features, mask = batch([5, 3])
    with torch.no_grad():
        states = make(None).encode(source, {}, mask)
        embedders = model.feature_embedding.features
        tables = [embedders[name].table.weight[features[name]] for name in VALUES]  # type: ignore[union-attr,index]
        result = model.encode(source, features, mask)
    expected = states + math.sqrt(DIM) * (tables[0] + tables[1])
    torch.testing.assert_close(result[mask], expected[mask])


@pytest.mark.parametrize("method", ENCODERS)
def test_encoders(method: str) -> None:
    """Each feature is read as words are, by its own layers; their outputs merged by the formula."""
    model, (source, features, mask) = make(method, ""), batch([5, 3])
    encoders = model.method.embedding
    assert isinstance(encoders, FeatureEncoders)
    with torch.no_grad():
        outputs = [make(None).encode(source, {}, mask)]
        for name, layers in zip(VALUES, encoders.encoders, strict=True):
            reader = make(None)  # a model whose words are the feature's values
            table = encoders.embedding.features[name].table  # type: ignore[union-attr]
            reader.source.words = table  # type: ignore[assignment]
            *blocks, norm = layers.children()
            reader.encoder, reader.encoder_norm = nn.ModuleList(blocks), norm  # type: ignore[assignment]
            outputs.append(reader.encode(features[name], {}, mask))
        result = model.encode(source, features, mask)
    weights = {k: w.double().numpy() for k, w in model.method.merged.state_dict().items()}  # type: ignore[union-attr,operator]
    parts = [output.double().numpy() for output in outputs]
    expected = torch.from_numpy(everywhere(ENCODERS[method], parts, weights)).float()
    torch.testing.assert_close(result[mask], expected[mask])
    first, second = (
        layers.state_dict()["0.attention.inputs.weight"] for layers in encoders.encoders
    )
    assert not first.equal(second)


@pytest.mark.parametrize("method", ATTENDING)
def test_attention_to_each_encoder(method: str) -> None:
    """A layer of the decoder from its parts, and by steps the same scores as at once."""
    model, (source, features, mask) = make(method, ""), batch([5, 3])
    target = torch.tensor([[BOS, 5, 6, 7], [BOS, 8, 9, 4]])
    with torch.no_grad():
        memory = model.encode(source, features, mask)
        assert memory.shape == (2, 5, 3 * DIM)
        layer, x = model.decoder[0], model.target(target)
        assert isinstance(layer, DecoderLayer)
        cross = mask[:, None, None]
        states = x + layer.attention(layer.attention_norm(x), None, causal=True)
        attentions = [layer.cross, *layer.further]
        norms = [layer.cross_norm, *layer.further_norms]
        memories, total = memory.split(DIM, dim=-1), torch.zeros(())
        assert memories[0].equal(make(None).encode(source, {}, mask))
        for number, (attention, part) in enumerate(zip(attentions, memories, strict=True)):
            norm = norms[number] if method == "EncodersSerial" else norms[0]
            read = attention.attend_memory(norm(states), *attention.project_memory(part), cross)  # type: ignore[operator]
            if method == "EncodersSerial":
                states = states + read
            total = total + read
        states = states if method == "EncodersSerial" else states + total
        expected = states + layer.forward_layer(layer.forward_norm(states))
        torch.testing.assert_close(layer.decode(x, memory, cross), expected)
        at_once = model.compute_logits(model.decode(target, memory, mask))
        cache = model.start_cache(memory, mask)
        for position in range(4):
            step = model.decode_step(target[:, position], position, cache)
            torch.testing.assert_close(step, at_once[:, position], rtol=1e-4, atol=1e-5)


def test_multitask() -> None:
    """The loss of the translation, and by hand that of each known tag; words only else."""
    model, words = make("Multitask", ""), make(None)
    source, features, mask = batch([5, 3])
    features["upos"][0, 0], features["upos"][0, 1] = UNK, END  # are not predicted
    target = torch.tensor([[BOS, 5, 6, 7], [BOS, 8, PAD, PAD]])
    right = torch.tensor([[5, 6, 7, EOS], [8, EOS, PAD, PAD]])
    real = torch.arange(8)[right.flatten() != PAD]
    inputs = source, features, target, right, real
    loss, nll = Objective(model, 0.1, fused=True)(*inputs)
    words_loss, words_nll = Objective(words, 0.1, fused=True)(source, {}, target, right, real)
    assert nll.equal(words_nll)
    states, expected = words.encode(source, {}, mask).tolist(), 0.0
    for name in VALUES:
        rows = {k: w.double().numpy() for k, w in model.method.taggers[name].state_dict().items()}  # type: ignore[index,union-attr]
        for n, t in mask.nonzero().tolist():
            tag = int(features[name][n, t])
            if tag >= FIRST:
                logits = affine({f"U.{k}": w for k, w in rows.items()}, "U", states[n][t])
                expected -= math.log(softmax(logits)[tag - FIRST])
    assert (loss - words_loss).item() == pytest.approx(0.1 * expected, rel=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("method", ["OutputGate", *ENCODERS])
def test_padding_changes_nothing(method: str) -> None:
    model = make(method, "" if method in ENCODERS else "Concat")
    source, features, mask = batch([6, 4])
    with torch.no_grad():
        both = model.encode(source, features, mask)[1, :4]
        alone = {name: ids[1:, :4] for name, ids in features.items()}
        one = model.encode(source[1:, :4], alone, mask[1:, :4])[0]
    torch.testing.assert_close(both, one)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=[pytest.mark.thorough] * (m not in QUICK)) for m in BEYOND],
)
def test_runs(small: Small, method: str) -> None:
    """Recorded under its name, its parameters counted, and matched by words only."""
    cfg = settings(small, method, control="shuffled")
    run = run_training(cfg)
    record = run.record
    assert record.method == name_row_method(cfg.combiner._target_, cfg.method._target_)
    assert record.method.startswith(method)
    features = "+".join(cfg.features)
    assert run.folder.name.startswith(f"{record.method}-{features}-shuffled-s1-")
    assert record.features == list(cfg.features)
    assert ("method" in record.parameters) == (method not in WITHOUT_PARAMETERS)
    matched = match_parameters(settings(small, method), Console(quiet=True))
    assert (matched.combiner, matched.method) == (CombinerConfig(), MethodConfig())


@pytest.mark.slow
@pytest.mark.parametrize("method", BEYOND)
def test_resume_is_exact(small: Small, method: str) -> None:
    """A run that was stopped gives the bits of one that was not."""
    combiner, features = COMBINER.get(method, "none"), FEATURES.get(method, sorted(VALUES))
    overrides = (f"method={method}", f"combiner={combiner}", f"features=[{','.join(features)}]")
    stop(small, *overrides)
    assert outcome(small.train(*overrides)) == small.whole(*overrides)


@pytest.mark.thorough
def test_multitask_predicts(small: Small) -> None:
    """Trained, it translates without annotation, and predicts tags better than the commonest."""
    cfg = settings(small, "multitask")
    cfg.trainer.max_steps = cfg.trainer.validate_every = 60
    cfg.optimizer.lr = 0.02
    cfg.method.args["weight"] = 1.0
    run = run_training(cfg)
    model = TrainedModel(run.folder)
    assert model.encoder.annotation_columns == ()
    plain = small.folder / "plain.txt"
    plain.write_text("The bakers wait.\nI saw her duck.\n", encoding="utf-8")
    done = call("translate", f"run={run.folder}", f"input={plain}")
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    pytest.importorskip("ctranslate2")
    export_run(run.folder, None, None, 64)
    exported = call("translate", f"run={run.folder}", f"input={plain}", "engine=ctranslate2")
    assert exported.out == done.out
    prepared = prepare(cfg, cfg.features)
    batch = collate(prepared.train, np.arange(80), ["deprel", "upos"])
    with torch.no_grad():
        memory = model.model.encode(batch.source, batch.features, batch.source_mask)
    for name in ("deprel", "upos"):
        tags, tagger = batch.features[name], model.model.method.taggers[name]  # type: ignore[index,union-attr]
        is_tag = tags >= FIRST
        right = (tagger(memory).argmax(-1) + FIRST == tags)[is_tag].float().mean()
        assert right > 1.5 * tags[is_tag].bincount().max() / is_tag.sum()


def test_identity(small: Small) -> None:
    """The default leaves no trace in what determines a run."""
    cfg = small.config()
    assert "method" not in identity_settings(cfg, "data")
    cfg.method = MethodConfig("nmt_feat.methods.OutputGate")
    assert identity_settings(cfg, "data")["method"] == {"_target_": "nmt_feat.methods.OutputGate"}
    cfg.method.args["bias"] = -1.0
    assert identity_settings(cfg, "data")["method"]["args"] == {"bias": -1.0}


def message(cfg: TrainConfig) -> str:
    with pytest.raises(UserError) as error:
        resolve_settings(cfg, False, Console(quiet=True))
    return str(error.value)


def test_refused(small: Small) -> None:
    """Before data is read, in one sentence."""
    assert message(settings(small, "output_gate", None)) == (
        "combiner=none method=output_gate: words only has no features for it; choose a combiner, "
        "such as concat, or method=embedding"
    )
    cfg = settings(small, "output_gate")
    cfg.model.source_words = False
    assert message(cfg) == (
        "method=output_gate model.source_words=false: the encoder reads only words, which are then "
        "absent; leave one of them out"
    )
    gate = "nmt_feat.combiners.Gate"
    assert message(settings(small, "output_gate", method=MethodConfig(gate))) == (
        f"method._target_={gate}: must be derived from nmt_feat.methods.Method"
    )
    assert message(settings(small, "multitask", "gate")) == (
        "method=multitask combiner=gate: this method merges no features with the word; set "
        "combiner=none"
    )
    assert message(settings(small, "multitask", features={})) == (
        "features=[]: method=multitask needs features, for instance features=[upos,deprel]"
    )
    units = {"char": FeatureConfig("nmt_feat.features.CharCNN", column="char")}
    assert message(settings(small, "multitask", features=units)) == (
        "method=multitask: cannot predict features.char, because it is a tag before the sentence "
        "or a piece may have several of its values; leave it out"
    )
    cfg = settings(small, "multitask")
    cfg.features["upos"].policy = "tag"
    assert message(cfg).startswith("method=multitask: cannot predict features.upos")
    cfg = settings(small, "multitask")
    cfg.features["upos"].dropout = 0.1
    assert message(cfg) == (
        "method=multitask features.upos.dropout=0.1: with this method, the feature has no "
        "embedding; leave it out"
    )
    cfg = settings(small, "encoders_sum")
    cfg.features["upos"].dim = 8
    assert message(cfg) == (
        "method=encoders_sum features.upos.dim=8: its encoder is as wide as the model; leave it "
        "out, or set features.upos.dim=null"
    )
    cfg.method = settings(small, "multitask").method
    assert message(cfg).endswith("no embedding; leave it out, or set features.upos.dim=null")
    cfg = settings(small, "interleave")
    cfg.model.tie, cfg.subword.joint = "all", True
    assert message(cfg) == (
        "method=interleave model.tie=all: tags are tokens of the source only, so it needs a "
        "separate table; set model.tie=target"
    )
    assert message(settings(small, "interleave", features=units)).startswith(
        "method=interleave: cannot write features.char, because"
    )
    cfg = settings(small, "interleave")
    cfg.method.args["order"] = ["upos"]
    assert message(cfg) == "method.args.order=[upos]: name each feature once: deprel, upos"
    cfg.method.args = {"side": "befor"}
    assert message(cfg) == "method.args.side=befor: did you mean 'before'?"
    cfg = settings(small, "multitask")
    cfg.method.args["weight"] = 0
    assert message(cfg) == "method.args.weight=0: must be above 0"
    tree = settings(small, "tree_attention").method
    assert message(settings(small, "multitask", method=tree)) == (
        "method=tree_attention: needs the feature heads, which says where heads are; choose it: "
        "features=[deprel,upos,heads]"
    )
    cfg = settings(small, "tree_attention")
    cfg.features["heads"].policy = "copy"
    assert message(cfg) == (
        "method=tree_attention: features.heads does not say where heads are; set "
        "features.heads.column=head_distance features.heads.policy=first"
    )
    assert message(settings(small, "tree_attention", "gate")) == (
        "features=[heads]: the combiner has nothing to merge; choose features, for instance "
        "features=[upos,deprel], or combiner=none"
    )
    cfg = settings(small, "tree_distance")
    cfg.method.args["most"] = 0
    assert message(cfg) == (
        "method=tree_distance: layers=1, most=0, strength=1.0: at least 1 layer, a whole "
        "distance of at least 1, a strength of at least 0"
    )
    cfg = settings(small, "tree_attention")
    cfg.method.args["deviation"] = 0.0
    assert message(cfg) == (
        "method=tree_attention: layers=1, deviation=0.0, ignored=0.0: at least 1 layer, a "
        "deviation above 0, a probability below 1"
    )
    cfg = settings(small, "tree_attention")
    cfg.method.args["layers"] = cfg.model.encoder_layers + 1
    assert message(cfg) == (
        f"method=tree_attention: changes {cfg.model.encoder_layers + 1} layers of the encoder, "
        f"which has model.encoder_layers={cfg.model.encoder_layers}; lower method.args.layers"
    )
    output = "nmt_feat.methods.OutputGate"
    cfg = settings(small, "output_gate", method=MethodConfig(output, {"bais": 1}))
    assert message(cfg) == f"{output} takes no argument 'bais'; did you mean 'bias'?"


def test_a_sweep_ignores_a_method_of_words_only(small: Small) -> None:
    cfg = settings(small, "output_gate", None)
    resolved = resolve_settings(cfg, True, Console(quiet=True))
    assert (resolved.method, resolved.features) == (MethodConfig(), {})


def test_no_export(small: Small) -> None:
    folder = run_training(settings(small, "output_gate")).folder
    with pytest.raises(UserError, match="method=output_gate: CTranslate2 has no model of this fo"):
        export_run(folder, None, None, 64)
