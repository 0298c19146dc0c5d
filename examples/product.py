"""A combiner of one's own: `python train.py combiner._target_=examples.product.Product`."""

from collections.abc import Sequence

from torch import Tensor

from nmt_feat.combiners import Combiner


class Product(Combiner):
    """`a * (1 + b) * (1 + c)`: each feature scales the word, element by element.

    Tables start near 0, so a product of the plain embeddings would be nearly 0.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `(batch, time, model_dim)`, the word first, to `(batch, time, model_dim)`."""
        merged, *features = parts
        for feature in features:
            merged = merged * (1 + feature)
        return merged
