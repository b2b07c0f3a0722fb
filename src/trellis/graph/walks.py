"""Random walks on a graph, many at a time, and what is read from them.

Legend: W walks, L steps.
"""

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_below
from trellis.graph.neighbours import Neighbours

ENDED = -1  # stands in a walk for the steps after a dead end
_BLOCK = 8192  # walks at a time: their numbers stay in the cache of the processor
_DRAWS = 4096  # neighbours drawn at once, if so many walks are left or fewer


def random_walks(
    graph: Neighbours,
    starts: Tensor,
    length: int,
    *,
    p: float = 1.0,
    q: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Walks of ``length`` steps, uniform or with the memory of node2vec.

    Having come from t to v, a walk goes on to a neighbour x of v with a probability that is
    proportional to

    .. math:: \alpha(t, x) = 1/p \text{ if } x = t, \quad 1 \text{ if } t \to x, \quad 1/q
        \text{ otherwise}

    and with the same for all where there is no t yet. A node without neighbours ends a walk; what
    is left of it is -1.

    Args:
        graph: whose edges are walked along.
        starts: the first node of each walk.
        length: steps L, at least 1.
        p: return parameter; a large one keeps walks from going straight back.
        q: in-out parameter; above 1 walks stay near where they began, below 1 they leave.
        generator: of the random numbers.
    Shape:
        starts ``[W]`` -> ``[W, length + 1]``
    Raises:
        ValueError: a start is no node, ``length`` is below 1, or p or q is not positive.

    Source: Perozzi et al. 2014, section 4.2 (uniform); Grover and Leskovec 2016, section 3.2.2.

    >>> path = Neighbours(torch.tensor([[0, 1], [1, 2]]), 3)
    >>> random_walks(path, torch.tensor([0, 2]), 3)
    tensor([[ 0,  1,  2, -1],
            [ 2, -1, -1, -1]])
    """
    at_least_one("length", length)
    check_memory(p, q)
    check_below("starts", starts, graph.num_nodes, "the graph")
    parts = starts.split(_BLOCK)
    return torch.cat([_walked(graph, part, length, p, q, generator) for part in parts])


def _walked(
    graph: Neighbours,
    starts: Tensor,
    length: int,
    p: float,
    q: float,
    generator: torch.Generator | None,
) -> Tensor:
    walks = starts.new_empty(length + 1, len(starts))
    walks[0] = starts
    for step in range(length):
        now = walks[step]
        if step == 0 or p == q == 1:
            walks[step + 1] = graph.drawn(now, _shares(len(now), generator))
        else:
            walks[step + 1] = _with_memory(graph, walks[step - 1], now, p, q, generator)
    return walks.t().masked_fill(walks.t() == graph.num_nodes, ENDED)


def check_memory(p: float, q: float) -> tuple[float, float]:
    """Return node2vec's parameters if both are positive and finite.

    Raises:
        ValueError: one is not.
    """
    for name, value in (("p", p), ("q", q)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}={value}: give a positive number; 1 walks uniformly")
    return p, q


def _shares(count: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _with_memory(
    graph: Neighbours,
    before: Tensor,
    now: Tensor,
    p: float,
    q: float,
    generator: torch.Generator | None,
) -> Tensor:
    """The next nodes, by rejection: a neighbour is drawn, and drawn again unless it is accepted.

    That is exact and needs no table of each edge's neighbours, whose size grows with the squares
    of the degrees. What the way back has in weight above all others is drawn apart: else it
    alone would decide how seldom the others are accepted (Yang et al. 2019, KnightKing).
    """
    highest = max(1.0, 1 / q)
    apart = max(1 / p - highest, 0.0) * graph.times_joined(now, before)
    back = apart / (apart + highest * graph.choices.index_select(0, now))
    chosen, open_ = torch.empty_like(now), torch.arange(len(now))
    while len(open_):
        # Some of the few that are left are hard to please: several draws for each at once.
        draws = max(1, min(32, _DRAWS // len(open_)))
        t, v, b = (each.index_select(0, open_).repeat(draws) for each in (before, now, back))
        x = graph.drawn(v, _shares(len(v), generator))
        weight = torch.where(graph.times_joined(t, x) > 0, 1.0, 1 / q)
        weight = weight.masked_fill_(x == t, min(1 / p, highest))
        # Where there is one way only, or none, its weight does not matter.
        weight = weight.masked_fill_(graph.choices.index_select(0, v) == 1, highest)
        accepted = _shares(len(v), generator) * highest < weight
        returns = _shares(len(v), generator) < b
        x = torch.where(returns, t, x).view(draws, -1)
        accepted = (accepted | returns).view(draws, -1)
        first = accepted.int().argmax(0, keepdim=True)
        found = accepted.any(0)
        chosen[open_[found]] = x.gather(0, first)[0, found]
        open_ = open_[~found]
    return chosen


def anonymous_walks(walks: Tensor) -> Tensor:
    """Walks with their nodes numbered by first appearance: the same shape has the same numbers.

    Args:
        walks: see ``random_walks``.
    Shape:
        ``[W, L + 1]`` -> ``[W, L + 1]``; -1 stays

    Source: Ivanov and Burnaev 2018, definition 1.

    >>> anonymous_walks(torch.tensor([[7, 3, 7, 5], [4, 9, 8, -1]]))
    tensor([[ 0,  1,  0,  2],
            [ 0,  1,  2, -1]])
    """
    names = torch.full_like(walks, ENDED)
    used = walks.new_zeros(len(walks))
    for step in range(walks.size(1)):
        seen = walks[:, :step] == walks[:, step, None]  # [W, step]
        again = seen.any(1)
        old = names[:, :step].gather(1, seen.int().argmax(1, keepdim=True))[:, 0] if step else used
        over = walks[:, step] == ENDED
        names[:, step] = torch.where(again, old, used).masked_fill(over, ENDED)
        used = used + ~(again | over)
    return names


def anonymous_walk_kinds(length: int) -> Tensor:
    """All anonymous walks of ``length`` steps, none of them on the spot, in ascending order.

    Args:
        length: steps L, at least 1; for 1 to 8 there are 1, 2, 5, 15, 52, 203, 877, 4140.
    Shape:
        -> ``[K, L + 1]``
    Raises:
        ValueError: ``length`` is below 1.

    >>> anonymous_walk_kinds(2)
    tensor([[0, 1, 0],
            [0, 1, 2]])
    """
    kinds = [[0]]
    for _ in range(at_least_one("length", length)):
        kinds = [
            [*kind, name] for kind in kinds for name in range(max(kind) + 2) if name != kind[-1]
        ]
    return torch.tensor(kinds)


def anonymous_walk_shares(walks: Tensor, owner: Tensor, num_owners: int) -> tuple[Tensor, Tensor]:
    """How often each anonymous walk occurs among the walks of a graph, or of a node.

    Args:
        walks: see ``random_walks``.
        owner: whose walk it is, 0 to ``num_owners - 1``.
        num_owners: G graphs or nodes.
    Returns:
        the shares, whose rows sum to 1 for all with a walk; and the kinds, in ascending order.
    Shape:
        walks ``[W, L + 1]``, owner ``[W]`` -> shares ``[G, K]``, kinds ``[K, L + 1]``

    Source: Ivanov and Burnaev 2018, definition 3, estimated from walks.
    """
    at_least_one("num_owners", num_owners)
    names = anonymous_walks(walks)
    kind = names.new_zeros(len(names))
    for column in names.unbind(1):  # three times as fast as to sort rows
        kind = (kind * (names.size(1) + 1) + column + 1).unique(return_inverse=True)[1]
    count = int(kind.max()) + 1 if len(kind) else 0
    kinds = names.new_empty(count, names.size(1))
    kinds[kind] = names
    counts = torch.zeros(num_owners, count)
    counts.index_put_((owner, kind), torch.ones(len(owner)), accumulate=True)
    return counts / counts.sum(1, keepdim=True).clamp(min=1), kinds
