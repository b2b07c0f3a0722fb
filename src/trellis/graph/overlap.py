"""How much two nodes have in common, from the graph alone: scores of links without training.

Legend: N nodes, E edges, L pairs; G(u) are the neighbours of u and d(u) is their number. Edges
have no direction here, repeated ones count once, and those of a node to itself do not count.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from trellis.checks import choose_from, positive
from trellis.graph.links import unique_links

OverlapName = Literal["common_neighbours", "jaccard", "adamic_adar", "resource_allocation", "katz"]
CHUNK = 2**22  # numbers that are held at once
LONGEST = 1000  # walks that Katz' index adds up


def overlap_scores(
    edge_index: Tensor,
    links: Tensor,
    num_nodes: int,
    name: OverlapName = "adamic_adar",
    beta: float = 0.005,
) -> Tensor:
    r"""A score of each pair, larger where a link is more likely.

    ====================== ==========================================================
    name                   score
    ====================== ==========================================================
    common_neighbours      :math:`|G(u) \cap G(v)|`
    jaccard                :math:`|G(u) \cap G(v)| / |G(u) \cup G(v)|`
    adamic_adar            :math:`\sum_{w \in G(u) \cap G(v)} 1 / \ln d(w)`
    resource_allocation    :math:`\sum_{w \in G(u) \cap G(v)} 1 / d(w)`
    katz                   :math:`\sum_{l \ge 1} \beta^l (A^l)_{uv}`
    ====================== ==========================================================

    What is held in memory is bounded. The values of ``edge_index`` are read, so an accelerator is
    waited for; under ``torch.compile`` and on the meta device it is one operation.

    Args:
        edge_index: the graph.
        links: the pairs.
        num_nodes: N.
        name: of the score.
        beta: of Katz' index: what a walk loses with each step.
    Shape:
        ``[2, E]``, ``[2, L]`` -> ``[L]``, of torch.float64
    Raises:
        ValueError: an unknown name, or a ``beta`` for which Katz' index is infinite: one not
            below 1 / the largest eigenvalue of A.

    Source: Liben-Nowell and Kleinberg 2007, table 1; Zhou et al. 2009 (resource allocation).

    >>> path = torch.tensor([[0, 1], [1, 2]])
    >>> overlap_scores(path, torch.tensor([[0], [2]]), 3, "resource_allocation")
    tensor([0.5000], dtype=torch.float64)
    """
    choose_from("name", name, OverlapName)
    positive("beta", beta)
    return _scores(edge_index, links, num_nodes, name, beta)


@torch.library.custom_op("trellis::overlap_scores", mutates_args=())
def _scores(edge_index: Tensor, links: Tensor, num_nodes: int, name: str, beta: float) -> Tensor:
    pairs = unique_links(edge_index, num_nodes)
    source, target = torch.cat((pairs, pairs.flip(0)), 1)
    order = (source * num_nodes + target).argsort()
    source, target = source[order], target[order]
    if name == "katz":
        return _katz(source, target, links, num_nodes, beta)
    degree = source.bincount(minlength=num_nodes).double()
    weight = {
        "adamic_adar": degree.clamp(min=2).log().reciprocal(),  # in common: of two at least
        "resource_allocation": degree.clamp(min=1).reciprocal(),
    }.get(name, torch.ones_like(degree))
    scores = _common(source, target, links, num_nodes, weight)
    if name == "jaccard":
        union = degree[links[0]] + degree[links[1]] - scores
        scores = scores / union.clamp(min=1)
    return scores


@_scores.register_fake
def _(edge_index: Tensor, links: Tensor, num_nodes: int, name: str, beta: float) -> Tensor:
    return links.new_empty(links.size(1), dtype=torch.float64)


def _common(
    source: Tensor, target: Tensor, links: Tensor, num_nodes: int, weight: Tensor
) -> Tensor:
    """Sums ``[L]`` of the weights ``[N]`` of common neighbours; edges are sorted."""
    keys = source * num_nodes + target
    degree = source.bincount(minlength=num_nodes)
    first = degree.cumsum(0) - degree
    swap = degree[links[0]] > degree[links[1]]
    few, many = torch.where(swap, links.flip(0), links)  # neighbours of the first are looked up
    scores = torch.zeros(links.size(1), dtype=weight.dtype, device=links.device)
    for part in _parts(degree[few]):
        counts = degree[few[part]]
        owner = part.repeat_interleave(counts)
        before = (counts.cumsum(0) - counts).repeat_interleave(counts)
        place = torch.arange(len(owner), device=links.device) - before + first[few[owner]]
        between = target[place]
        wanted = many[owner] * num_nodes + between
        found = keys[torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)] == wanted
        scores.index_add_(0, owner, weight[between] * found)
    return scores


def _parts(counts: Tensor) -> Iterator[Tensor]:
    """Indices of pairs whose neighbours fit into memory together."""
    part = (counts.cumsum(0) - counts) // CHUNK
    yield from torch.arange(len(counts), device=counts.device).split(part.bincount().tolist())


def _katz(source: Tensor, target: Tensor, links: Tensor, num_nodes: int, beta: float) -> Tensor:
    """Katz' index of pairs, by adding up longer and longer walks from the first nodes."""
    values = torch.full((len(source),), beta, dtype=torch.float64, device=source.device)
    steps = torch.sparse_coo_tensor(
        torch.stack((source, target)),
        values,
        (num_nodes, num_nodes),
        is_coalesced=True,
        check_invariants=False,
    )
    nodes, column = links[0].unique(return_inverse=True)
    scores = torch.zeros(links.size(1), dtype=torch.float64, device=links.device)
    at_once = max(1, CHUNK // max(num_nodes, 1))
    for begin in range(0, len(nodes), at_once):
        some = nodes[begin : begin + at_once]
        reached = _walks(steps, some, beta)
        here = ((column >= begin) & (column < begin + at_once)).nonzero().flatten()
        scores[here] = reached[links[1, here], column[here] - begin]
    return scores


def _walks(steps: Tensor, starts: Tensor, beta: float) -> Tensor:
    """Weights ``[N, S]`` of all walks from each start to each node."""
    walks = torch.zeros(steps.size(0), len(starts), dtype=steps.dtype, device=steps.device)
    walks[starts, torch.arange(len(starts), device=steps.device)] = 1
    total = torch.zeros_like(walks)
    for _ in range(LONGEST):
        walks = steps @ walks
        total += walks
        if float(walks.amax()) <= 1e-12 * float(total.amax()):
            return total
    raise ValueError(
        f"beta={beta}: walks of {LONGEST} steps still count, so Katz' index is infinite: give "
        f"less than 1 / the largest eigenvalue of the graph"
    )
