"""Networks of whole graphs: a node network, a readout and a classifier."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_shape, check_sizes, choose_from, probability
from trellis.graph.readout import ReadoutName, check_batch, readout_module
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.gnn import GIN, Layered
from trellis.signature import reads, takes

Jump = Literal["last", "all"]
Head = Literal["mlp", "linear"]


class GraphNetwork(nn.Module):
    r"""Classes of graphs from the embeddings of their nodes.

    .. math::
        h = \mathrm{encoder}(x, A), \quad r_g = \mathrm{readout}_{i \in g}\, h_i, \quad
        y_g = W_2\, \mathrm{ReLU}(W_1 r_g)

    or, with linear heads, :math:`y_g = \sum_l W_l r_g^{(l)}` over the layers l that are read out.

    Args:
        in_channels: features of a node; a sparse x is converted to dense.
        out_channels: number of classes of graphs.
        edge_channels: features of an edge, for an encoder that reads them.
        encoder: from ``(in_channels, out_channels)`` to a node network; one that also takes
            ``edge_channels`` and, in ``forward``, ``edge_attr`` is given them.
        hidden_channels: width of the encoder's output and of the classifier.
        readout: sum, mean, max, or the embedding of a virtual node linked to all others.
        dropout: probability inside the classifier, of the scores of each head if they are linear;
            the encoder has its own.
        jump: the readout's input: ``last`` for the encoder's output, ``all`` for the
            concatenation of x and the outputs of all layers (jumping knowledge), for which the
            encoder must be ``Layered``.
        head: ``mlp`` classifies by a hidden layer, ``linear`` by one linear map of each layer
            that is read out, whose scores are added.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]`` with the graph of each node,
        edge_attr ``[E, edge_channels]``, of which only such an encoder makes use ->
        ``[B, out_channels]``; B is ``num_graphs``, else the largest entry of batch plus 1
    Raises:
        ValueError: a size below 1, an unknown name, an encoder that is not ``Layered``, or
            tensors that are missing or whose shapes do not fit.

    Source: Xu et al. 2019, eq. 4.2 and section 7: ``jump="all"``, ``head="linear"`` and a GIN with
    ``norm_output``. Linear heads train where an MLP on a sum over many nodes may not: at a high
    learning rate the units of its one ReLU can all die in the first steps.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        edge_channels: int = 0,
        encoder: NetworkFactory = GIN,
        hidden_channels: int = 64,
        readout: ReadoutName = "sum",
        dropout: float = 0.5,
        jump: Jump = "last",
        head: Head = "mlp",
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("hidden_channels", hidden_channels)
        probability("dropout", dropout)
        self.in_channels, self.jump = in_channels, jump
        edges = {"edge_channels": edge_channels} if takes(encoder, "edge_channels") else {}
        self.encoder = encoder(in_channels=in_channels, out_channels=hidden_channels, **edges)
        self.edge_channels = edge_channels if reads(self.encoder, "edge_attr") else 0
        self.readout = readout_module(readout, in_channels)
        widths = _widths(in_channels, hidden_channels, self.encoder, jump)
        if choose_from("head", head, Head) == "linear":
            self.classifier: nn.Module = LinearHeads(widths, out_channels, dropout)
        else:
            self.classifier = nn.Sequential(
                nn.Linear(sum(widths), hidden_channels),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden_channels, out_channels),
            )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        num_graphs: int | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        x, num_graphs = check_batch(
            x, edge_index, batch, num_graphs, self.in_channels, "GraphNetwork"
        )
        edge_attr = self._checked(edge_attr, edge_index.size(1)) if self.edge_channels else None
        x, edge_index = self.readout.extend(x, edge_index, batch, num_graphs)
        embeddings = self._embeddings(x, edge_index, edge_attr)
        return self.classifier(self.readout(embeddings, batch, num_graphs))

    def _checked(self, edge_attr: Tensor | None, num_edges: int) -> Tensor:
        shape = [num_edges, self.edge_channels]
        if edge_attr is None:
            name = type(self.encoder).__name__
            raise ValueError(f"edge_attr is missing: {name} reads features of edges, {shape}")
        check_shape("edge_attr", edge_attr, shape, one_for="each edge")
        return edge_attr

    def _embeddings(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> Tensor:
        edges = {}
        if edge_attr is not None:
            # The edges of virtual nodes come last, and have no features.
            new = edge_index.size(1) - edge_attr.size(0)
            edges["edge_attr"] = F.pad(edge_attr, (0, 0, 0, new))
        if self.jump == "last":
            return self.encoder(x, edge_index, **edges)
        assert isinstance(self.encoder, Layered)  # as __init__ made sure
        return torch.cat((x, *self.encoder.embeddings(x, edge_index, **edges)), dim=1)


class LinearHeads(nn.Module):
    """The sum of a linear map of each layer's readout, with dropout of each map's scores.

    Args:
        widths: of the layers.
        out_channels: number of classes.
        dropout: probability.
    Shape:
        the layers side by side ``[B, sum(widths)]`` -> ``[B, out_channels]``

    Source: Xu et al. 2019 as its code, powerful-gnns, has it.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, dropout: float) -> None:
        super().__init__()
        self.widths = list(widths)
        self.heads = nn.ModuleList(nn.Linear(width, out_channels) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        layers = x.split(self.widths, dim=1)
        scores = [
            self.dropout(head(layer)) for head, layer in zip(self.heads, layers, strict=True)
        ]
        return torch.stack(scores).sum(0)


def _widths(in_channels: int, hidden_channels: int, encoder: nn.Module, jump: Jump) -> list[int]:
    """Widths of the layers that are read out."""
    if choose_from("jump", jump, Jump) == "last":
        return [hidden_channels]
    if not isinstance(encoder, Layered):
        raise ValueError(
            f"jump='all' reads every layer, but {type(encoder).__name__} has no embeddings and "
            f"channels: give jump='last' or another encoder"
        )
    return [in_channels, *encoder.channels]
