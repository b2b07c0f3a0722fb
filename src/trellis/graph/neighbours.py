"""The edges of a graph by node, compressed: what walks and samplers look up.

Legend: N nodes, E edges, W lookups.
"""

import torch
from torch import Tensor

from trellis.checks import at_least_one


class Neighbours:
    """Lists of neighbours in compressed sparse rows, each in ascending order.

    Args:
        edge_index: from ``edge_index[0]`` to ``edge_index[1]``; an undirected edge is there in
            both directions. A repeated edge counts as often as it is there.
        num_nodes: N.
        incoming: list the nodes from which edges come, not those to which they go.
    Shape:
        edge_index ``[2, E]``; ``starts [N + 1]``, ``nodes [E]``, ``degrees [N]``;
        ``choices [N + 1]`` that ``drawn`` has, 1 where there are no neighbours
    Raises:
        ValueError: an edge joins a node that is not among the N.

    >>> graph = Neighbours(torch.tensor([[2, 0, 0], [0, 2, 1]]), 3)
    >>> graph.starts, graph.nodes, graph.degrees
    (tensor([0, 2, 2, 3]), tensor([1, 2, 0]), tensor([2, 0, 1]))
    """

    def __init__(self, edge_index: Tensor, num_nodes: int, incoming: bool = False) -> None:
        self.num_nodes = at_least_one("num_nodes", num_nodes)
        outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(0)
        if outside.any():
            source, target = edge_index[:, outside][:, 0].tolist()
            raise ValueError(
                f"edge {source} -> {target}: there are num_nodes={num_nodes} nodes, 0 to "
                f"{num_nodes - 1}; leave the edge out or give more nodes"
            )
        source, target = edge_index.flip(0) if incoming else edge_index
        # One more than N, which stands for "nowhere": see drawn.
        self._keys = (source * (num_nodes + 1) + target).sort().values
        self.nodes = self._keys % (num_nodes + 1)
        self.degrees = source.bincount(minlength=num_nodes)
        self.starts = torch.cat([self.degrees.new_zeros(1), self.degrees.cumsum(0)])
        number, end = self.nodes.new_tensor([num_nodes]), self.starts[-1:]
        self._nodes = torch.cat([self.nodes, number])
        first = torch.where(self.degrees > 0, self.starts[:-1], end)
        self._first = torch.cat([first, end])
        degrees = torch.cat([self.degrees, torch.zeros_like(end)])
        self.choices = degrees.clamp(min=1).double()

    def times_joined(self, source: Tensor, target: Tensor) -> Tensor:
        """How often ``target`` is among the neighbours of ``source``: once, unless edges repeat.

        Shape:
            source ``[W]``, target ``[W]`` -> ``[W]``
        """
        wanted = source * (self.num_nodes + 1) + target
        return torch.searchsorted(self._keys, wanted, right=True) - torch.searchsorted(
            self._keys, wanted
        )

    def drawn(self, source: Tensor, share: Tensor) -> Tensor:
        """A neighbour of each node; N, which is no node, of those that have none, and of N.

        Args:
            source: nodes, or N.
            share: of the way through the list of neighbours, in [0, 1): a uniform random number
                of type float64 draws each edge with the same probability.
        Shape:
            source ``[W]``, share ``[W]`` -> ``[W]``
        """
        place = (share * self.choices.index_select(0, source)).long()
        return self._nodes.index_select(0, self._first.index_select(0, source) + place)
