"""Gates: a weight for each element of a part. Each formula that is called a gate has a class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners.base import Combiner, make_linear

OPEN_LOGIT = 12.0
"""A gate of this logit takes all of the word but 6 millionths. A larger one would hardly learn."""


def blend_parts(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """`(1 - share) * a + share * b`, in the wider of both types, which differ in bf16-mixed."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return torch.lerp(a.to(dtype), b.to(dtype), share.to(dtype))


class Gate(Combiner):
    """`g * a + (1 - g) * b`, `g = sigmoid(W [a; b] + c)`, element by element.

    The gate of the tutorial "4 methods to combine embeddings"; the same functions as the dynamic
    switch of Yang et al. (2020), equations 6 and 7. For n parts, weights per element that sum to
    1 as in Park & Zhao (2020), who do not print how theirs are computed: a softmax over the parts
    whose logits are linear in all parts, the last part's fixed at 0. For two parts that is exactly
    the sigmoid, with the same parameters.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of c; 0 starts near the average, above 0 nearer to the first parts.
    """

    min_parts = 2

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        self.logits = make_linear(len(parts) * model_dim, (len(parts) - 1) * model_dim, bias)

    @torch.no_grad()
    def start_as_word(self) -> bool:
        """Open the gate to the word, whatever the parts are."""
        self.logits.weight.zero_()
        self.logits.bias.zero_()[: self.model_dim] = OPEN_LOGIT
        return True

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The gates, `(batch, time, parts, model_dim)`; they sum to 1 over the parts."""
        logits = self.logits(torch.cat(list(parts), dim=-1))
        logits = logits.unflatten(-1, (len(parts) - 1, self.model_dim))
        last_logits = torch.zeros_like(logits[..., :1, :])
        return torch.softmax(torch.cat([logits, last_logits], dim=-2), dim=-2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Gated sum of the parts, `(batch, time, model_dim)`."""
        if len(parts) == 2:  # a sigmoid is half the work of a softmax over two
            a, b = parts
            return blend_parts(b, a, torch.sigmoid(self.logits(torch.cat([a, b], dim=-1))))
        return (self.weights_of(parts) * torch.stack(list(parts), dim=-2)).sum(dim=-2)


class DynamicSwitch(Gate):
    """`g * h_lm + (1 - g) * h_nmt`, `g = sigmoid(W h_lm + U h_nmt + b)`: an alias of `Gate`.

    The dynamic switch of CTNMT (Yang et al. 2020), equations 6 and 7. h_nmt is the word's
    embedding, the first part, and h_lm the feature's: there, BERT's second-to-last layer. `Gate`
    writes the same with 1 - g in place of g, so all signs turn: U and W are the first and the
    second half of `logits.weight`, and b is `logits.bias`, times -1. `bias` therefore starts nearer
    to h_lm when it is below 0. More parts than two: as in `Gate`.
    """


class WordGate(Combiner):
    """`(1 - g) * a + g * b`, `g = sigmoid(W a + c)`: the word alone decides, element by element.

    The vector gate of Balazs & Matsuo (2019), where a is the embedding of the word and b that of
    its characters. For n parts, a softmax over the parts whose logits are linear in the word; the
    word's own logit is 0. For two parts that is exactly the sigmoid. A `Gate` whose matrix is zero
    outside of the word's columns is the same function.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of c; 0 starts near the average, above 0 nearer to the features.
    """

    min_parts = 2

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        self.logits = make_linear(model_dim, (len(parts) - 1) * model_dim, bias)

    @torch.no_grad()
    def start_as_word(self) -> bool:
        """Close the gates of the features, whatever the word is."""
        self.logits.weight.zero_()
        self.logits.bias.fill_(-OPEN_LOGIT)
        return True

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The gates, `(batch, time, parts, model_dim)`; they sum to 1 over the parts."""
        logits = self.logits(parts[0]).unflatten(-1, (len(self.names) - 1, self.model_dim))
        word_logits = torch.zeros_like(logits[..., :1, :])
        return torch.softmax(torch.cat([word_logits, logits], dim=-2), dim=-2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Gated sum of the parts, `(batch, time, model_dim)`."""
        if len(parts) == 2:  # a sigmoid is half the work of a softmax over two
            a, b = parts
            return blend_parts(a, b, torch.sigmoid(self.logits(a)))
        return (self.weights_of(parts) * torch.stack(list(parts), dim=-2)).sum(dim=-2)


class AdditiveGate(Combiner):
    """`a + g * b`, `g = sigmoid(W [a; b] + c)`: all of the word, and the feature through a gate.

    The gated fusion of Wu et al. (2021), who add an image's vector to the encoder's output. For n
    parts `a + g * b + h * c`: each feature has its own gate, which reads the word and this feature.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of c; 0 starts with half of each feature, below 0 nearer to the word.
    """

    min_parts = 2
    needs_zero_parts = True

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        layers = (make_linear(2 * model_dim, model_dim, bias) for _ in range(len(parts) - 1))
        self.logits = nn.ModuleList(layers)

    def start_as_word(self) -> bool:
        """With zero features the result is the word."""
        return True

    def compute_gate(self, index: int, parts: Sequence[Tensor]) -> Tensor:
        """The gate of the feature `parts[index]`, `(batch, time, model_dim)`."""
        word, feature = parts[0], parts[index]
        gate = torch.sigmoid(self.logits[index - 1](torch.cat([word, feature], dim=-1)))
        return gate.to(word)

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The gates, `(batch, time, parts, model_dim)`; the word's is 1."""
        gates = (self.compute_gate(i, parts) for i in range(1, len(parts)))
        return torch.stack([torch.ones_like(parts[0]), *gates], dim=-2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The word and its gated features, `(batch, time, model_dim)`."""
        merged = parts[0]
        for i in range(1, len(parts)):
            merged = merged + self.compute_gate(i, parts) * parts[i]
        return merged
