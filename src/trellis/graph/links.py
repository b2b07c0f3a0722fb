"""Pairs of nodes: which are linked, and which are not.

Legend: N nodes, E edges, L links. A link is a pair of two nodes; without a direction ``u, v`` and
``v, u`` are one link. Each pair has a number, so that sets of links are sorted vectors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least


def num_pairs(num_nodes: int, directed: bool = False) -> int:
    """How many links N nodes can have.

    >>> num_pairs(4), num_pairs(4, directed=True)
    (6, 12)
    """
    ordered = num_nodes * (num_nodes - 1)
    return ordered if directed else ordered // 2


def pair_numbers(links: Tensor, num_nodes: int, directed: bool = False) -> Tensor:
    """The number of each pair, in ``0 .. num_pairs - 1``; -1 for a node with itself.

    Without a direction the nodes stand in a circle: a pair is the node that comes first on the
    shorter way between the two, and the length of that way.

    Shape:
        ``[2, L]`` -> ``[L]``

    >>> pair_numbers(torch.tensor([[0, 1, 3, 2], [1, 0, 0, 2]]), num_nodes=4)
    tensor([ 0,  0,  3, -1])
    """
    source, target = links
    if directed:
        number = source * (num_nodes - 1) + target - (target > source).long()
    else:
        low, high = torch.minimum(source, target), torch.maximum(source, target)
        way, around = high - low, num_nodes - (high - low)
        number = torch.where(
            way <= around, (way - 1) * num_nodes + low, (around - 1) * num_nodes + high
        )
    return number.where(source != target, -1)


def numbered_pairs(numbers: Tensor, num_nodes: int, directed: bool = False) -> Tensor:
    """The pairs with these numbers; without a direction the smaller node comes first.

    Shape:
        ``[L]`` -> ``[2, L]``

    >>> numbered_pairs(torch.tensor([0, 3]), num_nodes=4)
    tensor([[0, 0],
            [1, 3]])
    """
    if directed:
        source, target = numbers // (num_nodes - 1), numbers % (num_nodes - 1)
        return torch.stack((source, target + (target >= source).long()))
    first = numbers % num_nodes
    second = (first + numbers // num_nodes + 1) % num_nodes
    return torch.stack((torch.minimum(first, second), torch.maximum(first, second)))


def unique_links(edge_index: Tensor, num_nodes: int, directed: bool = False) -> Tensor:
    """The links among edges, each once, without those of a node to itself.

    Shape:
        ``[2, E]`` -> ``[2, L]``

    >>> unique_links(torch.tensor([[0, 1, 2], [1, 0, 2]]), num_nodes=3)
    tensor([[0],
            [1]])
    """
    numbers = pair_numbers(edge_index, num_nodes, directed)
    return numbered_pairs(numbers[numbers >= 0].unique(), num_nodes, directed)


class NonLinks:
    """The pairs of nodes that are not linked, to draw from uniformly.

    The r-th number that is missing from a sorted list is found by bisection: nothing is drawn in
    vain, however many links there are, and no value is read on the way.

    Args:
        links: ``[2, L]``; repeated ones, and a node with itself, do not count.
        num_nodes: N.
        directed: whether ``u, v`` and ``v, u`` are two links.
    Raises:
        ValueError: all pairs are linked.

    >>> NonLinks(torch.tensor([[0, 0], [1, 2]]), num_nodes=3).draw(2)
    tensor([[1, 1],
            [2, 2]])
    """

    def __init__(self, links: Tensor, num_nodes: int, directed: bool = False) -> None:
        known = pair_numbers(unique_links(links, num_nodes, directed), num_nodes, directed)
        known = known.sort().values
        self.num_nodes, self.directed = num_nodes, directed
        self.count = num_pairs(num_nodes, directed) - len(known)
        at_least(1, "pairs that are not linked", self.count, ": leave some links out")
        self.missing_before = known - torch.arange(len(known), device=known.device)  # [L]

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Pairs ``[2, count]`` that are not linked, with replacement."""
        device = self.missing_before.device
        return self._pairs(torch.randint(self.count, (count,), generator=generator, device=device))

    def draw_distinct(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Pairs ``[2, count]`` that are not linked, each at most once.

        Raises:
            ValueError: there are not so many.
        """
        if count > self.count:
            raise ValueError(
                f"{count} pairs that are not linked are wanted, but only {self.count} of "
                f"{self.num_nodes} nodes are none: give smaller fractions"
            )
        if 2 * count > self.count:
            return self._pairs(torch.randperm(self.count, generator=generator)[:count])
        chosen = torch.empty(0, dtype=torch.long)
        while len(chosen) < count:
            more = torch.randint(self.count, (2 * count,), generator=generator)
            chosen = torch.cat((chosen, more)).unique()
        return self._pairs(chosen[torch.randperm(len(chosen), generator=generator)[:count]])

    def _pairs(self, ranks: Tensor) -> Tensor:
        """The pairs of these ranks among those that are not linked."""
        numbers = ranks + torch.searchsorted(self.missing_before, ranks, right=True)
        return numbered_pairs(numbers, self.num_nodes, self.directed)


def link_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Binary cross-entropy in nats, in which links and pairs that are none weigh the same.

    .. math:: -\tfrac12 \operatorname{mean}_{y=1} \ln \sigma(s)
        - \tfrac12 \operatorname{mean}_{y=0} \ln \sigma(-s)

    Over all pairs this is the weighted loss of the paper, whose ``pos_weight`` and ``norm`` come
    to the same; over all links and a sample of the other pairs it is an estimate of that.

    Args:
        logits: s.
        labels: y, 1 for a link and 0 for a pair that is none, in the type of the logits; there
            are both.
    Shape:
        any, the same for both -> a scalar

    Source: Kipf and Welling 2016, "Variational graph auto-encoders", and its code.

    >>> link_loss(torch.zeros(4), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor(0.6931)
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    positive = (losses * labels).sum() / labels.sum()
    negative = (losses * (1 - labels)).sum() / (1 - labels).sum()
    return (positive + negative) / 2


def all_pairs_loss(logits: Tensor, links: Tensor, weights: Tensor) -> Tensor:
    """``link_loss`` over all pairs of nodes, in one pass over their logits.

    Args:
        logits: of all pairs.
        links: the pairs that are linked, in every direction and order that counts.
        weights: of these, 1, or 0 for a pair that is none after all.
    Shape:
        ``[N, N]``, ``[2, L]``, ``[L]`` -> a scalar

    >>> all_pairs_loss(torch.zeros(2, 2), torch.tensor([[0], [1]]), torch.ones(1))
    tensor(0.6931)
    """
    places = links[0] * logits.size(1) + links[1]
    # Not by brackets: the threads of a CPU add their gradients in whatever order.
    chosen, count = logits.flatten().index_select(0, places), weights.sum()
    positive = (weights * F.softplus(-chosen)).sum() / count
    others = F.softplus(logits).sum() - (weights * F.softplus(chosen)).sum()
    return (positive + others / (logits.numel() - count)) / 2
