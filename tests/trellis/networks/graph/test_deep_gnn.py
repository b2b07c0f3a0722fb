"""Deep graph networks against PyG's layers and against matrices."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import ChebConv, GCN2Conv, GCNConv, SAGEConv

from trellis.networks.graph.deep_gnn import GCNII, ClassicGNN, ResidualGNN
from trellis.networks.graph.spectral import ChebNet

IN, OUT, N = 5, 3, 6
EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 3, 4], [1, 0, 2, 1, 3, 2, 0, 3, 4, 3]])  # 5 alone


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(N, IN)


@pytest.mark.parametrize("jump", [False, True])
def test_classic_gcn_is_a_stack_of_pygs_layers(x: Tensor, jump: bool) -> None:
    network = ClassicGNN(
        IN, OUT, hidden_channels=4, num_layers=2, norm="layer", residual=True, jump=jump
    ).eval()
    h, layers = x, []
    for ours, norm, straight in zip(
        network.convolutions, network.norms, network.residuals, strict=True
    ):
        peer = GCNConv(h.size(1), 4)
        peer.load_state_dict(ours.state_dict())
        h = norm(peer(h, EDGES) + F.linear(h, straight.weight, straight.bias)).relu()
        layers.append(h)
    torch.testing.assert_close(network(x, EDGES), network.head(sum(layers) if jump else h))


def test_classic_sage_is_a_stack_of_pygs_layers(x: Tensor) -> None:
    network = ClassicGNN(
        IN, OUT, hidden_channels=4, num_layers=2, convolution="sage", norm="batch"
    ).eval()
    h = x
    for ours, norm in zip(network.convolutions, network.norms, strict=True):
        peer = SAGEConv(h.size(1), 4)
        peer.load_state_dict(ours.convolution.state_dict())
        h = norm(peer(h, EDGES)).relu()
    torch.testing.assert_close(network(x, EDGES), network.head(h))


@pytest.mark.parametrize("mixing", ["gcn", "sage", "none"])
def test_residual_blocks_mix_by_matrix(x: Tensor, mixing: str) -> None:
    network = ResidualGNN(IN, OUT, hidden_channels=4, num_layers=2, mixing=mixing).eval()
    a = torch.zeros(N, N).index_put_((EDGES[1], EDGES[0]), torch.ones(EDGES.size(1)))
    d = (a + torch.eye(N)).sum(1).pow(-0.5).diag()
    mixers = {
        "gcn": lambda h: d @ (a + torch.eye(N)) @ d @ h,
        "sage": lambda h: torch.cat((h, a @ h / a.sum(1, keepdim=True).clamp(min=1)), 1),
        "none": lambda h: h,
    }
    h = F.gelu(F.linear(x, network.input.weight, network.input.bias))
    for norm, forward in zip(network.norms, network.feed_forwards, strict=True):
        h = h + forward(mixers[mixing](norm(h)))
    torch.testing.assert_close(network(x, EDGES), network.head(h))


def test_gcnii_is_a_stack_of_pygs_layers(x: Tensor) -> None:
    network = GCNII(IN, OUT, hidden_channels=4, num_layers=3, alpha=0.2, theta=0.7).eval()
    first = h = F.linear(x, network.input.weight, network.input.bias).relu()
    for number, ours in enumerate(network.convolutions, 1):
        peer = GCN2Conv(4, 0.2, 0.7, number)
        peer.load_state_dict(ours.state_dict())
        h = peer(h, first, EDGES).relu()
    torch.testing.assert_close(network(x, EDGES), network.output(h))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_chebnet_is_a_stack_of_pygs_layers(x: Tensor, order: int) -> None:
    network = ChebNet(IN, OUT, hidden_channels=4, order=order).eval()
    h = x
    for number, ours in enumerate(network.convolutions):
        peer = ChebConv(h.size(1), ours.maps[0].out_features, order + 1)
        state = {f"lins.{k}.weight": linear.weight for k, linear in enumerate(ours.maps)}
        peer.load_state_dict({**state, "bias": torch.randn(ours.maps[0].out_features)})
        ours.maps[0].bias.data = peer.bias.data
        h = peer(h if number == 0 else h.relu(), EDGES)
    torch.testing.assert_close(network(x, EDGES), h)


@pytest.mark.parametrize(
    "build",
    [
        partial(GCNII, num_layers=32, hidden_channels=16),
        partial(ResidualGNN, num_layers=32, hidden_channels=16, mixing="gcn"),
        partial(ClassicGNN, num_layers=32, hidden_channels=16, norm="layer", residual=True),
    ],
)
def test_signals_survive_32_layers(build, x: Tensor) -> None:
    """Of a plain GCN this deep all connected nodes have one output, up to their degree."""
    network: nn.Module = build(IN, OUT).eval()
    out = network(x, EDGES)[:5]
    assert (out - out.mean(0)).abs().max() > 1e-2
    x.requires_grad_()
    network(x, EDGES)[0].sum().backward()
    assert x.grad.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(ClassicGNN, convolution="gat"), "convolution='gat': choose from gcn, sage"),
        (partial(ClassicGNN, norm="group"), "norm='group': choose from none, layer, batch"),
        (partial(ResidualGNN, mixing="gat"), "mixing='gat': choose from gcn, sage, none"),
        (partial(GCNII, alpha=2), "alpha=2: give a probability"),
        (partial(ChebNet, order=0), "order=0: give at least 1"),
    ],
)
def test_impossible_options_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(IN, OUT)
