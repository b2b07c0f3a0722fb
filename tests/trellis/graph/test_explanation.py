"""A network by hand, whose prediction rests on one edge and one feature."""

import pytest
import torch
from torch import nn
from torch_geometric.nn import SimpleConv

from trellis.analysis.explanations import explanation_picture
from trellis.graph.explanation import explain_node, neighbourhood


class FirstFeature(nn.Module):
    """Class 1 where the first features of the neighbours sum up to more than 1."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = SimpleConv(aggr="sum")

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        total = self.sum(x, edge_index)[:, 0]
        return torch.stack([torch.ones_like(total), total], 1) * 4


# Node 0 reads 1 (which has the feature), 2 and 3; the edge 4 -> 1 is another node's.
EDGES = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 1]])
X = torch.tensor([[0.0, 1, 1], [2, 1, 0], [0, 1, 1], [0, 0, 1], [2, 1, 1]])


def test_the_edge_and_the_feature_that_decide_are_found() -> None:
    found = explain_node(FirstFeature(), X, EDGES, node=0, kept=1)
    assert found.edges.argmax() == 0
    assert found.edges[3] == 0
    assert found.features.argmax() == 0
    torch.testing.assert_close(found.probabilities_kept, found.probabilities)
    again = explain_node(FirstFeature(), X.to_sparse_csr(), EDGES, node=0, kept=1)
    assert torch.equal(found.edges, again.edges)


def test_without_messages_of_pyg_edges_are_removed_one_by_one() -> None:
    class Plain(nn.Module):
        """The same with plain torch."""

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(len(x)).index_add(0, edge_index[1], x[edge_index[0], 0])
            return torch.stack([torch.ones_like(total), total], 1) * 4

    found = explain_node(Plain(), X, EDGES, node=0, kept=1)
    assert found.edges.tolist() == [1, 0, 0, 0]
    assert found.features.argmax() == 0
    torch.testing.assert_close(found.probabilities_kept, found.probabilities)


class Weighted(nn.Module):
    """The same for sums that are weighted, by PyG or by plain torch."""

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.sum, self.plain = SimpleConv(aggr="sum"), plain

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, *, edge_weight: torch.Tensor
    ) -> torch.Tensor:
        source, target = edge_index
        messages = edge_weight[:, None] * x[source]
        total = torch.zeros_like(x).index_add(0, target, messages)
        if not self.plain:
            total = self.sum(x, edge_index, edge_weight)
        return torch.stack([torch.ones_like(total[:, 0]), total[:, 0]], 1) * 4


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_known_of_edges_is_given_to_the_network(plain: bool) -> None:
    x = X.clone()
    x[1:4, 0] = 1  # now the weight of 3 -> 0 decides
    weights = torch.tensor([0.0, 0.0, 1.5, 1.0])
    network = Weighted(plain)
    found = explain_node(network, x, EDGES, node=0, kept=1, edges={"edge_weight": weights})
    assert found.edges.argmax() == 2
    expected = network(x, EDGES, edge_weight=weights)[0].softmax(-1)
    torch.testing.assert_close(found.probabilities, expected)
    only = network(x, EDGES[:, 2:3], edge_weight=weights[2:3])[0].softmax(-1)
    torch.testing.assert_close(found.probabilities_kept, only)


def test_the_state_of_the_caller_stays() -> None:
    network, before = FirstFeature().train(), torch.get_rng_state()
    explain_node(network, X, EDGES, node=0, epochs=2)
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="node=5: give 0 to 4"):
        explain_node(network, X, EDGES, node=5)


def test_a_neighbourhood_is_what_reaches_a_node() -> None:
    assert neighbourhood(EDGES, 0, 1, 5).nodes.tolist() == [0, 1, 2, 3]
    nodes, edge_index, edges = neighbourhood(EDGES, 1, 2, 5)
    assert (nodes.tolist(), edges.tolist()) == ([1, 4], [3])
    assert edge_index.tolist() == [[1], [0]]
    assert neighbourhood(EDGES, 4, 2, 5).edges.tolist() == []


def test_the_picture_shows_what_matters() -> None:
    figure = explanation_picture(
        EDGES, torch.tensor([1.0, 0, 0, 0]), list("abcde"), torch.arange(5)
    )
    [axes] = figure.axes
    assert axes.collections[0].get_linewidths()[0] > axes.collections[0].get_linewidths()[1]
    assert [text.get_text() for text in axes.texts] == list("abcde")
    with pytest.raises(ValueError, match="3 importances for 4 edges"):
        explanation_picture(EDGES, torch.ones(3), list("abcde"), torch.arange(5))
