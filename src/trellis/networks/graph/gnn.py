"""Graph neural networks: stacks of PyG's convolutions.

Legend: N nodes, E edges, B graphs. Every node network maps ``x [N, in_channels]`` (dense, or CSR
for bags of words) and ``edge_index [2, E]`` to logits ``[N, out_channels]``; edges run from
``edge_index[0]`` to ``edge_index[1]``, and an undirected edge is stored in both directions. Its
``embeddings`` are the outputs of all layers, of widths ``channels``; the last is the network's
output. Sizes below 1, and x or edges of another shape, raise a ``ValueError``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GATv2Conv, GCNConv

from trellis.checks import at_least_one, check_graph, check_sizes, probability
from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.graph.layers import GatedLayer, GINLayer, NodewiseLinear, SAGELayer, sparse_input
from trellis.nn.initialization import initialize_
from trellis.nn.sparse import SparseLinear, dropout

Activation = Callable[[Tensor], Tensor]
Edges = Callable[..., tuple[Tensor, ...]]


@runtime_checkable
class Layered(Protocol):
    """A node network that returns the outputs of all its layers."""

    channels: tuple[int, ...]

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs ``[N, channels[k]]`` of the layers; the last is that of the network."""


class NodeNetwork(nn.Module, ABC):
    """Base of the networks of nodes; the arguments that all of them take are documented here.

    Args:
        in_channels: features of a node.
        out_channels: number of classes, or width of an embedding.
        hidden_channels: width of the hidden layers.
        num_layers: convolutions, at least 1.
        dropout: probability before each convolution.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` -> ``[N, out_channels]``
    """

    in_channels: int
    channels: tuple[int, ...]

    @abstractmethod
    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """Outputs ``[N, channels[k]]`` of the layers, of which the last is the network's."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.embeddings(x, edge_index)[-1]


class _Stack(NodeNetwork):
    """Convolutions with dropout before each and an activation after all but the last.

    Args:
        convolutions: modules ``(x, edge_index) -> x``.
        widths: channels into the first convolution, then out of each.
        dropout: probability before each convolution.
        activation: between convolutions.
        edges: from ``(x, edge_index)``, and what else is known of the edges, to the inputs that
            all convolutions share, computed once per forward pass; ``None`` for ``edge_index``
            itself.
    """

    def __init__(
        self,
        convolutions: Iterable[nn.Module],
        widths: Sequence[int],
        dropout: float,
        activation: Activation = F.relu,
        edges: Edges | None = None,
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.in_channels, self.channels = widths[0], tuple(widths[1:])
        self.dropout, self.activation = probability("dropout", dropout), activation
        self.edges = edges

    def embeddings(self, x: Tensor, edge_index: Tensor, *known: Tensor | None) -> list[Tensor]:
        """Outputs of the layers, after the activation except for the last."""
        check_graph(x, edge_index, self.in_channels, type(self).__name__)
        edges: tuple[Tensor, ...] = (edge_index,)
        if self.edges:
            edges = edges_for(self.convolutions, x, *self.edges(x, edge_index, *known))
        *hidden, last = self.convolutions
        outputs = []
        for convolution in hidden:
            x = self.activation(convolution(dropout(x, self.dropout, self.training), *edges))
            outputs.append(x)
        return [*outputs, last(dropout(x, self.dropout, self.training), *edges)]


class GCN(_Stack):
    r"""Graph convolutional network.

    .. math:: X' = \hat D^{-1/2} \hat A \hat D^{-1/2} X W, \quad \hat A = A + I

    With ``edge_weight [E]``, none negative, these are the entries of A. A self-loop of the graph
    takes the place of that node's 1 in I.

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
        layers = (sparse_input(GCNConv(a, b, normalize=False)) for a, b in pairwise(widths))
        super().__init__(layers, widths, dropout, edges=normalized_adjacency)

    def forward(
        self, x: Tensor, edge_index: Tensor, *, edge_weight: Tensor | None = None
    ) -> Tensor:
        return self.embeddings(x, edge_index, edge_weight)[-1]


class GAT(_Stack):
    r"""Graph attention network: means over the neighbours, weighted by attention.

    .. math:: \alpha_{ij} = \mathrm{softmax}_j(\mathrm{LeakyReLU}(a^\top [W x_i \| W x_j]))

    Hidden layers concatenate their heads; the last layer averages them. Each node attends to
    itself once: PyG removes the self-loops of the graph before it adds its own. How many edges
    are left depends on the values of ``edge_index``, so this network alone reads them in
    ``forward``: it cannot run on the meta device, and on a GPU it waits once for each layer.

    Args:
        hidden_channels: width of one head.
        num_heads: attention heads of the hidden layers.
        num_out_heads: attention heads of the last layer.
        dropout: probability before each convolution and of the attention weights.
        v2: the attention of GATv2, where the non-linearity comes before ``a``.

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
        at_least_one("hidden_channels", hidden_channels)
        at_least_one("num_heads", num_heads)
        at_least_one("num_out_heads", num_out_heads)
        widths = _widths(in_channels, hidden_channels * num_heads, out_channels, num_layers)
        convolution = GATv2Conv if v2 else GATConv
        layers: list[nn.Module] = [
            convolution(a, hidden_channels, num_heads, dropout=dropout) for a in widths[:-2]
        ]
        layers.append(
            convolution(widths[-2], out_channels, num_out_heads, concat=False, dropout=dropout)
        )
        super().__init__((sparse_input(layer) for layer in layers), widths, dropout, F.elu)


class GraphSAGE(_Stack):
    r"""GraphSAGE: the mean over the neighbours and the node itself, each with its own map.

    .. math:: x_i' = W \frac{1}{|N(i)|} \sum_{j \in N(i)} x_j + B x_i

    Args:
        normalize: scale the output of each layer to unit length.

    Source: Hamilton et al. 2017, algorithm 1, on all neighbours instead of a sample. The paper's
    ``W [x_i, mean]`` is ``B x_i + W mean`` here. Without ``normalize`` this is the neighbourhood
    aggregation ``h_i = s(B h_i + W sum_j h_j / |N(i)|)`` of the courses.
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
        layers = (SAGELayer(a, b, normalize) for a, b in pairwise(widths))
        super().__init__(layers, widths, dropout)


class GIN(_Stack):
    r"""Graph isomorphism network: sums over the neighbours, which distinguish multisets.

    .. math:: x_i' = \mathrm{MLP}\bigl((1 + \epsilon) x_i + \textstyle\sum_{j \in N(i)} x_j\bigr)

    The MLP is linear map, batch norm, ReLU, linear map; hidden layers end in a batch norm.

    Args:
        in_channels: features of a node; a sparse x is converted to dense.
        hidden_channels: width of the hidden layers, and within each MLP.
        eps: additional weight of the node itself; 0 is the paper's GIN-0.
        train_eps: learn ``eps`` in every layer (GIN-eps).
        norm_output: batch norm and ReLU after the last layer, too, as in the paper, where every
            layer is read out (``GraphNetwork`` with ``jump="all"``); logits of nodes need none.

    Source: Xu et al. 2019, eq. 4.1 and section 7, whose five layers include the input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 4,
        dropout: float = 0.0,
        eps: float = 0.0,
        train_eps: bool = False,
        norm_output: bool = False,
    ) -> None:
        widths = _widths(in_channels, hidden_channels, out_channels, num_layers)
        maps = gin_maps(widths, hidden_channels, norm_output)
        super().__init__((GINLayer(mlp, eps, train_eps) for mlp in maps), widths, dropout)


class NodeMLP(_Stack):
    """Multi-layer perceptron on each node separately: a GCN without the graph.

    The control for claims that the graph helps: same initialisation as a GCN (Glorot, zero
    biases), and dropout in the same places.

    Args:
        num_layers: linear maps, at least 1.
        dropout: probability before each map.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` (unused) -> ``[N, out_channels]``

    Source: Kipf and Welling 2017, table 3, the row "Multi-layer perceptron".
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
        super().__init__((NodewiseLinear(a, b) for a, b in pairwise(widths)), widths, dropout)
        initialize_(self, "xavier")


class GatedGraphNet(NodeNetwork):
    r"""Gated graph network: a GRU updates each node's state with its neighbours' messages.

    .. math::
        h_i^{(0)} = W_{in} x_i, \quad
        h_i^{(t+1)} = \mathrm{GRU}\bigl(\textstyle\sum_{j \in N(i)} W h_j^{(t)}, h_i^{(t)}\bigr),
        \quad y_i = W_{out} h_i^{(T)}

    with the message as the GRU's input. All T updates share one ``W`` and one GRU.

    Args:
        hidden_channels: width of the state.
        num_layers: updates T, at least 1.
        dropout: probability before the first and the last linear map.

    Source: Li et al. 2016, section 3. Deviates: a linear map from x to the state, where the paper
    pads x with zeros; one type of edge.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least_one("num_layers", num_layers)
        widths = _widths(in_channels, hidden_channels, out_channels, num_layers + 1)
        self.in_channels, self.channels = in_channels, tuple(widths[1:])
        self.num_layers, self.dropout = num_layers, probability("dropout", dropout)
        self.input = SparseLinear(in_channels, hidden_channels)
        self.convolution = GatedLayer(hidden_channels)
        self.output = nn.Linear(hidden_channels, out_channels)

    def embeddings(self, x: Tensor, edge_index: Tensor) -> list[Tensor]:
        """States after each update, then the output."""
        check_graph(x, edge_index, self.in_channels, "GatedGraphNet")
        states = [self.input(dropout(x, self.dropout, self.training))]
        for _ in range(self.num_layers):
            states.append(self.convolution(states[-1], edge_index))
        return [*states[1:], self.output(dropout(states[-1], self.dropout, self.training))]


def gin_maps(
    widths: Sequence[int], hidden_channels: int, norm_output: bool
) -> list[nn.Sequential]:
    """The MLPs of a GIN from each of ``widths`` to the next; see there."""
    *hidden, last = (_two_maps(a, hidden_channels, b) for a, b in pairwise(widths))
    if norm_output:
        last.append(nn.BatchNorm1d(widths[-1])).append(nn.ReLU())
    return [*(mlp.append(nn.BatchNorm1d(hidden_channels)) for mlp in hidden), last]


def _two_maps(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, hidden_channels),
        nn.BatchNorm1d(hidden_channels),
        nn.ReLU(),
        nn.Linear(hidden_channels, out_channels),
    )


def _widths(
    in_channels: int, hidden_channels: int, out_channels: int, num_layers: int
) -> list[int]:
    """Channels into the first layer, then out of each."""
    check_sizes(in_channels, out_channels)
    at_least_one("hidden_channels", hidden_channels)
    at_least_one("num_layers", num_layers)
    return [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
