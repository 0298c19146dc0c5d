"""The combiners' formulas as loops over numbers, written from their sources; no nmt_feat here.

Each takes the parts of one position, lists of numbers with the word's first, and the weights by
name, and gives the merged list. `everywhere` applies one to all positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vector = Sequence[float]
Weights = Mapping[str, Array]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def softmax(logits: Sequence[float]) -> list[float]:
    total = sum(math.exp(x) for x in logits)
    return [math.exp(x) / total for x in logits]


def affine(weights: Weights, name: str, x: Vector) -> list[float]:
    """W x + c; without c where there is none."""
    rows = weights[f"{name}.weight"]
    bias = weights.get(f"{name}.bias", np.zeros(len(rows)))
    out = []
    for row, c in zip(rows, bias, strict=True):
        total = float(c)
        for w, v in zip(row, x, strict=True):
            total += float(w) * v
        out.append(total)
    return out


def none(parts: Sequence[Vector], w: Weights) -> list[float]:
    return list(parts[0])


def concat(parts: Sequence[Vector], w: Weights) -> list[float]:
    """[a; b; c]: all elements of a, then all of b, then all of c."""
    out = []
    for part in parts:
        for x in part:
            out.append(x)
    return out


def concat_project(parts: Sequence[Vector], w: Weights) -> list[float]:
    """W [a; b; c] + d."""
    return affine(w, "project", concat(parts, w))


def mlp(parts: Sequence[Vector], w: Weights) -> list[float]:
    """relu(W [a; b; c] + d)."""
    return [x if x > 0 else 0.0 for x in affine(w, "project", concat(parts, w))]


def weighted(parts: Sequence[Vector], scalars: Sequence[float]) -> list[float]:
    """r a + s b + t c, scalars."""
    out = [0.0] * len(parts[0])
    for part, s in zip(parts, scalars, strict=True):
        for d, x in enumerate(part):
            out[d] += s * x
    return out


def add(parts: Sequence[Vector], w: Weights) -> list[float]:
    """a + b + c."""
    return weighted(parts, [1.0] * len(parts))


def average(parts: Sequence[Vector], w: Weights) -> list[float]:
    """(a + b + c) / 3."""
    return [x / len(parts) for x in add(parts, w)]


def weighted_sum(parts: Sequence[Vector], w: Weights) -> list[float]:
    return weighted(parts, w["scalars"].tolist())


def dme(parts: Sequence[Vector], w: Weights) -> list[float]:
    """Kiela et al.: w'_i = P_i w_i + b_i; alpha = softmax_i(v . w'_i); sum of alpha_i w'_i."""
    projected = [affine(w, f"project.{i}", part) for i, part in enumerate(parts)]
    return weighted(projected, softmax([affine(w, "score", part)[0] for part in projected]))


def dme_sigmoid(parts: Sequence[Vector], w: Weights) -> list[float]:
    """The same with alpha_i = sigmoid(v . w'_i + u)."""
    projected = [affine(w, f"project.{i}", part) for i, part in enumerate(parts)]
    return weighted(projected, [sigmoid(affine(w, "score", part)[0]) for part in projected])


def elementwise(parts: Sequence[Vector], logits: Sequence[Vector]) -> list[float]:
    """Per element d a softmax over the parts' logits, then the weighted sum."""
    out = []
    for d in range(len(parts[0])):
        weights = softmax([logit[d] for logit in logits])
        out.append(sum(a * part[d] for a, part in zip(weights, parts, strict=True)))
    return out


def gate(parts: Sequence[Vector], w: Weights) -> list[float]:
    """Two parts: g = sigmoid(W [a; b] + c), g a + (1 - g) b. More: softmax, the last logit 0."""
    dim, flat = len(parts[0]), affine(w, "logits", concat(parts, w))
    if len(parts) == 2:
        a, b = parts
        return [sigmoid(flat[d]) * a[d] + (1 - sigmoid(flat[d])) * b[d] for d in range(dim)]
    logits = [flat[i * dim : (i + 1) * dim] for i in range(len(parts) - 1)]
    return elementwise(parts, [*logits, [0.0] * dim])


def ctnmt(parts: Sequence[Vector], w: Weights) -> list[float]:
    """g = sigmoid(W h_lm + U h_nmt + b), g h_lm + (1 - g) h_nmt; [U, W] and b with signs turned."""
    h_nmt, h_lm = parts
    dim, out = len(h_nmt), []
    for d in range(dim):
        logit = -float(w["logits.bias"][d])
        for j in range(dim):
            logit += -float(w["logits.weight"][d, dim + j]) * h_lm[j]
            logit += -float(w["logits.weight"][d, j]) * h_nmt[j]
        g = sigmoid(logit)
        out.append(g * h_lm[d] + (1 - g) * h_nmt[d])
    return out


def dynamic_switch(parts: Sequence[Vector], w: Weights) -> list[float]:
    return ctnmt(parts, w) if len(parts) == 2 else gate(parts, w)


def word_gate(parts: Sequence[Vector], w: Weights) -> list[float]:
    """Two parts: g = sigmoid(W a + c), (1 - g) a + g b. More: softmax, the word's logit 0."""
    dim, flat = len(parts[0]), affine(w, "logits", parts[0])
    if len(parts) == 2:
        a, b = parts
        return [(1 - sigmoid(flat[d])) * a[d] + sigmoid(flat[d]) * b[d] for d in range(dim)]
    logits = [flat[i * dim : (i + 1) * dim] for i in range(len(parts) - 1)]
    return elementwise(parts, [[0.0] * dim, *logits])


def additive_gate(parts: Sequence[Vector], w: Weights) -> list[float]:
    """a + g b + h c, g = sigmoid(W [a; b] + c) and so on."""
    out = list(parts[0])
    for i, feature in enumerate(parts[1:]):
        logits = affine(w, f"logits.{i}", concat([parts[0], feature], w))
        for d, (logit, x) in enumerate(zip(logits, feature, strict=True)):
            out[d] += sigmoid(logit) * x
    return out


def self_relevance(parts: Sequence[Vector], w: Weights) -> list[float]:
    """[a; g b; h c], g = sigmoid(W b + d)."""
    out = list(parts[0])
    for i, feature in enumerate(parts[1:]):
        for logit, x in zip(affine(w, f"masks.{i}", feature), feature, strict=True):
            out.append(sigmoid(logit) * x)
    return out


def word_relevance(parts: Sequence[Vector], w: Weights) -> list[float]:
    """[a; g b; h c], g = sigmoid(W [a; b] + d)."""
    out = list(parts[0])
    for i, feature in enumerate(parts[1:]):
        logits = affine(w, f"masks.{i}", concat([parts[0], feature], w))
        for logit, x in zip(logits, feature, strict=True):
            out.append(sigmoid(logit) * x)
    return out


def output_gate(parts: Sequence[Vector], w: Weights) -> list[float]:
    """h + g v, g = sigmoid(W [h; v] + c), of the encoder's output h and merged features v."""
    state, features = parts
    logits = affine(w, "gate.logits.0", concat(parts, w))
    return [h + sigmoid(logit) * v for h, v, logit in zip(state, features, logits, strict=True)]


def mixed(parts: Sequence[Vector], w: Weights) -> list[float]:
    """Of word, upos, deprel, lemma: the lemma is gated with the word, the others follow."""
    word, *features = parts
    if len(features) < 3:
        return concat(parts, w)
    inner = {name.removeprefix("stages.0."): x for name, x in w.items()}
    return concat([gate([word, features[2]], inner), *features[:2]], w)


def product(parts: Sequence[Vector], w: Weights) -> list[float]:
    """a (1 + b) (1 + c)."""
    out = list(parts[0])
    for feature in parts[1:]:
        out = [x * (1 + y) for x, y in zip(out, feature, strict=True)]
    return out


def film(parts: Sequence[Vector], w: Weights) -> list[float]:
    """(1 + s) a + t, [s; t] = W [b; c] + d."""
    both = affine(w, "modulation", concat(parts[1:], w))
    dim = len(parts[0])
    return [(1 + both[d]) * parts[0][d] + both[dim + d] for d in range(dim)]


def attention(parts: Sequence[Vector], w: Weights) -> list[float]:
    """a + sum of alpha_i V f_i, alpha = softmax_i(Q a . K f_i / sqrt(dim))."""
    word, *features = parts
    query = affine(w, "query", word)
    keys = [affine(w, "key", f) for f in features]
    scores = []
    for key in keys:
        scores.append(sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(len(word)))
    values = [affine(w, "value", f) for f in features]
    return add([word, weighted(values, softmax(scores))], w)


FORMULAS: dict[str, Callable[[Sequence[Vector], Weights], list[float]]] = {
    f.__name__: f
    for f in (
        *(none, concat, concat_project, mlp, add, average, weighted_sum, dme, dme_sigmoid),
        *(gate, dynamic_switch, word_gate, additive_gate, mixed, product, film, attention),
        *(self_relevance, word_relevance),
    )
}
METHODS = {"output_gate": output_gate}
"""Those of methods beyond the embedding that are position-wise, too."""


def everywhere(name: str, parts: Sequence[Array], weights: Weights) -> Array:
    """The formula `name` at each position of parts `(batch, time, width)`."""
    formula, (batch, time, _) = (FORMULAS | METHODS)[name], parts[0].shape
    rows = [
        [formula([part[n, t].tolist() for part in parts], weights) for t in range(time)]
        for n in range(batch)
    ]
    return np.array(rows)
