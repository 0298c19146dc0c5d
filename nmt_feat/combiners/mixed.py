"""Different methods for different features of one model."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from nmt_feat.combiners.base import Combiner, method
from nmt_feat.combiners.concats import MLP, Concat, ConcatProject
from nmt_feat.combiners.gates import AdditiveGate, DynamicSwitch, Gate, WordGate
from nmt_feat.combiners.sums import DME, Add, Average, DMESigmoid, WeightedSum
from nmt_feat.config.instantiate import locate_class
from nmt_feat.errors import UserError, suggest

ORDER: tuple[type[Combiner], ...] = (
    *(Gate, DynamicSwitch, WordGate, AdditiveGate, DME, DMESigmoid),
    *(WeightedSum, Average, Add, MLP, ConcatProject, Concat),
)
METHODS = {method(cls.__name__): cls for cls in ORDER}
"""What a feature's method may be, in the order in which they are applied."""


class Mixed(Combiner):
    """`[g * a + (1 - g) * b; c]`, say: gate b, concatenate c; as Sockeye allows per factor.

    The features of one method merge with the word in one combiner of that method, whose result
    takes the word's place for the next method, in the order of `METHODS`: averages before sums
    before concatenation, as in Sockeye, and all gates before these.

    Features that are not named follow the rule of thumb of the tutorial "4 methods to combine
    embeddings" (informative as a word: gate; of little information: concatenate, narrow): those
    that ask for more than an eighth of the model's width, such as a lemma, are `wide`.

    Without words (`model.source_words=false`) the first feature is what the others merge with.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        methods: the method of a feature by the feature's name: a shipped one as in `combiner=`, or
            the dotted name of one's own class.
        wide: the method of other features that ask for more than an eighth of `model_dim`.
        narrow: the method of the others.
    """

    least = 2

    def __init__(
        self,
        parts: Mapping[str, int],
        model_dim: int,
        methods: Mapping[str, str] | str = MappingProxyType({}),
        wide: str = "gate",
        narrow: str = "concat",
    ) -> None:
        super().__init__(parts, model_dim)
        word, *features = parts
        if isinstance(methods, str):
            example = f"combiner.args.methods.{features[0]}={methods}"
            raise UserError(f"combiner.args.methods={methods}: name the feature, +{example}")
        for name in methods:
            where = f"combiner.args.methods.{name}"
            if name == word:
                raise UserError(
                    f"{where}: the first part has no method, the others merge with it; "
                    f"known: {', '.join(features)}"
                )
            if name not in features:
                raise UserError(f"{where}: no such feature is chosen; {suggest(name, features)}")
        for name in (wide, narrow):  # a mistake is one also where no feature is left for it
            _class(name)
        groups: dict[str, list[str]] = {}
        for name in features:
            other = wide if 8 * parts[name] > model_dim else narrow
            groups.setdefault(str(methods.get(name, other)), []).append(name)
        shipped = list(METHODS)
        chosen = sorted(groups, key=lambda n: (shipped.index(n) if n in METHODS else -1, n))
        classes = {name: _class(name) for name in chosen}
        # From the outside in: the width that a method gives the word is the one before's result.
        stages: list[Combiner] = []
        width = model_dim
        widths: dict[str, int] = {}
        for name in reversed(chosen):
            group = {word: width, **{feature: parts[feature] for feature in groups[name]}}
            stages.insert(0, classes[name](group, width))
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


def _class(name: str) -> type[Combiner]:
    """The class of a method: a shipped one, or one's own by its dotted name."""
    if name in METHODS:
        return METHODS[name]
    if "." not in name:
        raise UserError(f"combiner=mixed: no method {name!r}; {suggest(name, METHODS)}")
    cls: type[Combiner] = locate_class(name)
    if not issubclass(cls, Combiner):
        raise UserError(
            f"combiner=mixed: {name} is no nmt_feat.combiners.Combiner; derive the class from it"
        )
    return cls
