"""GINE against PyG's layers with the same weights, a loop over edges, and a GIN that is blind."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv, global_add_pool

from trellis.networks.graph import GAE, GIN, GINE, GraphNetwork
from trellis.nn.sparse import to_csr

IN, OUT, EDGE = 4, 3, 2
# A triangle with a tail and a loop, a path of three, two nodes without edges.
EDGES = torch.tensor(
    [[0, 1, 1, 2, 2, 0, 2, 3, 3, 4, 5, 5, 6], [1, 0, 2, 1, 0, 2, 3, 2, 3, 5, 4, 6, 5]]
)
BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
READERS = {
    "linear heads": {"jump": "all", "head": "linear"},
    "last layer": {"readout": "mean"},
    "virtual node": {"readout": "virtual_node"},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(len(BATCH), IN)


@pytest.fixture
def edge_attr() -> Tensor:
    return torch.randn(EDGES.size(1), EDGE)


@pytest.fixture(params=READERS)
def network(request: pytest.FixtureRequest) -> GraphNetwork:
    encoder = partial(GINE, hidden_channels=16, num_layers=2)
    options = {"encoder": encoder, "hidden_channels": 16, **READERS[request.param]}
    return settled(GraphNetwork(IN, OUT, edge_channels=EDGE, **options))


def settled(network: nn.Module) -> nn.Module:
    """With batch norms that are not the identity, and as it is evaluated."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return network.eval()


def two_maps(in_channels: int, out_channels: int, *end: nn.Module) -> nn.Sequential:
    first = (nn.Linear(in_channels, 6), nn.BatchNorm1d(6), nn.ReLU())
    return nn.Sequential(*first, nn.Linear(6, out_channels), *end)


@pytest.mark.parametrize("norm_output", [False, True])
def test_is_a_stack_of_pygs_layers(x: Tensor, edge_attr: Tensor, norm_output: bool) -> None:
    options = {"hidden_channels": 6, "num_layers": 2, "norm_output": norm_output, "eps": 0.3}
    network = settled(GINE(IN, OUT, edge_channels=EDGE, **options))
    end = (nn.BatchNorm1d(OUT), nn.ReLU()) if norm_output else ()
    peers = [
        GINEConv(two_maps(6, 6, nn.BatchNorm1d(6)), edge_dim=EDGE),
        GINEConv(two_maps(6, OUT, *end), edge_dim=EDGE),
    ]
    for peer, own in zip(peers, network.convolutions, strict=True):
        peer.load_state_dict(own.state_dict())
        peer.eval()
    hidden = peers[0](network.input(x), EDGES, edge_attr).relu()
    expected = peers[1](hidden, EDGES, edge_attr)
    first, last = network.embeddings(x, EDGES, edge_attr)
    torch.testing.assert_close(first, hidden)
    torch.testing.assert_close(last, expected)
    torch.testing.assert_close(network(x, EDGES, edge_attr), expected)
    assert network.channels == (6, OUT)


def test_a_layer_is_the_sum_over_edges_written_out(x: Tensor, edge_attr: Tensor) -> None:
    options = {"hidden_channels": 6, "num_layers": 1, "eps": 0.3}
    network = settled(GINE(IN, OUT, edge_channels=EDGE, **options))
    layer, h = network.convolutions[0], network.input(x)
    sums = 1.3 * h
    for number, (source, target) in enumerate(EDGES.t().tolist()):
        bond = layer.lin.weight @ edge_attr[number] + layer.lin.bias
        sums[target] = sums[target] + (h[source] + bond).clamp(min=0)
    torch.testing.assert_close(network(x, EDGES, edge_attr), layer.nn(sums))


def test_linear_heads_read_x_and_every_layer(x: Tensor, edge_attr: Tensor) -> None:
    encoder = partial(GINE, hidden_channels=6, num_layers=2)
    options = {"encoder": encoder, "hidden_channels": 8, **READERS["linear heads"]}
    network = settled(GraphNetwork(IN, OUT, edge_channels=EDGE, **options))
    layers = [x, *network.encoder.embeddings(x, EDGES, edge_attr)]
    pairs = zip(network.classifier.heads, layers, strict=True)
    expected = sum(head(global_add_pool(h, BATCH)) for head, h in pairs)
    torch.testing.assert_close(network(x, EDGES, BATCH, edge_attr=edge_attr), expected)


def test_the_order_of_nodes_and_of_edges_does_not_matter(
    network: GraphNetwork, x: Tensor, edge_attr: Tensor
) -> None:
    expected = network(x, EDGES, BATCH, edge_attr=edge_attr)
    nodes, edges = torch.randperm(len(x)), torch.randperm(EDGES.size(1))
    moved = nodes.argsort()[EDGES][:, edges]
    found = network(x[nodes], moved, BATCH[nodes], edge_attr=edge_attr[edges])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Features that are left where they were are those of other edges.
    wrong = network(x[nodes], moved, BATCH[nodes], edge_attr=edge_attr)
    assert (wrong - expected)[:2].abs().max() > 1e-3


def test_a_batch_is_its_graphs_one_by_one(
    network: GraphNetwork, x: Tensor, edge_attr: Tensor
) -> None:
    together = network(x, EDGES, BATCH, num_graphs=4, edge_attr=edge_attr)
    for graph in range(3):
        nodes, edges = (graph == BATCH).nonzero().flatten(), BATCH[EDGES[0]] == graph
        zeros = torch.zeros(len(nodes), dtype=torch.long)
        own = EDGES[:, edges] - nodes[0]
        alone = network(x[nodes], own, zeros, edge_attr=edge_attr[edges])
        torch.testing.assert_close(together[graph], alone[0], rtol=1e-4, atol=1e-5)


def test_tells_graphs_apart_that_differ_in_their_edges_alone() -> None:
    """Two rings of six equal atoms: all bonds alike, or two kinds in turn."""
    nodes = torch.arange(12)
    after = nodes // 6 * 6 + (nodes + 1) % 6
    edges = torch.stack((torch.cat((nodes, after)), torch.cat((after, nodes))))
    kinds = torch.where(nodes < 6, 0, nodes % 2).repeat(2)
    attributes, batch = nn.functional.one_hot(kinds, 2).float(), nodes // 6
    network = settled(GraphNetwork(1, OUT, edge_channels=2, encoder=GINE))
    one, other = network(torch.ones(12, 1), edges, batch, edge_attr=attributes)
    assert (one - other).abs().max() > 1e-3
    blind = settled(GraphNetwork(1, OUT, edge_channels=2, encoder=GIN))
    one, other = blind(torch.ones(12, 1), edges, batch, edge_attr=attributes)
    torch.testing.assert_close(one, other)


def test_every_parameter_learns_and_a_sparse_x_is_the_dense_one(
    network: GraphNetwork, x: Tensor, edge_attr: Tensor
) -> None:
    out = network(x, EDGES, BATCH, edge_attr=edge_attr)
    torch.testing.assert_close(network(to_csr(x), EDGES, BATCH, edge_attr=edge_attr), out)
    (out * torch.randn_like(out)).sum().backward()
    # Of the last layer only virtual nodes are read, whose own edges have no features.
    unread = {"encoder.convolutions.1.lin.weight"} if network.readout.state_dict() else set()
    still = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == unread


def test_graphs_without_edges_are_graphs(network: GraphNetwork, x: Tensor) -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    found = network(x, none, BATCH, edge_attr=torch.empty(0, EDGE))
    assert found.shape == (3, OUT)
    assert bool(found.isfinite().all())


def test_what_is_missing_or_does_not_fit_is_named(
    network: GraphNetwork, x: Tensor, edge_attr: Tensor
) -> None:
    wanted = r"edge_channels=0: give at least 1, by data whose edges have features; GIN does"
    for build in (GINE, partial(GraphNetwork, encoder=GINE), partial(GINE, edge_channels=0)):
        with pytest.raises(ValueError, match=wanted):
            build(IN, OUT)
    with pytest.raises(ValueError, match=wanted):
        GAE(IN, encoder=GINE)
    with pytest.raises(ValueError, match=r"edge_attr is missing: GINE reads .*, \[13, 2\]"):
        network(x, EDGES, BATCH)
    for wrong in (edge_attr[1:], edge_attr[:, :1]):
        with pytest.raises(ValueError, match=r"edge_attr .*: give one for each edge, \[13, 2\]"):
            network(x, EDGES, BATCH, edge_attr=wrong)
        with pytest.raises(ValueError, match=r"edge_attr .*: give one for each edge, \[13, 2\]"):
            network.encoder(x, EDGES, wrong)


def test_edges_of_virtual_nodes_have_no_features(x: Tensor, edge_attr: Tensor) -> None:
    options = {"encoder": partial(GINE, num_layers=2), "readout": "virtual_node"}
    network = settled(GraphNetwork(IN, OUT, edge_channels=EDGE, **options))
    nodes, edges = network.readout.extend(x, EDGES, BATCH, 3)
    none = torch.zeros(edges.size(1) - EDGES.size(1), EDGE)
    h = network.encoder(nodes, edges, torch.cat((edge_attr, none)))
    expected = network.classifier(h[len(x) :])
    torch.testing.assert_close(network(x, EDGES, BATCH, edge_attr=edge_attr), expected)
