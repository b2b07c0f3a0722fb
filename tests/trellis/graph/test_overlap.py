"""Overlap scores are those of networkx, whatever the graph holds beside its links."""

import networkx as nx
import pytest
import torch
from torch import Tensor

from trellis.graph import overlap, overlap_scores

ORACLES = {
    "jaccard": nx.jaccard_coefficient,
    "adamic_adar": nx.adamic_adar_index,
    "resource_allocation": nx.resource_allocation_index,
}


def random_graph(num_nodes: int = 40, seed: int = 0) -> tuple[nx.Graph, Tensor]:
    """A graph with a node that has no neighbours, a hub, and its edges in one direction each."""
    graph = nx.gnp_random_graph(num_nodes, 0.12, seed=seed)
    graph.add_edges_from((0, other) for other in range(1, 30))
    graph.remove_node(num_nodes - 1)
    graph.add_node(num_nodes - 1)
    return graph, torch.tensor(list(graph.edges)).t()


def all_pairs(num_nodes: int) -> Tensor:
    return torch.combinations(torch.arange(num_nodes)).t()


@pytest.mark.parametrize("name", ["common_neighbours", *ORACLES])
@pytest.mark.parametrize("chunk", [overlap.CHUNK, 7])
def test_is_what_networkx_finds(monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    monkeypatch.setattr(overlap, "CHUNK", chunk)
    graph, edge_index = random_graph()
    links = all_pairs(40)
    pairs = links.t().tolist()
    if name == "common_neighbours":
        expected = [len(list(nx.common_neighbors(graph, *pair))) for pair in pairs]
    else:
        expected = [score for *_, score in ORACLES[name](graph, pairs)]
    found = overlap_scores(edge_index, links, 40, name)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert len(found.unique()) > 5


@pytest.mark.parametrize("name", ["common_neighbours", *ORACLES, "katz"])
def test_neither_order_nor_repetition_nor_loops_matter(name: str) -> None:
    _, edge_index = random_graph()
    links = all_pairs(40)
    loops = torch.arange(40).expand(2, -1)
    again = torch.cat((edge_index.flip(0), loops, edge_index[:, :9]), 1)
    again = again[:, torch.randperm(again.size(1))]
    expected = overlap_scores(edge_index, links, 40, name, beta=0.01)
    found = overlap_scores(again, links.flip(0), 40, name, beta=0.01)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("chunk", [overlap.CHUNK, 100])
def test_katz_is_the_inverse_of_a_dense_matrix(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(overlap, "CHUNK", chunk)
    graph, edge_index = random_graph()
    eye = torch.eye(40, dtype=torch.float64)
    adjacency = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(40)))
    largest = float(torch.linalg.eigvalsh(adjacency).max())
    beta = 0.9 / largest
    expected = torch.linalg.inv(eye - beta * adjacency) - eye
    links = torch.cartesian_prod(torch.arange(40), torch.arange(40)).t()
    found = overlap_scores(edge_index, links, 40, "katz", beta).view(40, 40)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    centrality = nx.katz_centrality_numpy(graph, beta, normalized=False)
    torch.testing.assert_close(
        found.sum(1) + 1, torch.tensor([centrality[i] for i in range(40)], dtype=torch.float64)
    )
    with pytest.raises(
        ValueError, match=r"beta=.*Katz' index is infinite: give less than 1 / the"
    ):
        overlap_scores(edge_index, links, 40, "katz", 1.1 / largest)


def test_a_graph_without_edges_has_no_overlap() -> None:
    nothing = torch.empty(2, 0, dtype=torch.long)
    for name in ("common_neighbours", *ORACLES, "katz"):
        assert overlap_scores(nothing, all_pairs(3), 3, name).tolist() == [0, 0, 0]
        assert overlap_scores(all_pairs(3), nothing, 3, name).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamic"}, "name='adamic': choose from common_neighbours, jaccard, adamic_adar"),
        ({"name": "katz", "beta": 0.0}, "beta=0.0: give more than 0"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap_scores(all_pairs(3), all_pairs(3), 3, **options)
