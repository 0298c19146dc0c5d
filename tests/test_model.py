"""The Transformer: its embedding layer by hand, and what must not depend on what."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmt_feat.combiners import Add, Concat, Gate, NoFeatures
from nmt_feat.embedders.categorical import make_table
from nmt_feat.features import Categorical
from nmt_feat.model.dropout import LEVELS, add_with_dropout, draw_mask, dropout
from nmt_feat.model.embedding import SourceEmbedding, TargetEmbedding, sinusoidal_positions
from nmt_feat.model.loss import fused_loss
from nmt_feat.model.transformer import Dropouts, FeedForward, Transformer, attend
from tests.support.methods import METHODS, SHIPPED, Method

DIM, SOURCE, TARGET, VALUES = 16, 23, 19, 7
SHAPE = {"dim": DIM, "ffn_dim": 24, "heads": 4, "encoder_layers": 2, "decoder_layers": 2}


def make(combiner: Method = Add, dropout: float = 0.0, seed: int = 1) -> Transformer:
    """A small Transformer with one feature, `upos`, where the combiner wants one."""
    torch.manual_seed(seed)
    merge = combiner({"word": DIM, "upos": 4}, DIM)
    features: dict[str, nn.Module] = {
        name: Categorical(VALUES, width, DIM**-0.5)
        for name, width in list(merge.widths.items())[1:]
    }
    words = make_table(SOURCE, merge.widths["word"], DIM**-0.5)
    model = Transformer(
        SourceEmbedding(words, features, merge, dropout),
        TargetEmbedding(make_table(TARGET, DIM, DIM**-0.5), dropout),
        dropouts=Dropouts(dropout, dropout, dropout),
        **SHAPE,
    )
    for name, parameter in model.named_parameters():  # biases and norms that are not 0 and 1
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        assert bool(parameter.isfinite().all()), name
    return model.eval()


def batch(lengths: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Source ids, features and mask, padded with 0."""
    generator = torch.Generator().manual_seed(5)
    longest = max(lengths)
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    source = torch.randint(1, SOURCE, mask.shape, generator=generator) * mask
    upos = torch.randint(1, VALUES, mask.shape, generator=generator) * mask
    return source, {"upos": upos}, mask


def targets(rows: int, length: int) -> Tensor:
    return torch.randint(1, TARGET, (rows, length), generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("dim", [2, 4, 7, 16])
@pytest.mark.parametrize("first", [0, 3])
def test_positions(dim: int, first: int) -> None:
    """Sines of `place * rate`, then cosines; rates fall geometrically from 1 to 1/10000."""
    count = (dim + 1) // 2
    expected = np.zeros((5, 2 * count))
    for t in range(5):
        for i in range(count):
            angle = (first + t) * 10000.0 ** (-i / max(dim // 2 - 1, 1))
            expected[t, i] = math.sin(angle)
            expected[t, count + i] = math.cos(angle)
    got = sinusoidal_positions(first, 5, dim, torch.zeros(1))
    np.testing.assert_allclose(got.numpy(), expected[:, :dim], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SHIPPED)
def test_order_of_the_embedding_layer(name: str) -> None:
    """Look up, combine, times sqrt(dim), plus positions; nothing rescales after the combiner."""
    model = make(SHIPPED[name])
    source, features, _ = batch([5, 5])
    got = model.source(source, features)
    for n in range(2):
        for t in range(5):
            parts = [model.source.words.weight[source[n, t]]]
            if name != "none":
                embedder = model.source.features["upos"]
                assert isinstance(embedder, Categorical)
                parts.append(embedder.table.weight[features["upos"][n, t]])
            merged = model.source.combiner([part[None, None] for part in parts])[0, 0]
            expected = merged * math.sqrt(DIM) + sinusoidal_positions(t, 1, DIM, merged)[0]
            torch.testing.assert_close(got[n, t], expected)


@pytest.mark.parametrize("name", METHODS)
def test_alike_positions_are_combined_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are those of combining each position by itself."""
    torch.manual_seed(1)
    merge = METHODS[name]({"word": DIM, "upos": 3, "case": 2}, DIM)
    widths = merge.widths
    features: dict[str, nn.Module] = {
        "upos": Categorical(2, widths["upos"], 0.5),
        "case": Categorical(3, widths["case"], 0.5),
    }
    embedding = SourceEmbedding(make_table(4, widths["word"], 0.5), features, merge, 0.0)
    generator = torch.Generator().manual_seed(2)
    ids, upos, case = (
        torch.randint(0, n, (6, 9), generator=generator) for n in (4, 2, 3)
    )  # at most 24 distinct of 54, and some that a sum of ids would confuse
    seen: list[int] = []
    monkeypatch.setattr("nmt_feat.model.embedding.SHAPE_STEP", 8)
    merge.register_forward_hook(lambda _, args, __: seen.append(args[0][0].shape[:-1].numel()))
    weights = torch.randn(6, 9, DIM, generator=generator)
    (embedding(ids, {"case": case, "upos": upos}) * weights).sum().backward()
    assert len(set(zip(*(x.flatten().tolist() for x in (ids, upos, case)), strict=True))) > 16
    assert seen == [24]
    got = [p.grad.clone() for p in embedding.parameters() if p.grad is not None]
    embedding.zero_grad()
    plain = embedding.merge_parts([ids, upos, case], {}) * DIM**0.5 + sinusoidal_positions(
        0, 9, DIM, weights
    )
    torch.testing.assert_close(embedding(ids, {"case": case, "upos": upos}), plain)
    (plain * weights).sum().backward()
    expected = [p.grad for p in embedding.parameters() if p.grad is not None]
    assert len(got) == len(expected) >= 3
    for one, second in zip(got, expected, strict=True):
        torch.testing.assert_close(one, second, rtol=1e-4, atol=1e-5)


def test_target_embedding() -> None:
    model = make()
    ids = targets(2, 6)
    whole = model.target(ids)
    expected = model.target.words.weight[ids] * math.sqrt(DIM) + sinusoidal_positions(
        0, 6, DIM, whole
    )
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(model.target(ids[:, 2:], first=2), whole[:, 2:])


def test_shapes() -> None:
    model = make()
    source, features, mask = batch([5, 3, 7])
    memory = model.encode(source, features, mask)
    hidden = model.decode(targets(3, 4), memory, mask)
    assert memory.shape == (3, 7, DIM)
    assert hidden.shape == (3, 4, DIM)
    assert model.compute_logits(hidden).shape == (3, 4, TARGET)
    torch.testing.assert_close(model(source, features, mask, targets(3, 4)), hidden)


def test_padding_changes_nothing() -> None:
    """A sentence alone, and the same sentence beside longer ones, whatever the padding holds."""
    model = make()
    lengths = [3, 8, 5]
    source, features, mask = batch(lengths)
    memory = model.encode(source, features, mask)
    hidden = model.decode(targets(3, 4), memory, mask)
    garbled = torch.where(mask, source, 9)
    again = model.encode(garbled, features, mask)
    for row, length in enumerate(lengths):
        one = (source[row : row + 1, :length], {"upos": features["upos"][row : row + 1, :length]})
        alone = model.encode(*one, mask[row : row + 1, :length])
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(memory[row, :length], alone[0], **close)
        torch.testing.assert_close(again[row, :length], alone[0], **close)
        out = model.decode(targets(3, 4)[row : row + 1], alone, mask[row : row + 1, :length])
        torch.testing.assert_close(hidden[row], out[0], **close)


def test_the_decoder_does_not_see_ahead() -> None:
    model = make()
    source, features, mask = batch([5, 3])
    memory = model.encode(source, features, mask)
    ids = targets(2, 6)
    hidden = model.decode(ids, memory, mask)
    for position in range(1, 6):
        changed = ids.clone()
        changed[:, position:] = (changed[:, position:] + 1) % TARGET
        out = model.decode(changed, memory, mask)
        torch.testing.assert_close(out[:, :position], hidden[:, :position])
        assert not torch.allclose(out[:, position], hidden[:, position])


def test_what_matters_is_seen() -> None:
    """The encoder looks both ways; a feature and every source piece reach every output."""
    model = make()
    source, features, mask = batch([5])
    hidden = model(source, features, mask, targets(1, 3))
    for position in range(5):
        for changed in (
            (source.clone().index_fill_(1, torch.tensor([position]), 21), features),
            (source, {"upos": (features["upos"] + (torch.arange(5) == position)) % VALUES}),
        ):
            out = model(*changed, mask, targets(1, 3))
            assert bool((out - hidden).abs().amax(-1).gt(1e-6).all())


def test_steps_equal_decoding_at_once() -> None:
    model = make()
    source, features, mask = batch([5, 3, 8])
    memory = model.encode(source, features, mask)
    ids = targets(3, 6)
    expected = model.compute_logits(model.decode(ids, memory, mask))
    cache = model.start_cache(memory, mask)
    for position in range(6):
        logits = model.decode_step(ids[:, position], position, cache)
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected[:, position], rtol=1e-4, atol=1e-5)


def test_steps_after_rows_are_selected() -> None:
    """Hypotheses are dropped, copied and put in another order, as beam search does."""
    model = make()
    source, features, mask = batch([5, 3, 8])
    memory = model.encode(source, features, mask)
    rows = torch.arange(3)
    history = targets(3, 2)
    cache = model.start_cache(memory, mask)
    for position in range(2):
        model.decode_step(history[:, position], position, cache)
    for position, index in enumerate([[2, 0, 0, 1], [3, 1], [1, 1, 0]], start=2):
        chosen = torch.tensor(index)
        cache = cache.select_rows(chosen)
        rows, history = rows[chosen], history[chosen]
        token = (torch.arange(len(index)) * 3 + position) % TARGET
        history = torch.cat([history, token[:, None]], dim=1)
        logits = model.decode_step(token, position, cache)
        expected = model.compute_logits(model.decode(history, memory[rows], mask[rows]))[:, -1]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_selecting_leaves_the_old_cache_alone() -> None:
    model = make()
    source, features, mask = batch([4, 2])
    cache = model.start_cache(model.encode(source, features, mask), mask)
    model.decode_step(torch.tensor([3, 4]), 0, cache)
    copy = cache.select_rows(torch.tensor([0, 1]))
    first = model.decode_step(torch.tensor([5, 6]), 1, copy)
    second = model.decode_step(torch.tensor([5, 6]), 1, cache)
    torch.testing.assert_close(first, second)


def test_parameters_of_tiny() -> None:
    """128/256, 4 heads, 4+4 layers, one table of 9712 pieces: about 2.6M parameters."""
    words = make_table(9712, 128, 128**-0.5)
    source = SourceEmbedding(words, {}, NoFeatures({"word": 128}, 128), 0.1)
    model = Transformer(
        source,
        TargetEmbedding(words, 0.1),
        dim=128,
        ffn_dim=256,
        heads=4,
        encoder_layers=4,
        decoder_layers=4,
        dropouts=Dropouts(0.1, 0.0, 0.1),
    )
    norm, square, ffn = 2 * 128, 128 * 128 + 128, 128 * 256 + 256 + 256 * 128 + 128
    encoder = 4 * (2 * norm + 4 * square + ffn) + norm
    decoder = 4 * (3 * norm + 8 * square + ffn) + norm
    count = sum(parameter.numel() for parameter in model.parameters())  # a shared one once
    assert count == 9712 * 128 + encoder + decoder
    assert 2.5e6 < count < 2.7e6


def test_one_table_for_all_gets_the_gradient_of_all_uses() -> None:
    """With one table, its gradient is the sum of those of three tables of equal values."""
    gradients = []
    for tied in (True, False):
        torch.manual_seed(2)
        tables = [make_table(TARGET, DIM, 0.3) for _ in range(2)]
        tables[1].load_state_dict(tables[0].state_dict())
        if tied:
            tables[1] = tables[0]
        torch.manual_seed(3)
        model = Transformer(
            SourceEmbedding(tables[0], {}, NoFeatures({"word": DIM}, DIM), 0.0),
            TargetEmbedding(tables[1], 0.0),
            dropouts=Dropouts(0.0, 0.0, 0.0),
            **SHAPE,
        )
        source, _, mask = batch([5, 3])
        ids = targets(2, 4)
        hidden = model(source % TARGET, {}, mask, ids)
        loss, _ = fused_loss(hidden.flatten(0, 1), model.target.words.weight, ids.flatten(), 0.1)
        loss.backward()
        used = [tables[0]] if tied else tables
        gradients.append(torch.stack([t.weight.grad for t in used if t.weight.grad is not None]))
    torch.testing.assert_close(gradients[0].sum(0), gradients[1].sum(0))


def test_padding_rows_are_zero_and_stay() -> None:
    model = make(Concat)
    source, features, mask = batch([5, 2])
    model(source, features, mask, targets(2, 3)).sum().backward()
    embedder = model.source.features["upos"]
    assert isinstance(embedder, Categorical)
    for weight in (model.source.words.weight, embedder.table.weight):
        assert weight.grad is not None
        assert not weight[0].any()
        assert not weight.grad[0].any()
        assert bool(weight.grad[1:].any())


def test_tables_start_with_the_standard_deviation_asked() -> None:
    torch.manual_seed(1)
    for weight in (make_table(4000, 32, 0.25).weight, Categorical(4000, 32, 0.25).table.weight):
        assert weight[1:].std().item() == pytest.approx(0.25, rel=0.02)
        assert weight[1:].mean().item() == pytest.approx(0.0, abs=0.005)


def test_attention_and_feed_forward_by_hand() -> None:
    """Scaled products, masked; a ReLU between two layers."""
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 2, 2, 5, 4).unbind(0)
    scores = query @ key.transpose(-1, -2) / 4**0.5
    seen = torch.ones(5, 5).tril().bool()
    expected = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ value
    torch.testing.assert_close(attend(query, key, value, None, causal=True), expected)
    layer, x = FeedForward(4, 8, 0.0), torch.randn(2, 3, 4)
    torch.testing.assert_close(layer(x), layer.outer(layer.inner(x).clamp(min=0)))


def test_what_dropout_keeps_is_scaled() -> None:
    """A share of p is 0, the rest 1 / (1 - p), so that the mean stays."""
    torch.manual_seed(1)
    ones = torch.ones(1000, 100)
    for dropped in (
        dropout(ones, 0.25, True),
        add_with_dropout(torch.zeros_like(ones), ones, 0.25, True),
    ):
        nonzero_values = dropped[dropped != 0]
        torch.testing.assert_close(nonzero_values, torch.full_like(nonzero_values, 4 / 3))
        assert len(nonzero_values) / ones.numel() == pytest.approx(0.75, abs=0.01)


def test_dropout_drops_as_many_levels_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted over all draws, one of each."""
    draws = torch.arange(-LEVELS // 2, LEVELS // 2, dtype=torch.int16).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda empty, *_: empty.copy_(draws))
    for count in (1, 1000, LEVELS - 1):
        assert int(draw_mask(torch.ones(LEVELS), count).sum()) == LEVELS - count


def test_dropout_only_in_training() -> None:
    model = make(dropout=0.3)
    source, features, mask = batch([5, 3])
    ids = targets(2, 4)
    torch.testing.assert_close(
        model(source, features, mask, ids), model(source, features, mask, ids)
    )
    model.train()
    one, second = (model(source, features, mask, ids) for _ in range(2))
    assert not torch.allclose(one, second)


def test_bf16_autocast() -> None:
    model = make(Gate)
    source, features, mask = batch([5, 3])
    ids = targets(2, 4)
    exact = model(source, features, mask, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(source, features, mask, ids)
        weight = model.target.words.weight
        loss, _ = fused_loss(hidden.flatten(0, 1), weight, ids.flatten(), 0.1)
        memory = model.encode(source, features, mask)
        cache = model.start_cache(memory, mask)
        steps = [model.decode_step(ids[:, position], position, cache) for position in range(2)]
    torch.testing.assert_close(hidden.float(), exact, rtol=0.1, atol=0.1)
    assert steps[1].dtype == torch.float32
    torch.testing.assert_close(steps[1], model.compute_logits(exact)[:, 1], rtol=0.2, atol=0.2)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("name", SHIPPED)
def test_sums_over_positions_in_bf16(name: str) -> None:
    """The embedding of a word that stands in a batch 4,000 times gets the gradient of all."""
    embedding = make(SHIPPED[name]).source
    ids = torch.full((40, 100), 5)
    results = []
    for enabled in (True, False):
        embedding.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            embedded = embedding(ids, {"upos": ids})
        assert embedded.dtype == torch.float32  # so is the residual stream, whatever the method
        embedded.sum().backward()
        assert embedding.words is not None
        assert embedding.words.weight.grad is not None
        results.append(embedding.words.weight.grad[5])
    torch.testing.assert_close(
        results[0], results[1], rtol=0.05, atol=0.03 * float(results[1].abs().max())
    )
