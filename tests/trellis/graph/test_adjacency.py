"""Normalised adjacency against PyG's and against matrices."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from trellis.graph import adjacency
from trellis.graph.adjacency import edges_for, normalized_adjacency
from trellis.networks.graph.deep_gnn import GCNII, ClassicGNN, ResidualGNN
from trellis.networks.graph.gnn import GCN, GIN, GraphSAGE
from trellis.networks.graph.propagation import APPNP, SGC, LabelPropagation
from trellis.networks.graph.spectral import ChebNet

# With a self-loop at 1, a repeated edge, and 3 alone.
EDGES = torch.tensor([[0, 1, 1, 2, 2, 0, 0], [1, 0, 1, 0, 1, 2, 2]])


def dense(edge_index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    matrix = torch.zeros(4, 4)
    return matrix.index_put_((edge_index[1], edge_index[0]), weights, accumulate=True)


@pytest.mark.parametrize("self_loops", [True, False])
def test_the_weights_are_those_of_pyg(self_loops: bool) -> None:
    ours = normalized_adjacency(torch.ones(4, 2), EDGES, self_loops=self_loops)
    edges = EDGES[:, EDGES[0] != EDGES[1]]  # PyG keeps the graph's own loops as they are
    theirs = gcn_norm(edges, num_nodes=4, add_self_loops=self_loops)
    torch.testing.assert_close(dense(*ours), dense(*theirs))
    assert dense(*ours)[3].tolist() == [0, 0, 0, float(self_loops)]


def test_degrees_are_counted_in_full_precision() -> None:
    star = torch.stack((torch.arange(1, 1001), torch.zeros(1000, dtype=torch.long)))
    x = torch.ones(1001, 1, dtype=torch.bfloat16)
    edges, weights = normalized_adjacency(x, star)
    assert weights.dtype == torch.bfloat16
    at_hub = weights[(edges[0] == 0) & (edges[1] == 0)]
    torch.testing.assert_close(at_hub.float(), torch.tensor([1 / 1001]), rtol=1e-2, atol=0)


MANY = 700, 9000  # nodes and edges: enough for a matrix


def many_edges() -> tuple[Tensor, Tensor, Tensor]:
    """Features, edges with repetitions and loops, of which some nodes have none, and weights."""
    generator = torch.Generator().manual_seed(5)
    nodes, edges = MANY
    x = torch.randn(nodes, 6, generator=generator)
    edge_index = torch.randint(nodes - 20, (2, edges), generator=generator)
    return x, edge_index, torch.rand(edges, generator=generator)


def test_many_edges_are_a_matrix_on_a_cpu() -> None:
    x, edge_index, weights = many_edges()
    (matrix,) = edges_for([], x, edge_index, weights)
    dense = torch.zeros(len(x), len(x)).index_put((edge_index[1], edge_index[0]), weights, True)
    torch.testing.assert_close(matrix.to_dense(), dense)
    (ones,) = edges_for([], x.double(), edge_index)
    assert ones.dtype == torch.float64
    assert float(ones.values().min()) == float(ones.values().max()) == 1.0


@pytest.mark.parametrize("why", ["few", "explained", "learned", "low precision", "meta"])
def test_edges_stay_edges(why: str) -> None:
    x, edge_index, weights = many_edges()
    layer = GCNConv(6, 6, normalize=False)
    if why == "few":
        edge_index, weights = edge_index[:, :8000], weights[:8000]
    elif why == "explained":
        layer.explain = True
    elif why == "learned":
        weights = weights.requires_grad_()
    elif why == "low precision":
        x = x.bfloat16()
    else:
        x = x.to("meta")
    edges = edges_for([layer], x, edge_index, weights)
    assert edges[0] is edge_index
    assert edges[1] is weights


NETWORKS = {
    "GCN": partial(GCN, hidden_channels=5),
    "GraphSAGE": partial(GraphSAGE, hidden_channels=5),
    "GIN": partial(GIN, hidden_channels=5),
    "SGC": SGC,
    "APPNP": partial(APPNP, hidden_channels=5),
    "LabelPropagation": LabelPropagation,
    "ChebNet": partial(ChebNet, order=3),
    "GCNII": partial(GCNII, hidden_channels=5),
    "ClassicGNN of GCN": partial(ClassicGNN, hidden_channels=5),
    "ClassicGNN of GraphSAGE": partial(ClassicGNN, convolution="sage", hidden_channels=5),
    "ResidualGNN of GCN": partial(ResidualGNN, mixing="gcn", hidden_channels=5),
    "ResidualGNN of GraphSAGE": partial(ResidualGNN, mixing="sage", hidden_channels=5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_matrix_gives_the_sums_and_gradients_of_the_edges(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, edge_index, _ = many_edges()
    x = x.double().abs()  # LabelPropagation divides by sums
    torch.manual_seed(0)
    network = NETWORKS[name](6, 6).double().eval()
    results = []
    for few in (10**9, 0):
        monkeypatch.setattr(adjacency, "MANY_EDGES", few)
        network.zero_grad()
        features = x.clone().requires_grad_()
        out = network(features, edge_index)
        out.square().sum().backward()
        results.append([out, features.grad, *(p.grad for p in network.parameters())])
    by_edges, by_matrix = results
    for a, b in zip(by_edges, by_matrix, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_under_autocast_edges_stay_edges() -> None:
    x, edge_index, _ = many_edges()
    with torch.autocast("cpu", torch.bfloat16):
        assert edges_for([], x, edge_index)[0] is edge_index


def test_transformed_functions_see_edges() -> None:
    x, edge_index, _ = many_edges()
    network = GCN(6, 3, hidden_channels=5).eval()
    found, slope = torch.func.jvp(lambda x: network(x, edge_index), (x,), (x,))
    torch.testing.assert_close(found, network(x, edge_index))
    assert slope.shape == found.shape


def test_a_matrix_has_second_derivatives() -> None:
    x, edge_index, _ = many_edges()
    network = GCN(6, 3, hidden_channels=5).double().eval()
    x = x.double().requires_grad_()
    for edges in (edge_index[:, :8000], edge_index):  # edges, then a matrix
        out = network(x, edges).square().sum()
        (slope,) = torch.autograd.grad(out, x, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), x)
        shifted = x.detach() + 1e-6 * second
        shifted.requires_grad_()
        (moved,) = torch.autograd.grad(network(shifted, edges).square().sum(), shifted)
        difference = (moved.square().sum() - slope.square().sum()) / 1e-6
        torch.testing.assert_close(difference, second.square().sum(), rtol=1e-3, atol=0.0)
