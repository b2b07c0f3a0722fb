"""Subtree colours and their counts against networkx's hashes of the same subtrees."""

from collections import Counter

import networkx as nx
import pytest
import torch
from torch import Tensor

from trellis.graph import subtree_colours
from trellis.networks.graph import WeisfeilerLehman


def random_graph(number: int) -> nx.Graph:
    graph = nx.gnp_random_graph(6 + number % 3, 0.35, seed=number)
    nx.set_node_attributes(graph, {n: str((n * number) % 2) for n in graph}, "label")
    return graph


GRAPHS = [random_graph(number) for number in range(12)]


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    joined = nx.disjoint_union_all(GRAPHS)
    edges = torch.tensor(list(joined.edges)).t()
    labels = torch.tensor([int(joined.nodes[n]["label"]) for n in joined])
    batch = torch.arange(12).repeat_interleave(torch.tensor([len(g) for g in GRAPHS]))
    return torch.eye(2)[labels], torch.cat([edges, edges.flip(0)], 1), batch


def theirs(graph: nx.Graph, rounds: int) -> Counter:
    hashes = nx.weisfeiler_lehman_subgraph_hashes(
        graph, node_attr="label", iterations=rounds, include_initial_labels=True
    )
    return Counter((depth, each) for row in hashes.values() for depth, each in enumerate(row))


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_subtree_kernel_is_that_of_the_hashes_of_networkx(rounds: int) -> None:
    x, edge_index, batch = tensors()
    features = WeisfeilerLehman(2, 2, iterations=rounds, num_buckets=1 << 16).features(
        x, edge_index, batch, 12
    )
    counts = [theirs(graph, rounds) for graph in GRAPHS]
    kernel = [[sum(a[k] * b[k] for k in a) for b in counts] for a in counts]
    assert (features @ features.t()).tolist() == kernel


def test_colours_do_not_depend_on_the_order_of_nodes_and_edges() -> None:
    x, edge_index, _ = tensors()
    order, edges = torch.randperm(len(x)), torch.randperm(edge_index.size(1))
    place = order.argsort()
    moved = subtree_colours(x[order], place[edge_index[:, edges]], 3)
    assert torch.equal(moved, subtree_colours(x, edge_index, 3)[:, order])


def test_a_triangle_pair_and_a_hexagon_are_not_told_apart() -> None:
    """The limit of colour refinement: all nodes have two neighbours."""
    hexagon = torch.tensor([[i, (i + 1) % 6] for i in range(6)]).t()
    triangles = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]]).t()
    x = torch.ones(6, 1)
    a, b = (subtree_colours(x, torch.cat([e, e.flip(0)], 1), 4) for e in (hexagon, triangles))
    assert torch.equal(a, b)
    assert len(a.unique()) == 5


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="iterations"):
        WeisfeilerLehman(2, 2, iterations=-1)
    with pytest.raises(ValueError, match="num_buckets=0: give at least 1"):
        WeisfeilerLehman(2, 2, num_buckets=0)
