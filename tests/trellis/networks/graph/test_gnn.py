"""Node networks against second definitions: matrices, naive loops, PyG's own layers."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from trellis.networks.graph.deep_gnn import GCNII, ClassicGNN, ResidualGNN
from trellis.networks.graph.gnn import (
    GAT,
    GCN,
    GIN,
    GatedGraphNet,
    GraphSAGE,
    Layered,
    NodeMLP,
)
from trellis.networks.graph.propagation import APPNP, SGC
from trellis.networks.graph.spectral import ChebNet
from trellis.nn.sparse import to_csr

IN, OUT, N = 5, 3, 7
# Directed, with an isolated node (5), one that only sends (6) and one that only receives (4).
EDGES = torch.tensor([[0, 1, 2, 3, 0, 6, 6, 2, 1], [1, 0, 3, 2, 2, 4, 0, 4, 3]])
NETWORKS = {
    "gcn": GCN,
    "gat": GAT,
    "gatv2": lambda **sizes: GAT(**sizes, v2=True),
    "sage": GraphSAGE,
    "sage_normalized": lambda **sizes: GraphSAGE(**sizes, normalize=True),
    "gin": GIN,
    "gin_eps": lambda **sizes: GIN(**sizes, train_eps=True),
    "gated": GatedGraphNet,
    "node_mlp": NodeMLP,
    "sgc": SGC,
    "appnp": APPNP,
    "cheb": ChebNet,
    "gcnii": partial(GCNII, num_layers=4),
    "classic": partial(ClassicGNN, hidden_channels=8),
    "classic_sage": partial(
        ClassicGNN, hidden_channels=8, convolution="sage", norm="batch", residual=True, jump=True
    ),
    "residual_gcn": partial(ResidualGNN, mixing="gcn", num_layers=2),
    "residual_sage": partial(ResidualGNN, mixing="sage", num_layers=2),
    "residual_none": partial(ResidualGNN, mixing="none", num_layers=2),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, IN)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param](in_channels=IN, out_channels=OUT).eval()


def adjacency(edges: Tensor = EDGES) -> Tensor:
    """``A[i, j]`` = 1 if j sends to i."""
    dense = torch.zeros(N, N)
    for source, target in edges.t().tolist():
        dense[target, source] += 1
    return dense


def randomize(network: nn.Module) -> nn.Module:
    """Non-zero biases and batch norms that do something, so that forgetting one shows."""
    with torch.no_grad():
        for module in network.modules():
            for name, value in [*module.named_parameters(recurse=False)]:
                if "bias" in name:
                    value.normal_()
            if isinstance(module, nn.BatchNorm1d):
                module.weight.uniform_(0.5, 2)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network


# --- equality with references --------------------------------------------------------------------


def test_gcn_is_the_normalised_adjacency_matrix_times_x_times_w(x: Tensor) -> None:
    network = randomize(GCN(IN, OUT, hidden_channels=4)).eval()
    a_hat = adjacency() + torch.eye(N)
    d = a_hat.sum(1).pow(-0.5).diag()
    first, second = network.convolutions
    hidden = (d @ a_hat @ d @ x @ first.lin.weight.t() + first.bias).relu()
    expected = d @ a_hat @ d @ hidden @ second.lin.weight.t() + second.bias
    torch.testing.assert_close(network(x, EDGES), expected)


def attention(convolution: nn.Module, x: Tensor, v2: bool) -> Tensor:
    """One attention layer node by node, ``[N, heads, out]``."""
    heads, out = convolution.heads, convolution.out_channels
    result = torch.zeros(N, heads, out)
    for i in range(N):
        senders = [i, *EDGES[0][EDGES[1] == i].tolist()]  # the node attends to itself too
        for h in range(heads):
            rows = slice(h * out, (h + 1) * out)
            scores, values = [], []
            for j in senders:
                if v2:
                    left = convolution.lin_l.weight[rows] @ x[j] + convolution.lin_l.bias[rows]
                    right = convolution.lin_r.weight[rows] @ x[i] + convolution.lin_r.bias[rows]
                    score = convolution.att[0, h] @ F.leaky_relu(left + right, 0.2)
                else:
                    weight = convolution.lin.weight[rows]
                    left = weight @ x[j]
                    score = F.leaky_relu(
                        convolution.att_src[0, h] @ left
                        + convolution.att_dst[0, h] @ (weight @ x[i]),
                        0.2,
                    )
                scores.append(score)
                values.append(left)
            alpha = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            result[i, h] = sum(a * value for a, value in zip(alpha, values, strict=True))
    return result


@pytest.mark.parametrize("v2", [False, True])
def test_gat_attends_as_a_loop_over_nodes_and_neighbours(x: Tensor, v2: bool) -> None:
    network = GAT(IN, OUT, hidden_channels=2, num_heads=3, num_out_heads=2, v2=v2)
    randomize(network).eval()
    first, second = network.convolutions
    assert (first.heads, second.heads) == (3, 2)
    hidden = F.elu(attention(first, x, v2).reshape(N, -1) + first.bias)
    expected = attention(second, hidden, v2).mean(1) + second.bias
    torch.testing.assert_close(network(x, EDGES), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_graphsage_is_pygs_layer_with_the_same_weights(x: Tensor, normalize: bool) -> None:
    network = randomize(GraphSAGE(IN, OUT, num_layers=1, normalize=normalize)).eval()
    peer = SAGEConv(IN, OUT, normalize=normalize)
    state = network.convolutions[0].convolution.state_dict()
    peer.load_state_dict({name: state[name] for name in peer.state_dict()})
    torch.testing.assert_close(network(x, EDGES), peer(x, EDGES))


def test_graphsage_averages_neighbours_and_keeps_the_node(x: Tensor) -> None:
    """h' = B h + W sum_j h_j / |N|: Columbia COMS4995, "Graph neural networks"."""
    network = randomize(GraphSAGE(IN, OUT, num_layers=1)).eval()
    layer = network.convolutions[0].convolution
    for i in range(N):
        senders = EDGES[0][EDGES[1] == i].tolist()
        mean = x[senders].mean(0) if senders else torch.zeros(IN)
        expected = layer.lin_l.weight @ mean + layer.lin_l.bias + layer.lin_r.weight @ x[i]
        torch.testing.assert_close(network(x, EDGES)[i], expected)


@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_gin_sums_by_matrix(x: Tensor, eps: float) -> None:
    network = randomize(GIN(IN, OUT, hidden_channels=4, num_layers=2, eps=eps)).eval()
    first, second = (layer.convolution.nn for layer in network.convolutions)
    sums = adjacency() + (1 + eps) * torch.eye(N)
    hidden = first(sums @ x).relu()
    torch.testing.assert_close(network(x, EDGES), second(sums @ hidden))
    assert [type(m).__name__ for m in first] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"
    ]  # fmt: skip
    assert [m.out_features for mlp in (first, second) for m in (mlp[0], mlp[3])] == [4, 4, 4, OUT]
    assert [type(m).__name__ for m in second] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_gin_may_end_in_a_batch_norm_as_its_hidden_layers_do(x: Tensor) -> None:
    network = randomize(GIN(IN, OUT, hidden_channels=4, num_layers=2, norm_output=True)).eval()
    first, second = (layer.convolution.nn for layer in network.convolutions)
    sums = adjacency() + torch.eye(N)
    *maps, norm, relu = second
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(relu, nn.ReLU)
    scores = nn.Sequential(*maps)(sums @ first(sums @ x).relu())
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = ((scores - norm.running_mean) * scale + norm.bias).relu()
    torch.testing.assert_close(network(x, EDGES), expected)


def test_gated_graph_net_is_a_gru_over_messages(x: Tensor) -> None:
    network = randomize(GatedGraphNet(IN, OUT, hidden_channels=4, num_layers=3)).eval()
    layer = network.convolution
    w_ih, w_hh = layer.rnn.weight_ih.chunk(3), layer.rnn.weight_hh.chunk(3)
    b_ih, b_hh = layer.rnn.bias_ih.chunk(3), layer.rnn.bias_hh.chunk(3)
    h = x @ network.input.weight.t() + network.input.bias
    embeddings = network.embeddings(x, EDGES)
    for step in range(3):
        m = adjacency() @ (h @ layer.weight[0])
        (r_m, z_m, n_m), (r_h, z_h, n_h) = (
            [state @ w.t() + b for w, b in zip(ws, bs, strict=True)]
            for state, ws, bs in ((m, w_ih, b_ih), (h, w_hh, b_hh))
        )
        reset, keep = (r_m + r_h).sigmoid(), (z_m + z_h).sigmoid()
        h = keep * h + (1 - keep) * (n_m + reset * n_h).tanh()
        torch.testing.assert_close(embeddings[step], h)
    expected = h @ network.output.weight.t() + network.output.bias
    torch.testing.assert_close(network(x, EDGES), expected)


def test_gated_graph_net_shares_its_weights_over_depth() -> None:
    sizes = {
        depth: sum(p.numel() for p in GatedGraphNet(IN, OUT, num_layers=depth).parameters())
        for depth in (1, 5)
    }
    assert sizes[1] == sizes[5]


def test_node_mlp_is_a_gcn_without_edges(x: Tensor) -> None:
    control, gcn = randomize(NodeMLP(IN, OUT)).eval(), GCN(IN, OUT).eval()
    for alone, convolution in zip(control.convolutions, gcn.convolutions, strict=True):
        convolution.lin.weight, convolution.bias = alone.weight, alone.bias
    torch.testing.assert_close(control(x, EDGES), gcn(x, EDGES[:, :0]))
    torch.testing.assert_close(control(x, EDGES), control(x, EDGES[:, :0]))


def test_node_mlp_starts_as_a_gcn_does() -> None:
    control, gcn = NodeMLP(400, 100, num_layers=1), GCN(400, 100, num_layers=1)
    bound = (6 / 500) ** 0.5
    for weight in (control.convolutions[0].weight, gcn.convolutions[0].lin.weight):
        assert 0.99 * bound < weight.abs().max() <= bound
    assert control.convolutions[0].bias.abs().max() == gcn.convolutions[0].bias.abs().max() == 0


# --- properties ----------------------------------------------------------------------------------


def test_renumbering_the_nodes_renumbers_the_outputs(network: nn.Module, x: Tensor) -> None:
    randomize(network)
    order = torch.randperm(N)
    edges = order.argsort()[EDGES]  # the new number of each old node
    shuffled = edges[:, torch.randperm(edges.size(1))]
    expected = network(x, EDGES)[order]
    torch.testing.assert_close(network(x[order], shuffled), expected, rtol=1e-4, atol=1e-5)


def test_only_what_a_path_of_edges_reaches_matters(network: nn.Module, x: Tensor) -> None:
    """Node 4 receives and never sends: its features change no output but its own."""
    changed = x.clone()
    changed[4] += 1
    same = (network(x, EDGES) == network(changed, EDGES)).all(1)
    assert same.tolist() == [True, True, True, True, False, True, True]


def test_a_sparse_x_gives_what_the_dense_one_gives(network: nn.Module) -> None:
    randomize(network)
    x = torch.randn(N, IN) * (torch.rand(N, IN) < 0.4)
    gradients = []
    outputs = []
    for layout in (x, to_csr(x)):
        network.zero_grad()
        outputs.append(network(layout, EDGES))
        outputs[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_every_parameter_learns(network: nn.Module, x: Tensor) -> None:
    network.train()
    for module in network.modules():  # dropout may silence a weight of so small a network
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    weights = torch.randn(N, OUT)
    (network(x, EDGES) * weights).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A map before a batch norm has a bias that the norm takes away again.
        assert name.endswith("bias") or parameter.grad.abs().max() > 0, name


def test_dropout_only_in_training(network: nn.Module, x: Tensor) -> None:
    torch.testing.assert_close(network(x, EDGES), network(x, EDGES), rtol=0, atol=0)
    if getattr(network, "dropout", 0.0):
        network.train()
        assert not network(x, EDGES).equal(network(x, EDGES))


def test_embeddings_are_every_layer_of_the_promised_width(network: nn.Module, x: Tensor) -> None:
    assert isinstance(network, Layered)
    embeddings = network.embeddings(x, EDGES)
    assert [e.shape for e in embeddings] == [(N, width) for width in network.channels]
    assert embeddings[-1].equal(network(x, EDGES))
    assert network.channels[-1] == OUT


@pytest.mark.parametrize("kind", ["gcn", "sage", "gin", "node_mlp"])
def test_depth_is_num_layers(kind: str, x: Tensor) -> None:
    for depth in (1, 3):
        network = NETWORKS[kind](in_channels=IN, out_channels=OUT, num_layers=depth).eval()
        assert len(network.embeddings(x, EDGES)) == len(network.convolutions) == depth


def test_hidden_embeddings_are_activated_and_the_output_is_not(x: Tensor) -> None:
    hidden, out = GCN(IN, 50).eval().embeddings(x, EDGES)
    assert hidden.min() == 0
    assert out.min() < 0


def test_a_checkpoint_of_the_first_release_loads() -> None:
    assert list(GCN(IN, OUT).state_dict()) == [
        "convolutions.0.bias",
        "convolutions.0.lin.weight",
        "convolutions.1.bias",
        "convolutions.1.lin.weight",
    ]
    assert list(GraphSAGE(IN, OUT, num_layers=1).state_dict()) == [
        "convolutions.0.convolution.lin_l.weight",
        "convolutions.0.convolution.lin_l.bias",
        "convolutions.0.convolution.lin_r.weight",
    ]


# --- errors --------------------------------------------------------------------------------------


def test_a_wrong_width_is_named(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"x \[7, 6\] does not fit \w+\(in_channels=5\)"):
        network(torch.randn(N, IN + 1), EDGES)


def test_edges_of_a_wrong_shape_are_named(network: nn.Module, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"edge_index \[9, 2\]: give \[2, E\]"):
        network(x, EDGES.t())


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: GCN(0, OUT), "in_channels=0"),
        (lambda: GIN(IN, -1), "out_channels=-1"),
        (lambda: GraphSAGE(IN, OUT, hidden_channels=0), "hidden_channels=0"),
        (lambda: NodeMLP(IN, OUT, num_layers=0), "num_layers=0"),
        (lambda: GatedGraphNet(IN, OUT, num_layers=0), "num_layers=0"),
        (lambda: GAT(IN, OUT, num_heads=0), "num_heads=0"),
        (lambda: GAT(IN, OUT, num_out_heads=0), "num_out_heads=0"),
        (lambda: GCN(IN, OUT, dropout=1.5), "dropout=1.5: give a probability"),
    ],
)
def test_impossible_sizes_are_named(factory: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory()
