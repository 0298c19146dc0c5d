"""Different combiners for different features of one model."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from nmt_feat.base.names import to_snake_case
from nmt_feat.combiners.base import Combiner, CombinerError
from nmt_feat.combiners.concats import MLP, Concat, ConcatProject
from nmt_feat.combiners.gates import AdditiveGate, DynamicSwitch, Gate, WordGate
from nmt_feat.combiners.relevance import SelfRelevance, WordRelevance
from nmt_feat.combiners.sums import DME, Add, Average, DMESigmoid, WeightedSum

_ORDER: tuple[type[Combiner], ...] = (
    *(Gate, DynamicSwitch, WordGate, AdditiveGate, DME, DMESigmoid),
    *(WeightedSum, Average, Add, MLP, ConcatProject, SelfRelevance, WordRelevance, Concat),
)
METHODS = {to_snake_case(cls.__name__): cls for cls in _ORDER}
"""The methods that a feature may have, in the order in which they are applied."""
FeatureMethod = str | type[Combiner]
"""How a feature is merged: the name of a shipped method, or a class."""


class Mixed(Combiner):
    """`[g * a + (1 - g) * b; c]`, for example: gate b, concatenate c; as Sockeye allows per factor.

    One combiner merges all features of one method with the word. Its result is the word for the
    next method, in the order of `METHODS`: gates, then averages, sums and concatenation. (The last
    three are in Sockeye's order.)

    Features without a method follow the rule of thumb of the tutorial "4 methods to combine
    embeddings": gate a feature that tells as much as a word, concatenate one that tells little.
    Here a feature that prefers more than an eighth of the model's width, such as a lemma, is
    `wide`, and any other is `narrow`.

    Without words (`model.source_words=false`) the others merge with the first feature.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        methods: the method of a feature by the feature's name: the name of a shipped method as in
            `combiner=`, or a class. (In settings: a class's dotted name.)
        wide: the method of wide features that `methods` does not name.
        narrow: the method of narrow features that `methods` does not name.
    """

    min_parts = 2

    def __init__(
        self,
        parts: Mapping[str, int],
        model_dim: int,
        methods: Mapping[str, FeatureMethod] = MappingProxyType({}),
        wide: FeatureMethod = "gate",
        narrow: FeatureMethod = "concat",
    ) -> None:
        super().__init__(parts, model_dim)
        word, *features = parts
        for name in methods:
            if name not in features:
                raise CombinerError(f"methods: no feature {name!r}; known: {', '.join(features)}")
        for method in (wide, narrow):  # a wrong name is an error even if no feature has the method
            find_method(method)
        groups: dict[FeatureMethod, dict[str, int]] = {}  # widths of each method's features
        for name in features:
            default = wide if 8 * parts[name] > model_dim else narrow
            groups.setdefault(methods.get(name, default), {})[name] = parts[name]
        # The result of a method is the word for the next one, so it is as wide as that one's word.
        # That is why widths are chosen from the last method to the first:
        #
        #     model_dim 16   Concat(word 16 -> 13, upos 2, deprel 1)   Gate(word 13, lemma 13)
        stages: list[Combiner] = []
        widths = {word: model_dim}
        for method in sorted(groups, key=rank_method, reverse=True):
            stage = find_method(method)({word: widths[word], **groups[method]}, widths[word])
            stages.insert(0, stage)
            widths |= stage.widths
        self.widths = {name: widths[name] for name in parts}
        self.stages = nn.ModuleList(stages)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge method by method, `(batch, time, model_dim)`."""
        named = dict(zip(self.names, parts, strict=True))
        merged = parts[0]
        for stage in self.stages:
            assert isinstance(stage, Combiner)
            merged = stage([merged, *(named[name] for name in stage.names[1:])])
        return merged


def find_method(method: FeatureMethod) -> type[Combiner]:
    """The class of a method."""
    if isinstance(method, type):
        return method
    if method not in METHODS:
        raise CombinerError(f"no method {method!r}; known: {', '.join(METHODS)}")
    return METHODS[method]


def rank_method(method: FeatureMethod) -> tuple[int, str]:
    """A method's rank in the order of application: classes come first, by their names."""
    if isinstance(method, type):
        return -1, f"{method.__module__}.{method.__qualname__}"
    names = list(METHODS)
    # `find_method` refuses an unknown name.
    return names.index(method) if method in METHODS else len(names), method
