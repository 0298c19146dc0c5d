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

ORDER: tuple[type[Combiner], ...] = (
    *(Gate, DynamicSwitch, WordGate, AdditiveGate, DME, DMESigmoid),
    *(WeightedSum, Average, Add, MLP, ConcatProject, SelfRelevance, WordRelevance, Concat),
)
METHODS = {to_snake_case(cls.__name__): cls for cls in ORDER}
"""The methods that a feature may have, in the order in which they are applied."""
Method = str | type[Combiner]
"""The name of a shipped method, or a class."""


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
        methods: Mapping[str, Method] = MappingProxyType({}),
        wide: Method = "gate",
        narrow: Method = "concat",
    ) -> None:
        super().__init__(parts, model_dim)
        word, *features = parts
        for name in methods:
            if name not in features:
                raise CombinerError(f"methods: no feature {name!r}; known: {', '.join(features)}")
        for method in (wide, narrow):  # a wrong name is an error even if no feature has the method
            find_method(method)
        groups: dict[Method, list[str]] = {}
        for name in features:
            default = wide if 8 * parts[name] > model_dim else narrow
            groups.setdefault(methods.get(name, default), []).append(name)
        # The result of a method is the word for the next one, so it is as wide as that one's word.
        # That is why widths are chosen from the last method to the first:
        #
        #     model_dim 16   Concat(word 16 -> 13, upos 2, deprel 1)   Gate(word 13, lemma 13)
        stages: list[Combiner] = []
        width = model_dim
        widths: dict[str, int] = {}
        for method in sorted(groups, key=position_of, reverse=True):
            group = {word: width, **{feature: parts[feature] for feature in groups[method]}}
            stages.insert(0, find_method(method)(group, width))
            width = stages[0].widths[word]
            widths |= stages[0].widths
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


def find_method(method: Method) -> type[Combiner]:
    """The class of a method."""
    if isinstance(method, type):
        return method
    if method not in METHODS:
        raise CombinerError(f"no method {method!r}; known: {', '.join(METHODS)}")
    return METHODS[method]


def position_of(method: Method) -> tuple[int, str]:
    """A method's rank in the order of application: classes come first, by their names."""
    if isinstance(method, type):
        return -1, f"{method.__module__}.{method.__qualname__}"
    return [*METHODS, method].index(method), method  # an unknown name comes last
