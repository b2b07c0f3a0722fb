"""Walks against their transition probabilities, written out edge by edge."""

from itertools import product

import networkx as nx
import pytest
import torch
from torch import Tensor

from trellis.graph.neighbours import Neighbours
from trellis.graph.walks import (
    anonymous_walk_kinds,
    anonymous_walk_shares,
    anonymous_walks,
    random_walks,
)

# A triangle 0-1-2 with a tail 2-3-4, a one-way edge 4 -> 5 into a dead end, and 6 alone.
EDGES = [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)]
EDGE_INDEX = torch.tensor([*EDGES, *[(b, a) for a, b in EDGES], (4, 5)]).t()
GRAPH = Neighbours(EDGE_INDEX, 7)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def second_step(before: int, now: int, p: float, q: float) -> dict[int, float]:
    """Probabilities of the next node, from the definition in node2vec."""
    graph = nx.DiGraph(EDGE_INDEX.t().tolist())
    alpha = {
        x: 1 / p if x == before else 1.0 if graph.has_edge(before, x) else 1 / q
        for x in graph.successors(now)
    }
    return {x: weight / sum(alpha.values()) for x, weight in alpha.items()}


@pytest.mark.parametrize(("p", "q"), [(1, 1), (0.25, 4), (4, 0.25), (0.25, 0.5), (3, 2)])
def test_steps_have_the_enumerated_probabilities(p: float, q: float) -> None:
    walks = random_walks(GRAPH, torch.arange(5).repeat(20_000), 2, p=p, q=q, generator=seeded())
    seen = 0
    for before, now in product(range(7), repeat=2):
        here = walks[(walks[:, 0] == before) & (walks[:, 1] == now)][:, 2]
        for x, expected in second_step(before, now, p, q).items() if len(here) else ():
            deviation = (expected * (1 - expected) / len(here)) ** 0.5
            assert (here == x).double().mean().item() == pytest.approx(
                expected, abs=4.5 * deviation + 1e-9
            )
            seen += 1
    assert seen == 23


def test_the_first_step_is_uniform() -> None:
    first = random_walks(GRAPH, torch.full((30_000,), 2), 1, p=0.1, q=9, generator=seeded())[:, 1]
    shares = first.bincount(minlength=7) / len(first)
    torch.testing.assert_close(shares[[0, 1, 3]], torch.full((3,), 1 / 3), atol=0.015, rtol=0)


@pytest.mark.parametrize("options", [{}, {"p": 0.2, "q": 8.0}, {"p": 5.0, "q": 0.1}])
def test_walks_follow_edges_and_end_where_none_leads_on(options: dict[str, float]) -> None:
    walks = random_walks(GRAPH, torch.arange(7).repeat(300), 12, generator=seeded(), **options)
    edges = {*map(tuple, EDGE_INDEX.t().tolist()), (5, -1), (6, -1), (-1, -1)}
    assert {*map(tuple, walks.unfold(1, 2, 1).reshape(-1, 2).tolist())} == edges
    assert (walks[6::7, 1:] == -1).all()


def test_a_repeated_edge_counts_twice() -> None:
    graph = Neighbours(torch.tensor([[0, 0, 0], [1, 1, 2]]), 3)
    first = random_walks(graph, torch.zeros(20_000, dtype=torch.long), 1, generator=seeded())
    assert (first[:, 1] == 1).double().mean().item() == pytest.approx(2 / 3, abs=0.015)


def test_the_same_seed_walks_the_same_way() -> None:
    def walked(seed: int) -> Tensor:
        return random_walks(GRAPH, torch.arange(5), 30, p=2, q=0.5, generator=seeded(seed))

    assert torch.equal(walked(3), walked(3))
    assert not torch.equal(walked(3), walked(4))


def test_a_graph_without_edges_has_walks_of_one_node() -> None:
    graph = Neighbours(torch.empty(2, 0, dtype=torch.long), 2)
    walks = random_walks(graph, torch.arange(2), 2, p=2)
    assert walks.tolist() == [[0, -1, -1], [1, -1, -1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length=0: give at least 1"),
        ({"p": 0.0}, "p=0.0: give a positive number; 1 walks uniformly"),
        ({"q": -1.0}, "q=-1.0: give a positive number"),
        ({"q": float("nan")}, "q=nan: give a positive number"),
        ({"starts": torch.tensor([7])}, "starts 7 is out of range: the graph takes 0 to 6"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_walks(GRAPH, **{"starts": torch.tensor([0]), "length": 2, **options})


def test_an_edge_to_a_missing_node_is_named() -> None:
    with pytest.raises(ValueError, match="edge 1 -> 3: there are num_nodes=3 nodes, 0 to 2"):
        Neighbours(torch.tensor([[0, 1], [1, 3]]), 3)


def test_incoming_lists_where_edges_come_from() -> None:
    graph = Neighbours(EDGE_INDEX, 7, incoming=True)
    theirs = nx.DiGraph(EDGE_INDEX.t().tolist())
    for node in range(6):
        found = graph.nodes[graph.starts[node] : graph.starts[node + 1]].tolist()
        assert found == sorted(theirs.predecessors(node))


def test_anonymous_walks_are_all_there_are() -> None:
    """Of L steps between different nodes there are as many as partitions: 1, 2, 5, 15."""
    graph = Neighbours(torch.cartesian_prod(torch.arange(6), torch.arange(6)).t(), 6)
    for length, count in ((1, 2), (2, 5), (3, 15)):  # with steps on the spot: Bell numbers
        walks = random_walks(graph, torch.arange(6).repeat(500), length, generator=seeded())
        names = anonymous_walks(walks)
        assert len(names.unique(dim=0)) == count
        for walk, name in zip(walks[:50].tolist(), names[:50].tolist(), strict=True):
            order = list(dict.fromkeys(walk))
            assert name == [order.index(node) for node in walk]


def test_kinds_of_anonymous_walks_are_all_that_occur() -> None:
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6)).t()
    graph = Neighbours(pairs[:, pairs[0] != pairs[1]], 6)
    walks = random_walks(graph, torch.arange(6).repeat(1000), 4, generator=seeded())
    assert anonymous_walk_kinds(4).equal(anonymous_walks(walks).unique(dim=0))
    counts = [len(anonymous_walk_kinds(length)) for length in range(1, 9)]
    assert counts == [1, 2, 5, 15, 52, 203, 877, 4140]  # Bell numbers


def test_shares_of_anonymous_walks_are_their_probabilities() -> None:
    """On a triangle the third node is the first again half of the time."""
    triangle = Neighbours(torch.tensor([[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]), 3)
    walks = random_walks(triangle, torch.arange(3).repeat(4000), 2, generator=seeded())
    shares, kinds = anonymous_walk_shares(walks, torch.arange(12_000) % 2, 3)
    assert kinds.tolist() == [[0, 1, 0], [0, 1, 2]]
    torch.testing.assert_close(shares[:2], torch.full((2, 2), 0.5), atol=0.03, rtol=0)
    assert shares[2].tolist() == [0, 0]
