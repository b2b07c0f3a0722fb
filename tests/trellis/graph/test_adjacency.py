"""Normalised adjacency against PyG's and against matrices."""

import pytest
import torch
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from trellis.graph.adjacency import normalized_adjacency

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
