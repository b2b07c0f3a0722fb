"""Graph neural networks: PyG's convolutions, stacked.

Legend: N nodes, E edges, B graphs. Every node network maps ``x [N, in_channels]`` (dense, or CSR
as bags of words are) and ``edge_index [2, E]`` to logits ``[N, out_channels]``; edges run from
``edge_index[0]`` to ``edge_index[1]``, and an undirected edge is stored in both directions.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GatedGraphConv,
    GCNConv,
    GINConv,
    MeanAggregation,
    SAGEConv,
)
from torch_geometric.nn.dense.linear import Linear as ChannelMap

from trellis.nn.sparse import SparseLinear, dropout

Activation = Callable[[Tensor], Tensor]


class _Stack(nn.Module):
    """Convolutions with dropout before each and an activation after all but the last.

    Args:
        convolutions: modules ``(x, edge_index) -> x``.
        dropout: probability before each convolution.
        activation: between convolutions.
    """

    def __init__(
        self, convolutions: Iterable[nn.Module], dropout: float, activation: Activation = F.relu
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.dropout, self.activation = dropout, activation

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        *hidden, last = self.convolutions
        for convolution in hidden:
            x = self.activation(convolution(dropout(x, self.dropout, self.training), edge_index))
        return last(dropout(x, self.dropout, self.training), edge_index)


class GCN(_Stack):
    r"""Graph convolutional network.

    .. math:: X' = \hat D^{-1/2} \hat A \hat D^{-1/2} X W, \quad \hat A = A + I

    Args:
        in_channels: features of a node.
        out_channels: classes.
        hidden_channels: width of the hidden layers.
        num_layers: convolutions, at least 1.
        dropout: probability before each convolution.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` -> ``[N, out_channels]``

    Source: Kipf and Welling 2017, eq. 2 and 9.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        widths = _widths(in_channels, hidden_channels, out_channels, num_layers)
        super().__init__((_sparse_input(GCNConv(a, b)) for a, b in widths), dropout)


class GAT(_Stack):
    r"""Graph attention network: neighbours are averaged with learned weights.

    .. math:: \alpha_{ij} = \mathrm{softmax}_j(\mathrm{LeakyReLU}(a^\top [W x_i \| W x_j]))

    Hidden layers concatenate their heads; the last layer averages its own.

    Args:
        in_channels: features of a node.
        out_channels: classes.
        hidden_channels: width of one head.
        num_heads: of the hidden layers.
        num_out_heads: of the last layer.
        num_layers: convolutions, at least 1.
        dropout: probability before each convolution and of the attention weights.
        v2: the attention of GATv2, where the non-linearity comes before ``a``.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` -> ``[N, out_channels]``

    Source: Velickovic et al. 2018, eq. 1-6; Brody et al. 2022, eq. 7 (v2).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 8,
        num_heads: int = 8,
        num_out_heads: int = 1,
        num_layers: int = 2,
        dropout: float = 0.6,
        v2: bool = False,
    ) -> None:
        convolution = GATv2Conv if v2 else GATConv
        layers = []
        width = in_channels
        for _ in range(_at_least_one(num_layers) - 1):
            layers.append(convolution(width, hidden_channels, num_heads, dropout=dropout))
            width = hidden_channels * num_heads
        layers.append(
            convolution(width, out_channels, num_out_heads, concat=False, dropout=dropout)
        )
        super().__init__((_sparse_input(layer) for layer in layers), dropout, F.elu)


class GraphSAGE(_Stack):
    r"""Mean aggregation of the neighbours beside the node itself.

    .. math:: x_i' = W \frac{1}{|N(i)|} \sum_{j \in N(i)} x_j + B x_i

    Args:
        in_channels: features of a node.
        out_channels: classes.
        hidden_channels: width of the hidden layers.
        num_layers: convolutions, at least 1.
        dropout: probability before each convolution.
        normalize: scale the output of each layer to unit length.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` -> ``[N, out_channels]``

    Source: Hamilton et al. 2017, algorithm 1, on the whole graph instead of a sample of it. The
    paper's ``W [x_i, mean]`` is ``B x_i + W mean``. Without ``normalize`` this is the
    neighbourhood-aggregation form ``h_i = s(B h_i + W sum_j h_j / |N(i)|)`` of the courses.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        normalize: bool = False,
    ) -> None:
        widths = _widths(in_channels, hidden_channels, out_channels, num_layers)
        super().__init__((_MeanAndSelf(a, b, normalize) for a, b in widths), dropout)


class _MeanAndSelf(nn.Module):
    """PyG's ``SAGEConv`` with its linear maps before the mean instead of after it.

    The mean is linear, so the result is the same; the messages are as wide as the output and
    not as the input, and a sparse input is never aggregated.
    """

    def __init__(self, in_channels: int, out_channels: int, normalize: bool) -> None:
        super().__init__()
        self.convolution = _sparse_input(SAGEConv(in_channels, out_channels))
        self.mean = MeanAggregation()
        self.normalize = normalize

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        neighbours, bias = self.convolution.lin_l, self.convolution.lin_l.bias
        messages = (neighbours(x) - bias)[source]  # [E, out]
        out = self.mean(messages, target, dim_size=x.size(0)) + bias + self.convolution.lin_r(x)
        return F.normalize(out, dim=-1) if self.normalize else out


def _sparse_input(convolution: nn.Module) -> nn.Module:
    """``convolution`` with its input maps replaced by ones that take CSR, same initialisation."""
    for name, child in list(convolution.named_children()):
        if isinstance(child, ChannelMap):
            linear = SparseLinear(child.in_channels, child.out_channels, child.bias is not None)
            linear.weight, linear.bias = child.weight, child.bias
            setattr(convolution, name, linear)
    return convolution


def _at_least_one(num_layers: int) -> int:
    if num_layers < 1:
        raise ValueError(f"num_layers={num_layers}: give at least 1")
    return num_layers


def _widths(
    in_channels: int, hidden_channels: int, out_channels: int, num_layers: int
) -> list[tuple[int, int]]:
    hidden = [hidden_channels] * (_at_least_one(num_layers) - 1)
    widths = [in_channels, *hidden, out_channels]
    return list(zip(widths, widths[1:], strict=False))
