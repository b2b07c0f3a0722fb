"""Samples of the neighbourhoods of nodes, hop by hop.

Legend: N nodes, S seeds, F nodes of a frontier, K fan-out, n nodes and e edges of a sample.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_below
from trellis.graph.neighbours import Neighbours


class SampledGraph(NamedTuple):
    """A part of a graph.

    Args:
        nodes: which nodes it has ``[n]``, the seeds first.
        edge_index: edges ``[2, e]`` between them, as places in ``nodes``.
    """

    nodes: Tensor
    edge_index: Tensor


class NeighbourSampler:
    """Draws neighbours of seeds, then of these, and so on: a graph for each batch of seeds.

    Each node that is reached is given at most K of its incoming edges, without replacement, all
    sets of K with the same probability; then a network of as many layers as hops computes of the
    seeds what it would compute on a graph where they have no other neighbours. With a fan-out of
    at least the largest degree it is exactly what it computes on the whole graph, as far as a
    layer looks at the neighbours of a node and not at their degrees (GraphSAGE, GAT; not GCN).

    Args:
        graph: the incoming edges, ``Neighbours(..., incoming=True)``.
        fan_out: K of each hop, the first that of the seeds; -1 takes all neighbours.
    Raises:
        ValueError: no hops, or a fan-out that is neither -1 nor at least 1.

    Source: Hamilton et al. 2017, algorithm 2. Deviates: without replacement, so that a node with
    fewer than K neighbours has each of them once.

    >>> star = Neighbours(torch.tensor([[1, 2, 3], [0, 0, 0]]), 4, incoming=True)
    >>> sample = NeighbourSampler(star, [2]).sample(torch.tensor([0]))
    >>> sample.nodes[0], sample.edge_index[1]
    (tensor(0), tensor([0, 0]))
    """

    def __init__(self, graph: Neighbours, fan_out: Sequence[int]) -> None:
        self.check(fan_out)
        self.graph, self.fan_out = graph, tuple(fan_out)
        self._place = torch.full((graph.num_nodes,), -1)  # in the sample at hand; -1 if absent

    @staticmethod
    def check(fan_out: Sequence[int]) -> None:
        """Refuse fan-outs of nothing before there is a graph.

        Raises:
            ValueError: no hops, or a fan-out that is neither -1 nor at least 1.
        """
        if not fan_out:
            raise ValueError("fan_out=[]: give a number of neighbours for each hop, as [15, 10]")
        for number in fan_out:
            if number != -1:
                at_least_one("fan_out", number, ", or -1 for all neighbours")

    def sample(self, seeds: Tensor, generator: torch.Generator | None = None) -> SampledGraph:
        """The neighbourhood of ``seeds``.

        Args:
            seeds: different nodes ``[S]``.
            generator: of the random numbers.
        Raises:
            ValueError: a seed is no node, or there twice.
        """
        check_below("seed", seeds, self.graph.num_nodes, "the graph")
        if len(seeds.unique()) < len(seeds):
            raise ValueError(f"seeds: {len(seeds)} of which some are there twice; give each once")
        place, frontier, count = self._place, seeds, len(seeds)
        place[seeds] = torch.arange(count)
        nodes, sources, targets = [seeds], [], []
        for number in self.fan_out:
            source, owner = drawn_neighbours(self.graph, frontier, number, generator)
            sources.append(source)
            targets.append(place.index_select(0, frontier).index_select(0, owner))
            frontier = source[place.index_select(0, source) < 0].unique()
            place[frontier] = torch.arange(count, count + len(frontier))
            count += len(frontier)
            nodes.append(frontier)
        found = torch.cat(nodes)
        edges = torch.stack([place.index_select(0, torch.cat(sources)), torch.cat(targets)])
        place[found] = -1
        return SampledGraph(found, edges)


def drawn_neighbours(
    graph: Neighbours, nodes: Tensor, fan_out: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """At most ``fan_out`` different neighbours of each node; all of those that have no more.

    Args:
        graph: lists of neighbours.
        nodes: whose neighbours.
        fan_out: K, or -1 for all.
        generator: of the random numbers.
    Returns:
        the neighbours, and for each the place in ``nodes`` of the node it belongs to.
    Shape:
        nodes ``[F]`` -> ``[e]``, ``[e]``, ordered by the second

    Source: Floyd's algorithm (Bentley and Floyd 1987), for all nodes at once: its steps do not
    depend on the degrees.
    """
    degrees = graph.degrees.index_select(0, nodes)
    taken = degrees if fan_out == -1 else degrees.clamp(max=fan_out)
    owner = torch.arange(len(nodes), device=nodes.device).repeat_interleave(taken)
    rank = torch.arange(len(owner), device=nodes.device) - (taken.cumsum(0) - taken).index_select(
        0, owner
    )  # in a list
    many = (degrees > taken).nonzero()[:, 0]
    if len(many):
        chosen = _subsets(degrees[many], fan_out, generator)
        row = torch.full((len(nodes),), -1).index_copy_(0, many, torch.arange(len(many)))
        row = row.index_select(0, owner)
        drawn = row >= 0
        rank[drawn] = chosen[row[drawn], rank[drawn]]
    place = graph.starts.index_select(0, nodes).index_select(0, owner) + rank
    return graph.nodes.index_select(0, place), owner


def _subsets(sizes: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """``count`` different numbers below each of ``sizes``, which are larger: ``[F, count]``."""
    share = torch.rand(count, len(sizes), generator=generator, dtype=torch.float64)
    chosen = torch.full((count, len(sizes)), -1)
    for step in range(count):
        last = sizes - count + step  # each step may choose from one number more
        number = (share[step] * (last + 1)).long()
        again = (chosen[:step] == number).any(0)
        chosen[step] = torch.where(again, last, number)
    return chosen.t()
