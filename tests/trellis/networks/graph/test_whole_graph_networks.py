"""The graph transformer and the pooled network, against stacks of PyG's layers."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GCNConv, GPSConv, SAGPooling, global_max_pool, global_mean_pool

from trellis.networks.graph.graph_transformer import GraphTransformer
from trellis.networks.graph.pooled_network import SAGPoolNetwork
from trellis.nn.sparse import to_csr

IN, OUT = 4, 3
NETWORKS = {
    "transformer": partial(GraphTransformer, hidden_channels=8, num_heads=2, num_layers=2),
    "pooled": partial(SAGPoolNetwork, hidden_channels=8, num_layers=2),
}
# A triangle with a tail, a path of three, a pair.
EDGES = torch.tensor(
    [[0, 1, 1, 2, 2, 0, 2, 3, 4, 5, 5, 6, 7, 8], [1, 0, 2, 1, 0, 2, 3, 2, 5, 4, 6, 5, 8, 7]]
)
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(len(BATCH), IN)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    return NETWORKS[request.param](IN, OUT).eval()


def test_the_transformer_is_a_stack_of_pygs_layers(x: Tensor) -> None:
    network = NETWORKS["transformer"](IN, OUT).eval()
    h = network.input(x)
    for layer in network.layers:
        peer = GPSConv(8, layer.conv, heads=2)
        peer.load_state_dict(layer.state_dict())
        h = peer.eval()(h, EDGES, BATCH)
    expected = network.classifier(global_mean_pool(h, BATCH))
    torch.testing.assert_close(network(x, EDGES, BATCH), expected)


def test_the_pooled_network_is_a_stack_of_pygs_layers(x: Tensor) -> None:
    network = NETWORKS["pooled"](IN, OUT).eval()
    h, edges, batch, total = x, EDGES, BATCH, 0
    for convolution, pooling in zip(network.convolutions, network.poolings, strict=True):
        first, second = GCNConv(h.size(1), 8), SAGPooling(8, 0.5, GCNConv)
        first.load_state_dict(convolution.state_dict())
        second.load_state_dict(pooling.state_dict())
        h, edges, _, batch, *_ = second(first(h, edges).relu(), edges, batch=batch)
        total = total + torch.cat((global_mean_pool(h, batch), global_max_pool(h, batch)), 1)
    assert torch.bincount(batch).tolist() == [1, 1, 1]  # of 4, 3 and 2 nodes, halved twice
    torch.testing.assert_close(network(x, EDGES, BATCH), network.classifier(total))


def test_a_batch_is_its_graphs_one_by_one(network, x: Tensor) -> None:
    together = network(x, EDGES, BATCH)
    for graph in range(3):
        nodes = (graph == BATCH).nonzero().flatten()
        edges = EDGES[:, BATCH[EDGES[0]] == graph] - nodes[0]
        alone = network(x[nodes], edges, torch.zeros(len(nodes), dtype=torch.long))
        torch.testing.assert_close(together[graph], alone[0], rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_the_order_of_nodes_does_not_matter(network, x: Tensor) -> None:
    expected = network(x, EDGES, BATCH)
    order = torch.randperm(len(x))  # graphs mixed, too
    shuffled = network(x[order], order.argsort()[EDGES], BATCH[order])
    torch.testing.assert_close(shuffled, expected, rtol=1e-4, atol=1e-5)


def test_a_graph_without_nodes_counts_if_num_graphs_says_so(network, x: Tensor) -> None:
    out = network(x, EDGES, BATCH, num_graphs=4)
    assert out.shape == (4, OUT)
    torch.testing.assert_close(out[:3], network(x, EDGES, BATCH))


def test_a_sparse_x_gives_what_the_dense_one_gives(network, x: Tensor) -> None:
    torch.testing.assert_close(network(to_csr(x), EDGES, BATCH), network(x, EDGES, BATCH))


def test_every_parameter_learns(network, x: Tensor) -> None:
    network.train()
    for module in network.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    (network(x, EDGES, BATCH) * torch.randn(3, OUT)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # PyG divides scores by the length of select.weight, here one number: its sign is left.
        assert "bias" in name or "select" in name or parameter.grad.abs().max() > 0, name


def test_attention_reaches_what_no_edge_does(x: Tensor) -> None:
    empty, one = torch.empty(2, 0, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    network = NETWORKS["transformer"](IN, OUT).eval()
    nodes = x[:3].clone().requires_grad_()
    layer = network.layers[0]
    layer(network.input(nodes), empty, one)[0].sum().backward()
    assert (nodes.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(GraphTransformer, hidden_channels=6), "hidden_channels=6: give a multiple of"),
        (partial(GraphTransformer, num_layers=0), "num_layers=0"),
        (partial(SAGPoolNetwork, ratio=1.0), "ratio=1.0: give a number between 0 and 1"),
        (partial(SAGPoolNetwork, hidden_channels=0), "hidden_channels=0"),
    ],
)
def test_impossible_options_are_named(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(IN, OUT)


def test_inputs_that_do_not_fit_are_named(network, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"x \[9, 3\] does not fit \w+\(in_channels=4\)"):
        network(x[:, 1:], EDGES, BATCH)
    with pytest.raises(ValueError, match=r"batch \[8\]: give the graph of each node"):
        network(x, EDGES, BATCH[1:])
