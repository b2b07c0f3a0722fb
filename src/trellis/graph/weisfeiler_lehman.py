"""Colour refinement: the classes of nodes that no number of messages tells apart.

Legend: N nodes, E edges, C features.
"""

import torch
from torch import Tensor

from trellis.random import mixed

_NEIGHBOUR = 0x5851F42D4C957F2D  # a colour that is met has another hash than one's own


def subtree_colours(x: Tensor, edge_index: Tensor, iterations: int) -> Tensor:
    """Colours of the nodes before the first round of refinement and after each.

    A round hashes the colour of a node with the multiset of its neighbours' colours. Nodes have
    the same colour after h rounds if the trees of depth h that unfold from them are the same, in
    this graph or any other, on any machine.

    Args:
        x: features; which of them are not 0 is the first colour.
        edge_index: colours pass from ``edge_index[0]`` to ``edge_index[1]``.
        iterations: rounds h.
    Shape:
        x ``[N, C]``, edge_index ``[2, E]`` -> ``[iterations + 1, N]``, hashes of 64 bits

    Source: Weisfeiler and Lehman 1968; Shervashidze et al. 2011, algorithm 1, with hashes in place
    of numbers in the order of appearance.

    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> colours = subtree_colours(torch.ones(3, 1), path, 1)
    >>> (colours == colours[:, :1]).tolist()
    [[True, True, True], [True, False, True]]
    """
    source, target = edge_index
    # A sum does not depend on the order, and wraps around without harm.
    names = mixed(torch.arange(x.size(1), device=x.device))
    rounds = [(names * (x != 0)).sum(1)]
    for _ in range(iterations):
        own = mixed(rounds[-1])
        met = torch.zeros_like(own).scatter_add_(0, target, mixed(own ^ _NEIGHBOUR)[source])
        rounds.append(mixed(own + mixed(met)))
    return torch.stack(rounds)
