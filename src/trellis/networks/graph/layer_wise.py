"""A network of nodes that is evaluated layer by layer, in parts of a large graph."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_graph
from trellis.graph.neighbours import Neighbours
from trellis.graph.sampling import drawn_neighbours
from trellis.networks.factory import NetworkFactory
from trellis.networks.graph.gnn import GraphSAGE


@runtime_checkable
class Convolutions(Protocol):
    """A network of nodes that is a stack of convolutions over the same edges."""

    in_channels: int
    convolutions: nn.ModuleList
    activation: Callable[[Tensor], Tensor]
    edges: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None


class LayerWise(nn.Module):
    """GraphSAGE or GAT whose evaluation needs the memory of a part of the graph at a time.

    In training it is the network itself, on samples. In evaluation the outputs of one layer are
    computed for all nodes, ``batch_size`` at a time with all their neighbours, before those of
    the next: no node is computed twice, nothing is sampled, and the messages of the whole graph
    are never held at once.

    Args:
        in_channels: features of a node.
        out_channels: number of classes.
        network: from ``(in_channels, out_channels)`` to a stack of convolutions.
        batch_size: nodes at a time; a graph of no more is evaluated as in training.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]`` -> ``[N, out_channels]``
    Raises:
        ValueError: a network without convolutions, or whose edges have weights of the whole
            graph, such as a GCN's.

    Source: Hamilton et al. 2017, appendix A, without minibatches of samples.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        network: NetworkFactory = GraphSAGE,
        batch_size: int = 4096,
    ) -> None:
        super().__init__()
        self.network = network(in_channels=in_channels, out_channels=out_channels)
        self.batch_size = at_least_one("batch_size", batch_size)
        name = type(self.network).__name__
        if not isinstance(self.network, Convolutions) or self.network.edges is not None:
            raise ValueError(
                f"network={name}: LayerWise takes stacks of convolutions that look at neighbours "
                f"alone, not at weights of the whole graph; give GraphSAGE or GAT, or {name} "
                f"without LayerWise"
            )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        network = self.network
        # A compiled or exported program has no parts: it is the network's.
        if self.training or torch.compiler.is_compiling() or x.size(0) <= self.batch_size:
            return network(x, edge_index)
        assert isinstance(network, Convolutions)  # as __init__ made sure
        check_graph(x, edge_index, network.in_channels, type(network).__name__)
        x = x if x.layout == torch.strided else x.to_dense()
        graph = Neighbours(edge_index, x.size(0), incoming=True)
        last = len(network.convolutions) - 1
        for number, convolution in enumerate(network.convolutions):
            x = self._layer(convolution, graph, x)
            x = network.activation(x) if number < last else x
        return x

    def _layer(self, convolution: nn.Module, graph: Neighbours, x: Tensor) -> Tensor:
        outputs = []
        for nodes in torch.arange(len(x), device=x.device).split(self.batch_size):
            source, owner = drawn_neighbours(graph, nodes, -1)
            met, place = torch.cat([nodes, source]).unique(return_inverse=True)
            here, source = place.split([len(nodes), len(source)])
            found = convolution(x.index_select(0, met), torch.stack([source, here[owner]]))
            outputs.append(found.index_select(0, here))
        return torch.cat(outputs)
