"""Samples of neighbourhoods: what may be drawn, how often, and that all of them change nothing."""

from functools import partial
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import k_hop_subgraph

from trellis.graph.neighbours import Neighbours
from trellis.graph.sampling import NeighbourSampler, drawn_neighbours
from trellis.networks.graph import GAT, GraphSAGE


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_edges(nodes: int, edges: int) -> Tensor:
    found = torch.randint(nodes - 1, (2, edges), generator=seeded())  # the last node is alone
    return found.unique(dim=1)


EDGES = random_edges(60, 300)
GRAPH = Neighbours(EDGES, 60, incoming=True)


@pytest.mark.parametrize("fan_out", [1, 3, 8, -1])
def test_each_node_has_as_many_different_neighbours_as_it_may(fan_out: int) -> None:
    nodes = torch.randperm(60, generator=seeded())
    neighbours, owner = drawn_neighbours(GRAPH, nodes, fan_out, seeded())
    edges = {*map(tuple, EDGES.t().tolist())}
    drawn = [*zip(neighbours.tolist(), nodes[owner].tolist(), strict=True)]
    assert len({*drawn}) == len(drawn)
    assert {*drawn} <= edges
    wanted = EDGES[1].bincount(minlength=60)
    wanted = wanted if fan_out == -1 else wanted.clamp(max=fan_out)
    assert torch.equal(owner.bincount(minlength=60), wanted[nodes])


def test_all_sets_of_neighbours_are_drawn_alike() -> None:
    star = Neighbours(torch.tensor([[1, 2, 3, 4, 5], [0] * 5]), 6, incoming=True)
    neighbours, _ = drawn_neighbours(star, torch.zeros(20_000, dtype=torch.long), 3, seeded())
    sets = [tuple(sorted(row)) for row in neighbours.view(-1, 3).tolist()]
    for each in combinations(range(1, 6), 3):
        assert sets.count(each) / len(sets) == pytest.approx(0.1, abs=0.01)


def test_everything_within_two_hops_is_the_subgraph_of_pyg() -> None:
    seeds = torch.tensor([7, 3, 59, 20])
    sample = NeighbourSampler(GRAPH, [-1, -1]).sample(seeds)
    nodes, *_ = k_hop_subgraph(seeds, 2, EDGES, num_nodes=60)
    assert torch.equal(sample.nodes[:4], seeds)
    assert torch.equal(sample.nodes.sort().values, nodes)
    near, *_ = k_hop_subgraph(seeds, 1, EDGES, num_nodes=60)
    expected = EDGES[:, torch.isin(EDGES[1], near)]
    found = sample.nodes[sample.edge_index]
    assert {*map(tuple, found.t().tolist())} == {*map(tuple, expected.t().tolist())}
    assert found.size(1) == expected.size(1)


@pytest.mark.parametrize("network", [GraphSAGE, partial(GAT, hidden_channels=4, num_heads=2)])
@pytest.mark.parametrize("fan_out", [[60, 60], [-1, 17]])
def test_with_all_neighbours_the_seeds_have_the_outputs_of_the_whole_graph(
    network, fan_out: list[int]
) -> None:
    torch.manual_seed(0)
    model, x = network(5, 3).eval(), torch.randn(60, 5)
    seeds = torch.randperm(60)[:20]
    sample = NeighbourSampler(GRAPH, fan_out).sample(seeds, seeded())
    found = model(x[sample.nodes], sample.edge_index)[:20]
    torch.testing.assert_close(found, model(x, EDGES)[seeds], atol=1e-6, rtol=0)
    # Negative control: with one neighbour each they do not.
    few = NeighbourSampler(GRAPH, [1, 1]).sample(seeds, seeded())
    assert (model(x[few.nodes], few.edge_index)[:20] - found).abs().max() > 1e-3


def test_the_same_seed_draws_the_same_sample_however_often_it_was_used() -> None:
    sampler, seeds = NeighbourSampler(GRAPH, [2, 2]), torch.arange(10)
    one, _, two = (sampler.sample(seeds, seeded(n)) for n in (0, 1, 0))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("fan_out", "message"),
    [
        ([], r"fan_out=\[\]: give a number of neighbours for each hop"),
        ([10, 0], "fan_out=0: give at least 1, or -1 for all neighbours"),
        ([-2], "fan_out=-2: give at least 1"),
    ],
)
def test_a_fan_out_of_nothing_is_refused(fan_out: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighbourSampler(GRAPH, fan_out)


def test_seeds_are_different_nodes() -> None:
    sampler = NeighbourSampler(GRAPH, [1])
    with pytest.raises(ValueError, match="seeds: 3 of which some are there twice"):
        sampler.sample(torch.tensor([1, 2, 1]))
    with pytest.raises(ValueError, match="seed 60 is out of range: the graph takes 0 to 59"):
        sampler.sample(torch.tensor([60]))
