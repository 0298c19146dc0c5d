"""Features that are a sequence of units per token, composed to one vector."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.embedders.categorical import make_table
from nmt_feat.errors import UserError


class Units(nn.Module):
    """Base class of modules that compose one vector for each distinct token from its units.

    `forward` maps the units of R tokens, `(R, U)` ids padded with 0, to `(R, dim)`. A token without
    units gets zeros. The number of padding columns does not change the result.
    """

    reads = "units"
    """What it reads: the units of distinct tokens. Without this attribute, a class reads ids."""


class Mean(Units):
    """The mean of the units' vectors, a table N(0, std).

    Args:
        size: rows of the table of units, padding included.
        dim: width of the result.
        std: scale at the start.
    """

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.table = make_table(size, dim, std)

    def forward(self, units: Tensor) -> Tensor:
        """`(R, U)` ids to `(R, dim)`."""
        total: Tensor = self.table(units).sum(dim=1)
        return total / (units != 0).sum(dim=1, keepdim=True).clamp(min=1)


class Max(Mean):
    """The largest value of the units' vectors, element by element. It takes `Mean`'s arguments."""

    def forward(self, units: Tensor) -> Tensor:
        """`(R, U)` ids to `(R, dim)`."""
        is_real = (units != 0)[..., None]
        largest: Tensor = self.table(units).masked_fill(~is_real, -torch.inf).amax(dim=1)
        return largest.masked_fill(~is_real.any(dim=1), 0.0)


class Sum(Mean):
    """The sum of the units' vectors.

    Casas et al. (2021), "Sparsely Factored Neural Machine Translation", embed a set of
    morphological attributes in this way. It takes `Mean`'s arguments.
    """

    def forward(self, units: Tensor) -> Tensor:
        """`(R, U)` ids to `(R, dim)`."""
        total: Tensor = self.table(units).sum(dim=1)
        return total


class Highway(nn.Module):
    """`t * relu(A x + a) + (1 - t) * x`, `t = sigmoid(W x + b)` (Srivastava et al. 2015).

    b starts at -2, so that at first most of x passes unchanged (Kim et al. 2016).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.change = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, dim)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., dim)`."""
        return torch.lerp(x, F.relu(self.change(x)), torch.sigmoid(self.gate(x)).to(x))


class LastStates(nn.Module):
    """Last states of two LSTMs side by side, one from either end. They never see padding.

    The backward LSTM reads each row reversed, so that padding comes last for both. In this way the
    lengths can stay on the device.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.forth = nn.LSTM(dim, hidden, batch_first=True)
        self.back = nn.LSTM(dim, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(R, U, dim)`, R lengths of at least 1, to `(R, 2 * hidden)`."""
        steps = torch.arange(x.shape[1], device=x.device)
        rows, last = torch.arange(len(x), device=x.device), lengths - 1
        reversed_x = x[rows[:, None], (last[:, None] - steps).clamp(min=0)]  # (R, U, dim)
        forth, back = self.forth(x)[0], self.back(reversed_x)[0]  # each (R, U, hidden)
        return torch.cat([forth[rows, last], back[rows, last]], dim=-1)


class CharCNN(Units):
    """Convolutions over units, tanh, largest value per filter (Kim et al. 2016).

    With `highway`, a highway layer follows. With `lstm`, there is no maximum: after the highway
    layer two LSTMs, one from either end, read the filters of all units, and their last states are
    the result. Convolutions, highway layer and LSTMs together are the "CharCNN" of Park & Zhao
    (2020). They do not say what their BiLSTM reads; here it reads the units of one token, so a
    token has the same embedding everywhere. Their sizes: widths 1 to 6 with 25 to 150 filters,
    lstm 256.

    The table of units starts N(0, 1). The last step is a linear projection to `dim`, which starts
    N(0, std) divided by the square root of the number of its inputs.

    Args:
        size: rows of the table of units, padding included.
        dim: width of the result.
        std: scale at the start.
        unit_dim: width of the units' embeddings.
        widths: of the convolutions, in units.
        filters: the number of filters of each width.
        highway: whether there is a highway layer.
        lstm: width of each of the two LSTMs; 0 for none.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        std: float,
        unit_dim: int = 50,
        widths: Sequence[int] = (1, 2, 3, 4),
        filters: Sequence[int] = (25, 50, 75, 100),
        highway: bool = True,
        lstm: int = 0,
    ) -> None:
        super().__init__()
        if len(widths) != len(filters) or min(widths, default=0) < 1:
            raise UserError(
                f"widths={list(widths)}, filters={list(filters)}: give one width or more, each "
                "at least 1, and a number of filters for each"
            )
        if min(*filters, unit_dim) < 1 or lstm < 0:
            raise UserError(
                f"filters={list(filters)}, unit_dim={unit_dim}, lstm={lstm}: filters and unit_dim "
                "must be at least 1, lstm at least 0"
            )
        self.table = make_table(size, unit_dim, 1.0)
        self.widths, filter_count = tuple(widths), sum(filters)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(unit_dim, count, width) for width, count in zip(widths, filters, strict=True)
        )
        self.highway = Highway(filter_count) if highway else nn.Identity()
        self.lstm = LastStates(filter_count, lstm) if lstm else None
        self.projection = nn.Linear(2 * lstm if lstm else filter_count, dim)
        nn.init.normal_(self.projection.weight, std=std * self.projection.in_features**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, units: Tensor) -> Tensor:
        """`(R, U)` ids to `(R, dim)`."""
        is_real = units != 0
        x = self.table(units).transpose(1, 2)  # (R, unit_dim, U)
        outputs = []
        for convolution, width in zip(self.convolutions, self.widths, strict=True):
            # Zeros on either side, as padding is, so that there is an output at each of the units.
            outputs.append(convolution(F.pad(x, ((width - 1) // 2, width // 2))))
        x = torch.cat(outputs, dim=1).tanh().transpose(1, 2)  # (R, U, filters)
        if self.lstm:
            x = self.lstm(self.highway(x), is_real.sum(dim=1).clamp(min=1))
        else:
            # -1 is the smallest tanh, so padding never gives the maximum.
            x = self.highway(x.masked_fill(~is_real[..., None], -1.0).amax(dim=1))
        composed: Tensor = self.projection(x)
        return composed.masked_fill(~is_real.any(dim=1, keepdim=True), 0.0)
