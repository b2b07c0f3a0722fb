"""Layers around PyG's: the same results, whatever the layout of x."""

import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, GatedGraphConv, GATv2Conv, GCNConv, GINConv, SAGEConv

from trellis.graph.layers import GatedLayer, GINLayer, NodewiseLinear, SAGELayer, sparse_input
from trellis.nn.sparse import SparseLinear, to_csr

EDGES = torch.tensor([[0, 1, 2, 3, 0, 0], [1, 0, 3, 2, 2, 2]])  # one edge twice, 4 isolated


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("factory", [GCNConv, GATConv, GATv2Conv, SAGEConv])
def test_sparse_input_keeps_names_weights_and_results(factory: type[nn.Module]) -> None:
    layer = factory(6, 3)
    x = torch.randn(5, 6) * (torch.rand(5, 6) < 0.5)
    before, names = layer(x, EDGES), list(layer.state_dict())
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    assert sparse_input(layer) is layer
    assert list(layer.state_dict()) == names
    assert any(isinstance(child, SparseLinear) for child in layer.children())
    torch.testing.assert_close(layer.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close(layer(x, EDGES), before)


def test_mean_and_self_is_pygs_layer_on_repeated_edges_and_lonely_nodes() -> None:
    x, peer, layer = torch.randn(5, 6), SAGEConv(6, 3), SAGELayer(6, 3, normalize=False)
    nn.init.normal_(peer.lin_l.bias)
    layer.convolution.load_state_dict(peer.state_dict())
    torch.testing.assert_close(layer(x, EDGES), peer(x, EDGES))
    torch.testing.assert_close(layer(to_csr(x), EDGES), peer(x, EDGES))


def test_mean_and_self_has_unit_length_if_asked() -> None:
    out = SAGELayer(6, 3, normalize=True)(torch.randn(5, 6), EDGES)
    torch.testing.assert_close(out.square().sum(1), torch.ones(5))


def test_sum_and_self_is_pygs_layer() -> None:
    x, mlp = torch.randn(5, 6), nn.Linear(6, 3)
    layer, peer = GINLayer(mlp, 0.5, False), GINConv(mlp, 0.5)
    torch.testing.assert_close(layer(x, EDGES), peer(x, EDGES))
    torch.testing.assert_close(layer(to_csr(x), EDGES), peer(x, EDGES))


@pytest.mark.parametrize("train_eps", [True, False])
def test_sum_and_self_learns_eps_if_asked(train_eps: bool) -> None:
    layer = GINLayer(nn.Linear(6, 3), 0.5, train_eps)
    assert ("convolution.eps" in dict(layer.named_parameters())) is train_eps
    assert layer.convolution.eps.item() == 0.5


def test_gated_is_pygs_layer_with_the_same_initial_values() -> None:
    torch.manual_seed(0)
    peer = GatedGraphConv(6, num_layers=1)
    torch.manual_seed(0)
    layer, x = GatedLayer(6), torch.randn(5, 6)
    torch.testing.assert_close(layer.state_dict(), peer.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(layer(x, EDGES), peer(x, EDGES), rtol=0, atol=0)


def test_alone_is_a_linear_map() -> None:
    layer, x = NodewiseLinear(6, 3), torch.randn(5, 6)
    torch.testing.assert_close(layer(x, EDGES), x @ layer.weight.t() + layer.bias)
