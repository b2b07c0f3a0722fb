"""A GCN of a weighted graph is that of the dense matrix of its weights."""

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GCNConv

from trellis.networks.graph import GCN

# Node 3 has no edge, node 4 a loop alone, node 2 a loop and neighbours, node 5 a loop of weight 0.
EDGES = torch.tensor([[0, 1, 1, 2, 2, 4, 5], [1, 0, 2, 1, 2, 4, 5]])
WEIGHTS = torch.tensor([0.5, 0.5, 2.0, 2.0, 3.0, 0.7, 0.0])


def dense(weights: Tensor) -> Tensor:
    """The normalised matrix, written out."""
    matrix = torch.zeros(6, 6)
    matrix[EDGES[1], EDGES[0]] = weights
    has_loop = torch.zeros(6, dtype=torch.bool)
    has_loop[[2, 4, 5]] = True
    matrix += torch.diag((~has_loop).float())
    degree = matrix.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-9).rsqrt(), 0)
    return scale[:, None] * matrix * scale


def test_equals_dense_matrices() -> None:
    torch.manual_seed(0)
    network, x = GCN(3, 2, hidden_channels=4).eval(), torch.randn(6, 3)
    first, last = network.convolutions
    hidden = (dense(WEIGHTS) @ x @ first.lin.weight.t() + first.bias).relu()
    expected = dense(WEIGHTS) @ hidden @ last.lin.weight.t() + last.bias
    found = network(x, EDGES, edge_weight=WEIGHTS)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, network(x, EDGES), atol=1e-3)


def test_equals_pyg_and_weights_of_one_are_none() -> None:
    torch.manual_seed(0)
    network, x = GCN(3, 2, num_layers=1).eval(), torch.randn(6, 3)
    theirs = GCNConv(3, 2)
    theirs.load_state_dict(network.convolutions[0].state_dict())
    torch.testing.assert_close(network(x, EDGES, edge_weight=WEIGHTS), theirs(x, EDGES, WEIGHTS))
    ones = torch.ones(EDGES.size(1))
    torch.testing.assert_close(network(x, EDGES, edge_weight=ones), network(x, EDGES))


def test_a_weight_for_each_edge_is_wanted() -> None:
    with pytest.raises(ValueError, match=r"edge_weight \[3\]: give one for each edge, \[7\]"):
        GCN(3, 2)(torch.ones(6, 3), EDGES, edge_weight=WEIGHTS[:3])
