"""A combiner of one's own: `python train.py combiner._target_=examples.product.Product`."""

from collections.abc import Sequence

from torch import Tensor

from nmt_feat.combiners import Combiner


class Product(Combiner):
    """`a * (1 + b) * (1 + c)`: each feature scales the word, element by element.

    Tables start near 0, so the product of the plain embeddings would start at nearly nothing.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `(batch, time, model_dim)`, the word first, to `(batch, time, model_dim)`."""
        merged, *features = parts
        for feature in features:
            merged = merged * (1 + feature)
        return merged
