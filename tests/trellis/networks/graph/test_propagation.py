"""Networks that smooth their predictions, against PyG's and against matrices."""

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import APPNP as PygAPPNP
from torch_geometric.nn import LabelPropagation as PygLabelPropagation
from torch_geometric.nn import SGConv

from trellis.networks.graph.propagation import APPNP, SGC, LabelPropagation
from trellis.nn.sparse import to_csr

IN, OUT, N = 5, 3, 6
EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0, 3, 4], [1, 0, 2, 1, 3, 2, 0, 3, 4, 3]])  # 5 alone


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(N, IN)


@pytest.mark.parametrize("num_hops", [1, 3])
def test_sgc_is_pygs_with_the_same_weights(x: Tensor, num_hops: int) -> None:
    network, peer = SGC(IN, OUT, num_hops=num_hops).eval(), SGConv(IN, OUT, num_hops)
    peer.lin.load_state_dict(network.linear.state_dict())
    torch.testing.assert_close(network(x, EDGES), peer(x, EDGES))
    torch.testing.assert_close(network(to_csr(x), EDGES), peer(x, EDGES))


def test_appnp_is_an_mlp_and_pygs_propagation(x: Tensor) -> None:
    network = APPNP(IN, OUT, hidden_channels=4, num_hops=7, restart=0.2).eval()
    first, second = network.predictor.convolutions
    hidden = (x @ first.weight.t() + first.bias).relu() @ second.weight.t() + second.bias
    torch.testing.assert_close(network(x, EDGES), PygAPPNP(7, 0.2)(hidden, EDGES))


def test_appnp_comes_near_personalised_pagerank(x: Tensor) -> None:
    """alpha (I - (1 - alpha) S)^-1 H, of which the steps are the power iteration."""
    network = APPNP(IN, OUT, hidden_channels=4, num_hops=200, restart=0.1).eval()
    a_hat = torch.eye(N).index_put_((EDGES[1], EDGES[0]), torch.ones(EDGES.size(1)))
    d = a_hat.sum(1).pow(-0.5).diag()
    pagerank = 0.1 * (torch.eye(N) - 0.9 * d @ a_hat @ d).inverse()
    expected = pagerank @ network.predictor(x, EDGES)
    torch.testing.assert_close(network(x, EDGES), expected)


@pytest.mark.parametrize("alpha", [0.5, 0.99])
def test_label_propagation_is_pygs(alpha: float) -> None:
    y, known = torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([True, False, True] + [False] * 3)
    network = LabelPropagation(OUT, OUT, num_hops=20, alpha=alpha).eval()
    x = torch.nn.functional.one_hot(y, OUT).float() * known[:, None]
    ours = network(x, EDGES)
    theirs = PygLabelPropagation(20, alpha)(y, EDGES, mask=known)
    torch.testing.assert_close(ours[:5], theirs[:5] / theirs[:5].sum(1, keepdim=True))
    assert ours[5].tolist() == [0, 0, 0]  # nobody tells the lonely node
    network.log_temperature.data.fill_(3.0)
    assert network(x, EDGES)[:5].argmax(1).equal(theirs[:5].argmax(1))


def test_label_propagation_asks_for_labels() -> None:
    with pytest.raises(
        ValueError, match="in_channels=1433 and out_channels=7 must be equal; give"
    ):
        LabelPropagation(1433, 7)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SGC(IN, OUT, num_hops=0), "num_hops=0: give at least 1"),
        (lambda: APPNP(IN, OUT, restart=1.5), "restart=1.5: give a probability"),
        (lambda: LabelPropagation(OUT, OUT, alpha=2), "alpha=2: give a probability"),
    ],
)
def test_impossible_options_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
