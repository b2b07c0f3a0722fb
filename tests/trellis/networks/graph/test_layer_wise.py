"""Evaluation in parts is the evaluation of the whole."""

from functools import partial

import pytest
import torch

from trellis.networks.graph import GAT, GCN, GraphNetwork, GraphSAGE, LayerWise


@pytest.mark.parametrize("network", [partial(GraphSAGE, num_layers=3), GAT])
@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_parts_have_the_outputs_of_the_whole(network, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 5, generator=generator)
    edges = torch.randint(29, (2, 90), generator=generator)  # the last node is alone
    torch.manual_seed(0)
    model = LayerWise(5, 3, network=network, batch_size=batch_size).eval()
    whole = model.network(x, edges)
    torch.testing.assert_close(model(x, edges), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(x.to_sparse_csr(), edges), whole, atol=1e-6, rtol=0)


def test_training_is_that_of_the_network() -> None:
    x, edges = torch.randn(4, 5), torch.tensor([[0, 1], [1, 2]])
    model = LayerWise(5, 3, batch_size=1).train()
    torch.manual_seed(1)
    expected = model.network(x, edges)
    torch.manual_seed(1)
    assert torch.equal(model(x, edges), expected)
    assert not torch.equal(model(x, edges), expected)  # dropout


@pytest.mark.parametrize("network", [GCN, partial(GraphNetwork, readout="sum")])
def test_networks_that_cannot_be_divided_are_refused(network) -> None:
    with pytest.raises(ValueError, match="LayerWise takes stacks of convolutions that look at"):
        LayerWise(5, 3, network=network)
