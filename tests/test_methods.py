"""Methods beyond the embedding: their formulas, what they leave as it is, what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torch import Tensor, nn

from nmt_feat.api import LoadedRun
from nmt_feat.cli.export import export_run
from nmt_feat.config.identity import name_method
from nmt_feat.config.schema import (
    CombinerConfig,
    FeatureConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from nmt_feat.data.batches import collate
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.prepare import prepare
from nmt_feat.embedders.ids import BOS, END, EOS, FIRST, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.methods import Interleave, TreeAttention, TreeDistance
from nmt_feat.methods.tree_attention import find_parents, measure_distances
from nmt_feat.model.transformer import (
    Attention,
    DecoderLayer,
    FeatureEncoders,
    Transformer,
    attend,
)
from nmt_feat.runs.build_model import build_model
from nmt_feat.runs.identity import identity_settings
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.runs.run import run_training
from nmt_feat.runs.starting_model import match_parameters
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.formulas import affine, everywhere, softmax
from tests.support.small import ROOT, Small

DIM, PIECES = 16, 23
VALUES = {"deprel": 9, "upos": 7}
SHAPE = ModelConfig(dim=DIM, ffn_dim=24, heads=4, encoder_layers=2, decoder_layers=2)
NAMES = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
BEYOND = [name for name in NAMES if name != "embedding"]
COMBINER = {"output_gate": "concat"}
ENCODERS = {"EncodersConcat": "concat_project", "EncodersSum": "add"}
"""Methods with several encoders, and the formula of what becomes of their outputs."""
ATTENDING = "EncodersSerial", "EncodersParallel"
FEATURES = {"tree_attention": ["heads"], "tree_distance": ["heads"]}
"""What goes with a method; nothing: `combiner=none`."""
WITHOUT_PARAMETERS = "interleave", "tree_attention"
"""Beside the tables of words and features."""


def make(method: str | None, combiner: str = "Concat", seed: int = 1) -> Transformer:
    """A small model of two features; without a method one of words only."""
    beyond = MethodConfig(f"nmt_feat.methods.{method}") if method else MethodConfig()
    features = {name: FeatureConfig(column=name) for name in VALUES} if method else {}
    target = CombinerConfig(f"nmt_feat.combiners.{combiner}" if combiner and method else None)
    model = build_model(SHAPE, target, features, VALUES, PIECES, PIECES, seed, beyond)
    return model.eval()


def batch(lengths: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Source ids, features and mask, padded with 0."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = {
        name: torch.randint(1, size, mask.shape, generator=generator) * mask
        for name, size in (VALUES | {"source": PIECES}).items()
    }
    return ids.pop("source"), ids, mask


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


DISTANCES = torch.tensor([math.nan] * 4 + [-2.0, -1.0, 0.0, 1.0])
"""Of PAD, UNK, END, `<inside>`, and the numbers -2 to 1, whose ids are 4 to 7."""
PLUS, ROOT_ID, MINUS = 7, 6, 4
MONKEY = [PLUS, PLUS, FIRST, ROOT_ID, PLUS, MINUS, FIRST, END]
"""`The mon-key eats a ban-ana </s>`: The and a depend on what follows, both nouns on eats."""


def test_parents_by_hand() -> None:
    """Middles: The 0, monkey 1.5, eats 3, a 4, banana 5.5; a longer row beside changes nothing."""
    ids = torch.tensor([[*MONKEY, PAD, PAD], [PLUS, 5, UNK, 4, 7, 7, 7, 7, 7, END]])
    parents = find_parents(ids, DISTANCES)
    nan = math.nan
    expected = torch.tensor([1.5, 3, 3, 3, 5.5, 3, 3, nan, nan, nan])
    torch.testing.assert_close(parents[0], expected, equal_nan=True)
    # Words of a piece each; one is unknown, and the last one's head is the end symbol.
    expected = torch.tensor([1.0, 0, nan, 1, 5, 6, 7, 8, 9, nan])
    torch.testing.assert_close(parents[1], expected, equal_nan=True)


def test_tree_distances_by_hand() -> None:
    """From the tree The <- monkey <- eats -> banana -> a, by its paths; the end is nowhere."""
    ids = torch.tensor([[*MONKEY, PAD], [PLUS, 5, UNK, 7, 7, 7, 7, END, PAD]])
    words = [0, 1, 1, 2, 3, 4, 4]
    paths = {0: [0, 1, 2], 1: [1, 2], 2: [2], 3: [3, 4, 2], 4: [4, 2]}  # up to the root
    distances = measure_distances(ids, DISTANCES, 3)
    for i, first in enumerate(words):
        for j, second in enumerate(words):
            shared = len(set(paths[first]) & set(paths[second]))
            steps = len(paths[first]) + len(paths[second]) - 2 * shared
            assert distances[0, i, j] == min(steps, 3), (i, j)
    assert (distances[0, 7:] == -1).all()
    assert (distances[0, :, 7:] == -1).all()
    # Words of a piece each: 0 <-> 1, one without a head, then 3 -> 4 -> 5 -> 6 -> the end symbol.
    assert distances[1, :2, :2].tolist() == [[0, 1], [1, 0]]
    assert (distances[1, 2] == -1).all()
    assert distances[1, 3, 3:7].tolist() == [0, 1, 2, 3]
    assert distances[1, 0, 3] == 3  # not connected


def test_tree_distance_by_hand() -> None:
    """Scores of the first layer's attention plus the bias of the distance, number by number."""
    ids, tree = torch.tensor([MONKEY]), TreeDistance(DIM, {"heads": 8}, strength=0.5)
    tree.load_values({"heads": ["<inside>", "-2", "-1", "0", "1"]})
    bias = tree.bias_attention(0, {"heads": ids})
    assert bias is not None
    assert bias[0, 0, 0].tolist() == [0, -0.5, -0.5, -1, -2, -1.5, -1.5, 0]  # of The
    assert tree.bias_attention(1, {"heads": ids}) is None
    attention = Attention(DIM, 4, 0.0, cross=False).eval()
    x, mask = torch.randn(1, 8, DIM), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    result = attention(x, mask, bias=bias)[0]
    weights = {name: w.detach().double().numpy() for name, w in attention.state_dict().items()}
    rows = [affine(weights, "inputs", row) for row in x[0].tolist()]
    joined: list[float] = []
    for head in range(4):  # of The
        columns = range(4 * head, 4 * head + 4)
        products = [sum(rows[0][c] * row[DIM + c] for c in columns) / 2 for row in rows]
        shares = softmax([p + b for p, b in zip(products, bias[0, 0, 0].tolist(), strict=True)])
        joined += [
            sum(a * row[2 * DIM + c] for a, row in zip(shares, rows, strict=True)) for c in columns
        ]
    expected = torch.tensor(affine(weights, "output", joined))
    torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-5)


def make_tree(**args: float) -> TreeAttention:
    tree = TreeAttention(DIM, {"heads": 8}, **args)  # type: ignore[arg-type]
    tree.load_values({"heads": ["<inside>", "-2", "-1", "0", "1"]})
    torch.testing.assert_close(tree.distances, DISTANCES, equal_nan=True)
    return tree.eval()


def test_tree_attention_by_hand() -> None:
    """The attention of the first layer, number by number; the second layer knows no tree."""
    ids, tree = torch.tensor([MONKEY]), make_tree()
    factors = tree.scale_attention(0, {"heads": ids})
    assert factors is not None
    assert tree.scale_attention(1, {"heads": ids}) is None
    attention = Attention(DIM, 4, 0.0, cross=False).eval()
    x, mask = torch.randn(1, 8, DIM), torch.ones(1, 1, 1, 8, dtype=torch.bool)
    result = attention(x, mask, factors=factors)[0]
    weights = {name: w.detach().double().numpy() for name, w in attention.state_dict().items()}
    rows = [affine(weights, "inputs", row) for row in x[0].tolist()]
    parents = [1.5, 3, 3, 3, 5.5, 3, 3, None]
    for i, parent in enumerate(parents):
        joined: list[float] = []
        for head in range(4):
            columns = range(4 * head, 4 * head + 4)
            scores = []
            for j in range(8):
                score = sum(rows[i][c] * rows[j][DIM + c] for c in columns) / 2  # sqrt(4)
                if parent is not None:
                    score *= math.exp(-((j - parent) ** 2) / 2) / math.sqrt(2 * math.pi)
                scores.append(score)
            shares = softmax(scores)
            for c in columns:
                joined.append(sum(a * rows[j][2 * DIM + c] for j, a in enumerate(shares)))
        expected = torch.tensor(affine(weights, "output", joined))
        torch.testing.assert_close(result[i], expected, rtol=1e-4, atol=1e-5)


def test_parent_ignoring() -> None:
    """In training only, of that share of the pieces."""
    tree, ids = make_tree(ignored=0.25), torch.tensor([MONKEY] * 200)
    exact = tree.scale_attention(0, {"heads": ids})
    drawn = tree.train().scale_attention(0, {"heads": ids})
    assert exact is not None
    assert drawn is not None
    is_ignored = (drawn == 1).all(-1)[:, 0, :7]
    assert 0.2 < is_ignored.float().mean() < 0.3
    assert drawn[:, 0, :7][~is_ignored].equal(exact[:, 0, :7][~is_ignored])


def test_dropout_of_scaled_attention() -> None:
    """What is dropped is a share of the weights, as without factors."""
    query, key = torch.randn(2, 1, 1, 50, 4)
    ones = torch.ones(1, 1, 50, 50)
    plain = attend(query, key, torch.eye(50)[None, None], None)
    dropped = attend(query, key, torch.eye(50)[None, None], None, 0.5, factors=ones)
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    torch.testing.assert_close(dropped[dropped > 0], 2 * plain[dropped > 0])


BEGINS = [True, True, False, True, True, True, False, False]
SIZES = {"a": 8, "b": 5}


@pytest.mark.parametrize("side", ["before", "after"])
def test_interleave_by_hand(side: str) -> None:
    """The monkey again, and a sentence of one word, `eat`, whose first tag is unknown."""
    a = [4, 5, FIRST, 6, 7, 4, FIRST, END, UNK, END]
    b = [3, 4, 4, 3, 3, 4, 4, END, 3, END]
    pieces = [10, 11, 12, 13, 14, 15, 16, EOS, 17, EOS]
    ids = {name: np.array(row, np.int32) for name, row in (("a", a), ("b", b))}
    begins = np.array([*BEGINS, True, False])
    method = Interleave(DIM, SIZES, side=side, order=["b", "a"])
    tokens, places = method.insert_tokens(np.array(pieces, np.int32), ids, begins, 100)
    # b: unknown 100, values 101 and 102; a: unknown 103, values 104 to 108
    the, monkey, eats, banana = [101, 105], [102, 106], [101, 107], [102, 105]
    words = [(the, [10]), (monkey, [11, 12]), (eats, [13]), ([101, 108], [14]), (banana, [15, 16])]
    expected, of = [], []
    for tags, word in (*words, ([], [EOS]), ([101, 103], [17]), ([], [EOS])):
        expected += [*tags, *word] if side == "before" else [*word, *tags]
        first, last = (pieces.index(word[0]), pieces.index(word[-1])) if tags else (0, 0)
        at, rows = (first, range(first, last + 1)) if side == "before" else (last, [])
        of += [*[at] * len(tags), *rows] if side == "before" else [*range(first, last), at]
        of += [at] * len(tags) if side == "after" else []
    assert tokens.tolist() == expected
    ends = [i for i, token in enumerate(expected) if token == EOS]
    real = [place for i, place in enumerate(places.tolist()) if i not in ends]
    assert real == [place for i, place in enumerate(of) if i not in ends]
    assert places[ends].tolist() == [7, 9]
    assert Interleave.count_tokens(SIZES) == 9


def test_interleaved_corpus(small: Small) -> None:
    """Prepared splits and texts that are translated are the same tokens; words start as ever."""
    cfg = settings(small, "interleave")
    cfg.method.args["side"] = "after"
    prepared, plain = prepare_run(cfg), prepare(cfg, cfg.features)
    words = sum(len(sentence.words) for sentence in read_conllu(small.corpus / "train.conllu"))
    train = prepared.train
    assert train.source_lengths.sum() == plain.train.source_lengths.sum() + 2 * words
    assert prepared.report.splits["train"]["source"]["pieces"] == train.source_lengths.sum() - len(
        train
    )
    run = run_training(cfg)
    model = TrainedModel(run.folder)
    split = model.encode_pairs(*model.read_test_set())
    (tested,) = prepared.tests.values()
    assert split.source.values.tolist() == tested.source.values.tolist()
    assert split.source.offsets.tolist() == tested.source.offsets.tolist()
    pieces = prepared.encoder.subwords.size
    shape = (cfg.model, CombinerConfig(), {}, prepared.encoder.id_counts, pieces, 9, 1)
    tagged, words_only = build_model(*shape, cfg.method), build_model(*shape)
    assert tagged.source.words is not None
    assert words_only.source.words is not None
    tags = Interleave.count_tokens(prepared.encoder.id_counts)
    assert len(tagged.source.words.weight) == pieces + tags
    assert tagged.source.words.weight[:pieces].equal(words_only.source.words.weight)
    assert LoadedRun(run.folder).inspect(next(iter(read_conllu(small.corpus / "dev.conllu"))))
    pytest.importorskip("ctranslate2")
    export_run(run.folder, None, None, 64)
    text = f"input={small.corpus / 'test.conllu'}"
    done = call("translate", f"run={run.folder}", text, "beam=1")
    exported = call("translate", f"run={run.folder}", text, "beam=1", "engine=ctranslate2")
    assert (done.code, exported.out) == (0, done.out)


@pytest.mark.parametrize("method", ["OutputGate", *ENCODERS])
def test_padding_changes_nothing(method: str) -> None:
    model = make(method, "" if method in ENCODERS else "Concat")
    source, features, mask = batch([6, 4])
    with torch.no_grad():
        both = model.encode(source, features, mask)[1, :4]
        alone = {name: ids[1:, :4] for name, ids in features.items()}
        one = model.encode(source[1:, :4], alone, mask[1:, :4])[0]
    torch.testing.assert_close(both, one)


def settings(
    small: Small, option: str, combiner: str | None = "", **changes: object
) -> TrainConfig:
    """The settings of a run with `method=option`; the combiner is what goes with it, or none."""
    cfg = small.config(f"features=[{','.join(FEATURES.get(option, sorted(VALUES)))}]")
    file = yaml.safe_load((ROOT / "conf" / "method" / f"{option}.yaml").read_text(encoding="utf-8"))
    cfg.method = MethodConfig(**file)
    combiner = COMBINER.get(option) if combiner == "" else combiner
    cfg.combiner = CombinerConfig(f"nmt_feat.combiners.{combiner.title()}" if combiner else None)
    for name, value in changes.items():
        setattr(cfg, name, value)
    return cfg


@pytest.mark.parametrize("method", BEYOND)
def test_runs(small: Small, method: str) -> None:
    """Recorded under its name, its parameters counted, and matched by words only."""
    cfg = settings(small, method, control="shuffled")
    run = run_training(cfg)
    record = run.record
    assert record.method == name_method(cfg.combiner._target_, cfg.method._target_)
    assert record.method.startswith(method)
    features = "+".join(cfg.features)
    assert run.folder.name.startswith(f"{record.method}-{features}-shuffled-s1-")
    assert record.features == list(cfg.features)
    assert ("method" in record.parameters) == (method not in WITHOUT_PARAMETERS)
    matched = match_parameters(settings(small, method), Console(quiet=True))
    assert (matched.combiner, matched.method) == (CombinerConfig(), MethodConfig())


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
        "method=output_gate model.source_words=false: the encoder reads words only, which are then "
        "absent; leave one of them out"
    )
    gate = "nmt_feat.combiners.Gate"
    assert message(settings(small, "output_gate", method=MethodConfig(gate))) == (
        f"method._target_={gate}: is no nmt_feat.methods.Method; derive the class from it"
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
        "method=multitask: cannot predict features.char, of which a piece has no single value, or "
        "which is a tag before the sentence; leave it out"
    )
    cfg = settings(small, "multitask")
    cfg.features["upos"].policy = "tag"
    assert message(cfg).startswith("method=multitask: cannot predict features.upos")
    cfg = settings(small, "multitask")
    cfg.features["upos"].dropout = 0.1
    assert message(cfg) == (
        "method=multitask features.upos.dropout=0.1: is about an embedding, which the feature has "
        "not under this method; leave it out"
    )
    cfg = settings(small, "encoders_sum")
    cfg.features["upos"].dim = 8
    assert message(cfg) == (
        "method=encoders_sum features.upos.dim=8: its encoder is as wide as the model; leave it out"
    )
    cfg = settings(small, "interleave")
    cfg.model.tie, cfg.subword.joint = "all", True
    assert message(cfg) == (
        "method=interleave model.tie=all: tags are tokens of the source alone, which needs a table "
        "of its own; set model.tie=target"
    )
    assert message(settings(small, "interleave", features=units)).startswith(
        "method=interleave: cannot write features.char, of which"
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
        "method=tree_distance: layers=1, most=0, strength=1.0: at least 1 layer, a distance of at "
        "least 1, a strength of at least 0"
    )
    cfg = settings(small, "tree_attention")
    cfg.method.args["deviation"] = 0.0
    assert message(cfg) == (
        "method=tree_attention: layers=1, deviation=0.0, ignored=0.0: at least 1 layer, a "
        "deviation above 0, a probability below 1"
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


def test_heads_of_a_corpus(small: Small) -> None:
    """Carried to pieces and back: where each head's pieces are, from the CoNLL-U file itself."""
    cfg = settings(small, "tree_attention")
    prepared = prepare(cfg, cfg.features)
    batch = collate(prepared.train, np.arange(len(prepared.train)), ["heads"])
    tree = TreeAttention(DIM, prepared.encoder.id_counts)
    tree.load_values(prepared.encoder.name_values())
    parents = find_parents(batch.features["heads"], tree.distances)
    sentences = read_conllu(small.corpus / "train.conllu")
    rows = {text: row for row, text in enumerate(prepared.train.source_texts)}
    for sentence in sentences:
        row = rows[sentence.text]
        begins = [i for i, id in enumerate(batch.features["heads"][row].tolist()) if id > FIRST]
        ends = [*begins[1:], int(batch.source_mask[row].sum()) - 1]
        middles = [(a + b - 1) / 2 for a, b in zip(begins, ends, strict=True)]
        assert len(middles) == len(sentence.words)
        for number, (word, begin, end) in enumerate(zip(sentence.words, begins, ends, strict=True)):
            middle = middles[word.head - 1 if word.head else number]
            assert parents[row, begin:end].tolist() == [middle] * (end - begin)
