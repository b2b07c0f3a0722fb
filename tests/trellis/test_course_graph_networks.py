"""Graph networks by the courses' formulas, node by node."""

import pytest
import torch

from trellis.networks.graph.gnn import GCN, GIN, GatedGraphNet, GraphSAGE

# Undirected, both directions stored; node 4 hangs on one edge.
EDGES = torch.tensor([[0, 1, 1, 2, 2, 0, 2, 3, 3, 4], [1, 0, 2, 1, 0, 2, 3, 2, 4, 3]])
N = 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def neighbours(i: int) -> list[int]:
    return EDGES[0][EDGES[1] == i].tolist()


def test_gcn_node_by_node() -> None:
    """Columbia COMS4995: W h_i / d_i + sum_j W h_j / sqrt(d_i d_j), d counting the node itself."""
    network, x = GCN(3, 2, num_layers=1).eval(), torch.randn(N, 3)
    weight = network.convolutions[0].lin.weight
    degree = [len(neighbours(i)) + 1 for i in range(N)]
    for i in range(N):
        expected = weight @ x[i] / degree[i]
        for j in neighbours(i):
            expected = expected + weight @ x[j] / (degree[i] * degree[j]) ** 0.5
        torch.testing.assert_close(network(x, EDGES)[i], expected)


def test_neighbourhood_aggregation_node_by_node() -> None:
    """Columbia COMS4995: s(B h_i + W sum_j h_j / |N(i)|), twice."""
    network, x = GraphSAGE(3, 2, hidden_channels=4).eval(), torch.randn(N, 3)
    h = x
    for depth, layer in enumerate(network.convolutions):
        w, b = layer.convolution.lin_l, layer.convolution.lin_r.weight
        rows = [
            b @ h[i] + w.weight @ sum(h[j] for j in neighbours(i)) / len(neighbours(i)) + w.bias
            for i in range(N)
        ]
        h = torch.stack(rows) if depth == 1 else torch.stack(rows).relu()
    torch.testing.assert_close(network(x, EDGES), h)


def test_k_layers_see_k_steps_far() -> None:
    """Columbia COMS4995: powers of the adjacency matrix count walks; node 4 is 3 steps from 0."""
    adjacency = torch.zeros(N, N)
    adjacency[EDGES[1], EDGES[0]] = 1
    reach = torch.eye(N) + adjacency
    for layers in (1, 2, 3):
        network = GraphSAGE(3, 2, num_layers=layers, hidden_channels=64).eval()
        x = torch.randn(N, 3, requires_grad=True)
        network(x, EDGES)[0].sum().backward()
        seen = x.grad.abs().sum(1) > 0
        assert seen.equal(torch.linalg.matrix_power(reach, layers)[0] > 0)
    assert bool(seen[4])


@pytest.mark.parametrize("update", [30.0, -30.0])
def test_the_gate_keeps_the_state_or_takes_the_message(update: float) -> None:
    """Columbia COMS4995, the limits of a GRU: z = 1 keeps h, z = 0 and r = 1 is a plain RNN."""
    network = GatedGraphNet(3, 2, hidden_channels=4, num_layers=1).eval()
    rnn = network.convolution.rnn
    with torch.no_grad():
        rnn.bias_ih[:4] = 30.0  # reset gate r = 1
        rnn.bias_ih[4:8] = update  # z = 1 or 0
    x = torch.randn(N, 3)
    h = network.input(x)
    message = torch.stack([sum(h[j] for j in neighbours(i)) for i in range(N)])
    message = message @ network.convolution.weight[0]
    plain = torch.tanh(
        message @ rnn.weight_ih[8:].t()
        + rnn.bias_ih[8:]
        + h @ rnn.weight_hh[8:].t()
        + rnn.bias_hh[8:]
    )
    state, _ = network.embeddings(x, EDGES)
    torch.testing.assert_close(state, h if update > 0 else plain)


def test_sums_grow_with_the_degree_and_averages_do_not() -> None:
    """Equal features: a mean over neighbours is blind to how many there are, a sum is not."""
    x = torch.ones(N, 3)
    mean, total = (f(3, 2, num_layers=1).eval()(x, EDGES) for f in (GraphSAGE, GIN))
    torch.testing.assert_close(mean, mean[:1].expand(N, -1))
    assert not torch.allclose(total[2], total[4])
    torch.testing.assert_close(total[0], total[1])  # the same degree, the same sum
