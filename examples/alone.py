"""Combiners outside of this framework, on any tensors: `python examples/alone.py`.

Two embeddings of the same tokens, and the two directions of a bidirectional LSTM.
"""

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Add, Combiner, Concat, ConcatProject, Gate


class BiLSTM(nn.Module):
    """A bidirectional LSTM, `(batch, time, inputs)` to `(batch, time, dim)`.

    A combiner merges the two directions, where PyTorch can only put them side by side.
    """

    def __init__(self, inputs: int, dim: int, method: type[Combiner]) -> None:
        super().__init__()
        self.merge = method({"forward": dim, "backward": dim // 2}, dim)
        self.forwards, self.backwards = (
            nn.LSTM(inputs, width, batch_first=True) for width in self.merge.widths.values()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Read from both ends, merge position by position."""
        forward, _ = self.forwards(x)
        backward, _ = self.backwards(x.flip(1))
        return self.merge([forward, backward.flip(1)])


def main() -> None:
    """Merge, and print what comes out."""
    torch.manual_seed(1)
    words, tags = nn.Embedding(100, 32), nn.Embedding(20, 32)
    gate = Gate({"word": 32, "tag": 32}, model_dim=32)
    merged = gate([words(torch.tensor([[3, 7, 7]])), tags(torch.tensor([[1, 2, 5]]))])
    print(f"gate of two embeddings: {tuple(merged.shape)}")
    for method in (Concat, ConcatProject, Add, Gate):
        encoder = BiLSTM(32, 32, method)
        widths = " and ".join(map(str, encoder.merge.widths.values()))
        shape = tuple(encoder(merged).shape)
        print(f"{method.__name__} of the two directions, {widths} wide: {shape}")


if __name__ == "__main__":
    main()
