"""Readouts against loops over the graphs of a batch."""

from collections.abc import Callable

import pytest
import torch

from trellis.graph.readout import Pooling, VirtualNode, readout_module

BATCH = torch.tensor([2, 0, 0, 2, 3, 2])  # unsorted; graph 1 has no nodes


@pytest.mark.parametrize(
    ("name", "pool"),
    [("sum", lambda h: h.sum(0)), ("mean", lambda h: h.mean(0)), ("max", lambda h: h.amax(0))],
)
def test_pooling_is_a_loop_over_graphs(
    name: str, pool: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    torch.manual_seed(0)
    h = torch.randn(6, 4) - 5  # negative, so that a maximum with zero would show
    out = Pooling(name)(h, BATCH, 4)
    for graph in (0, 2, 3):
        torch.testing.assert_close(out[graph], pool(h[graph == BATCH]))
    assert out[1].tolist() == [0, 0, 0, 0]


def test_pooling_leaves_the_graph_alone() -> None:
    x, edge_index = torch.randn(6, 4), torch.tensor([[0], [3]])
    assert Pooling("sum").extend(x, edge_index, BATCH, 4) == (x, edge_index)


def test_a_virtual_node_is_linked_both_ways_to_its_own_graph_only() -> None:
    node = VirtualNode(4)
    x, edge_index = torch.randn(6, 4), torch.tensor([[0], [3]])
    extended, edges = node.extend(x, edge_index, BATCH, 4)
    assert extended.shape == (10, 4)
    assert extended[:6].equal(x)
    assert all(row.equal(node.features) for row in extended[6:])
    expected = {(0, 3)}
    for i, graph in enumerate(BATCH.tolist()):
        expected |= {(i, 6 + graph), (6 + graph, i)}
    assert set(map(tuple, edges.t().tolist())) == expected
    assert edges.size(1) == len(expected)


def test_a_virtual_node_reads_the_last_rows() -> None:
    h = torch.arange(20.0).view(10, 2)
    assert VirtualNode(2)(h, BATCH, 4).equal(h[6:])


def test_names() -> None:
    assert isinstance(readout_module("virtual_node", 3), VirtualNode)
    assert isinstance(readout_module("mean", 3), Pooling)
    with pytest.raises(ValueError, match="readout='avg': choose from sum, mean, max, virtual_nod"):
        readout_module("avg", 3)
