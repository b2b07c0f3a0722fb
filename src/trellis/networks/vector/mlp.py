"""Multi-layer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from trellis.checks import check_sizes, check_vectors, check_widths, probability
from trellis.nn.activation import Activation, Maxout, activation_module
from trellis.nn.initialization import Initialization, initialize_
from trellis.nn.sparse import SparseLinear


class MLP(nn.Module):
    r"""Multi-layer perceptron: linear layers with a non-linearity between them.

    .. math:: h^{(l)} = s(W^{(l)} h^{(l-1)} + b^{(l)}), \quad y = W^{(L)} h^{(L-1)} + b^{(L)}

    A hidden layer is linear map, batch norm, activation ``s`` and dropout, in this order; the
    last layer is a linear map alone.

    Args:
        in_channels: features of an example.
        out_channels: number of classes, or of real targets.
        hidden_channels: width of each hidden layer; empty for a linear model.
        activation: of the hidden layers; ``maxout`` is the larger of two linear maps.
        dropout: probability after each hidden layer.
        batch_norm: normalise each hidden layer over the batch.
        initialization: ``xavier`` is Keras' default, ``he`` suits deep ReLU networks.
    Shape:
        x ``[B, in_channels]``, dense or CSR -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, an unknown name, or an x of another width.

    Source: Rumelhart et al. 1986; Goodfellow et al. 2013 (maxout).

    >>> sum(p.numel() for p in MLP(784, 10, hidden_channels=(128, 64)).parameters())
    109386
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: Sequence[int] = (128, 128),
        activation: Activation | Literal["maxout"] = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        initialization: Initialization = "torch",
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        probability("dropout", dropout)
        check_widths(hidden_channels)
        self.in_channels = in_channels
        layers: list[nn.Module] = []
        for a, b in pairwise((in_channels, *hidden_channels)):
            layers += _hidden(a, b, activation, dropout, batch_norm)
        width = hidden_channels[-1] if hidden_channels else in_channels
        self.layers = nn.Sequential(*layers, SparseLinear(width, out_channels))
        initialize_(self, initialization)

    def forward(self, x: Tensor) -> Tensor:
        check_vectors(x, self.in_channels, "MLP")
        return self.layers(x)


def _hidden(
    in_channels: int,
    out_channels: int,
    activation: Activation | Literal["maxout"],
    dropout: float,
    batch_norm: bool,
) -> list[nn.Module]:
    norm = [nn.BatchNorm1d(out_channels)] if batch_norm else []
    drop = [nn.Dropout(dropout)] if dropout else []
    if activation == "maxout":
        return [Maxout(in_channels, out_channels), *norm, *drop]
    linear = SparseLinear(in_channels, out_channels)
    return [linear, *norm, activation_module(activation), *drop]
