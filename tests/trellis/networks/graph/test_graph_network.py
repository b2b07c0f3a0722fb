"""Networks of whole graphs: invariances, the readout of every layer, the virtual node."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.graph.gnn import GAT, GCN, GIN, GatedGraphNet, GraphSAGE, NodeMLP
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.nn.sparse import to_csr

IN, OUT = 4, 3
ENCODERS = {
    encoder.__name__: encoder for encoder in (GCN, GAT, GraphSAGE, GIN, GatedGraphNet, NodeMLP)
}
READOUTS = ["sum", "mean", "max", "virtual_node"]
GRAPHS = [  # edges and number of nodes: a triangle with a tail, a pair, a lonely node
    (torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3], [1, 0, 2, 1, 0, 2, 3, 2]]), 4),
    (torch.tensor([[0, 1], [1, 0]]), 2),
    (torch.empty(2, 0, dtype=torch.long), 1),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def joined(features: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The graphs as one batch."""
    edges, batch, start = [], [], 0
    for number, (edge_index, nodes) in enumerate(GRAPHS):
        edges.append(edge_index + start)
        batch += [number] * nodes
        start += nodes
    return torch.cat(features), torch.cat(edges, 1), torch.tensor(batch)


@pytest.fixture
def features() -> list[Tensor]:
    return [torch.randn(nodes, IN) for _, nodes in GRAPHS]


@pytest.mark.parametrize("jump", ["last", "all"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_batch_is_its_graphs_one_by_one(
    encoder: str, readout: str, jump: str, features: list[Tensor]
) -> None:
    network = GraphNetwork(
        IN, OUT, encoder=ENCODERS[encoder], hidden_channels=8, readout=readout, jump=jump
    ).eval()
    alone = [
        network(x, edge_index, torch.zeros(nodes, dtype=torch.long))
        for x, (edge_index, nodes) in zip(features, GRAPHS, strict=True)
    ]
    together = network(*joined(features))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert together.shape == (len(GRAPHS), OUT)
    # And graphs do differ, but for a virtual node whose edges the encoder ignores.
    deaf = encoder == "NodeMLP" and readout == "virtual_node"
    assert deaf or (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("jump", ["last", "all"])
@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_order_of_nodes_does_not_matter(
    encoder: str, readout: str, jump: str, features: list[Tensor]
) -> None:
    network = GraphNetwork(
        IN, OUT, encoder=ENCODERS[encoder], hidden_channels=8, readout=readout, jump=jump
    ).eval()
    x, edge_index, batch = joined(features)
    order = torch.randperm(len(x))  # graphs mixed, too
    shuffled = network(x[order], order.argsort()[edge_index], batch[order])
    torch.testing.assert_close(shuffled, network(x, edge_index, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("readout", "pool"),
    [("sum", lambda h: h.sum(0)), ("mean", lambda h: h.mean(0)), ("max", lambda h: h.amax(0))],
)
def test_the_classifier_reads_the_pooled_encoder(
    readout: str, pool: Callable[[Tensor], Tensor], features: list[Tensor]
) -> None:
    network = GraphNetwork(IN, OUT, hidden_channels=8, readout=readout).eval()
    x, edge_index, batch = joined(features)
    h = network.encoder(x, edge_index)
    pooled = torch.stack([pool(h[batch == graph]) for graph in range(3)])
    torch.testing.assert_close(network(x, edge_index, batch), network.classifier(pooled))


def test_jump_all_reads_x_and_every_layer(features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT, hidden_channels=8, jump="all").eval()
    x, edge_index, batch = joined(features)
    layers = [x, *network.encoder.embeddings(x, edge_index)]
    sums = [torch.stack([h[batch == g].sum(0) for g in range(3)]) for h in layers]
    assert len(layers) == 5  # the paper's count: the input and four convolutions
    expected = network.classifier(torch.cat(sums, 1))
    torch.testing.assert_close(network(x, edge_index, batch), expected)


def test_linear_heads_add_the_scores_of_every_layer(features: list[Tensor]) -> None:
    """Xu et al. 2019: a linear classifier of each layer's readout, the input's among them."""
    encoder = partial(GIN, norm_output=True, num_layers=2)
    network = GraphNetwork(IN, OUT, encoder=encoder, jump="all", head="linear").eval()
    x, edge_index, batch = joined(features)
    layers = [x, *network.encoder.embeddings(x, edge_index)]
    heads = network.classifier.heads
    assert [head.in_features for head in heads] == [IN, 64, 64]
    expected = torch.stack(
        [
            sum(
                h[batch == g].sum(0) @ head.weight.t() + head.bias
                for h, head in zip(layers, heads, strict=True)
            )
            for g in range(3)
        ]
    )
    torch.testing.assert_close(network(x, edge_index, batch), expected)


def test_linear_heads_have_no_unit_that_can_die(features: list[Tensor]) -> None:
    """Sums over huge graphs and steps that are too long end an MLP for good, not these."""
    x, edge_index, batch = joined(features)
    y = torch.tensor([0, 1, 2])
    alive = {}
    for head in ("mlp", "linear"):
        torch.manual_seed(0)
        network = GraphNetwork(IN, OUT, jump="all", head=head, dropout=0.0)
        optimizer = torch.optim.SGD(network.classifier.parameters(), lr=1.0)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(300 * x, edge_index, batch), y).backward()
            optimizer.step()
        out = network.eval()(300 * x, edge_index, batch)
        alive[head] = bool((out[0] - out[1]).abs().max() > 1e-3)
    assert alive == {"mlp": False, "linear": True}


def test_the_virtual_node_is_a_node_that_hears_and_tells_all(features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT, encoder=GCN, hidden_channels=8, readout="virtual_node").eval()
    (edge_index, nodes), x = GRAPHS[0], features[0]
    hub = torch.tensor([[0, 1, 2, 3, 4, 4, 4, 4], [4, 4, 4, 4, 0, 1, 2, 3]])
    with_hub = torch.cat((x, network.readout.features[None]))
    h = network.encoder(with_hub, torch.cat((edge_index, hub), 1))
    expected = network.classifier(h[4:])
    torch.testing.assert_close(
        network(x, edge_index, torch.zeros(nodes, dtype=torch.long)), expected
    )


def test_a_virtual_node_brings_distant_nodes_together() -> None:
    """Two layers let every node hear every other, edges or none."""
    x = torch.randn(6, IN, requires_grad=True)
    empty, batch = torch.empty(2, 0, dtype=torch.long), torch.zeros(6, dtype=torch.long)
    network = GraphNetwork(IN, OUT, encoder=GCN, readout="virtual_node").eval()
    network(x, empty, batch).square().sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


def test_only_sums_count() -> None:
    """Xu et al. 2019, figure 3: mean and maximum cannot tell one node from two alike."""
    one, two = torch.ones(1, IN), torch.ones(2, IN)
    empty = torch.empty(2, 0, dtype=torch.long)
    different = {}
    for readout in ("sum", "mean", "max"):
        network = GraphNetwork(IN, OUT, readout=readout).eval()
        a, b = (network(x, empty, torch.zeros(len(x), dtype=torch.long)) for x in (one, two))
        different[readout] = not torch.allclose(a, b, atol=1e-6)
    assert different == {"sum": True, "mean": False, "max": False}


def test_sums_of_messages_tell_a_pair_of_neighbours_from_one() -> None:
    """GCN with equal features sees the same averages in a triangle and a pair, GIN does not."""
    triangle = torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]])
    pair = torch.tensor([[0, 1], [1, 0]])
    for encoder, tells in ((GIN, True), (GCN, False)):
        network = GraphNetwork(IN, OUT, encoder=encoder, readout="mean").eval()
        a, b = (
            network(torch.ones(n, IN), edges, torch.zeros(n, dtype=torch.long))
            for n, edges in ((3, triangle), (2, pair))
        )
        assert torch.allclose(a, b, atol=1e-6) is not tells


@pytest.mark.parametrize("readout", READOUTS)
def test_a_graph_without_nodes_counts_if_num_graphs_says_so(
    readout: str, features: list[Tensor]
) -> None:
    network = GraphNetwork(IN, OUT, readout=readout).eval()
    out = network(*joined(features), num_graphs=4)
    assert out.shape == (4, OUT)
    torch.testing.assert_close(out[:3], network(*joined(features)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("readout", READOUTS)
def test_a_sparse_x_gives_what_the_dense_one_gives(readout: str, features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT, readout=readout).eval()
    x, edge_index, batch = joined(features)
    torch.testing.assert_close(
        network(to_csr(x), edge_index, batch), network(x, edge_index, batch)
    )


@pytest.mark.parametrize("jump", ["last", "all"])
@pytest.mark.parametrize("readout", READOUTS)
def test_every_parameter_learns(readout: str, jump: str, features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT, readout=readout, jump=jump, dropout=0.0)
    (network(*joined(features)) * torch.randn(3, OUT)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("bias") or parameter.grad.abs().max() > 0, name


class Plain(nn.Linear):
    """A network of nodes with nothing but a forward."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x)


def test_any_module_can_encode_if_its_last_layer_is_enough(features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT, encoder=Plain)
    assert network(*joined(features)).shape == (3, OUT)
    with pytest.raises(ValueError, match="jump='all' reads every layer, but Plain has no"):
        GraphNetwork(IN, OUT, encoder=Plain, jump="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "median"}, "readout='median': choose from sum, mean, max, virtual_node"),
        ({"jump": "first"}, "jump='first': choose from last, all"),
        ({"head": "deep"}, "head='deep': choose from mlp, linear"),
        ({"hidden_channels": 0}, "hidden_channels=0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphNetwork(IN, OUT, **options)


def test_inputs_that_do_not_fit_are_named(features: list[Tensor]) -> None:
    network = GraphNetwork(IN, OUT)
    x, edge_index, batch = joined(features)
    with pytest.raises(ValueError, match=r"x \[7, 3\] does not fit GraphNetwork\(in_channels=4\)"):
        network(x[:, 1:], edge_index, batch)
    with pytest.raises(ValueError, match=r"edge_index \[10\]: give \[2, E\]"):
        network(x, edge_index[0], batch)
    with pytest.raises(ValueError, match=r"batch \[6\]: give the graph of each node"):
        network(x, edge_index, batch[1:])
