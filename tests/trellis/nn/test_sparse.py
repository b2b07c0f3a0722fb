"""Sparse features: the same values, gradients and distribution as dense ones."""

import pytest
import torch
from torch import Tensor, nn

from trellis.nn.sparse import SparseLinear, dropout, to_csr


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(40, 30) * (torch.rand(40, 30) < 0.2)


def test_to_csr_and_back(x: Tensor) -> None:
    assert to_csr(x).layout == torch.sparse_csr
    assert to_csr(x).to_dense().equal(x)


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_torchs_on_both_layouts(x: Tensor, bias: bool) -> None:
    layer = SparseLinear(30, 7, bias)
    peer = nn.Linear(30, 7, bias)
    peer.load_state_dict(layer.state_dict())
    for ours, theirs in ((layer(x), peer(x)), (layer(to_csr(x)), peer(x))):
        layer.zero_grad()
        peer.zero_grad()
        torch.testing.assert_close(ours, theirs)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        torch.testing.assert_close(
            [p.grad for p in layer.parameters()], [p.grad for p in peer.parameters()]
        )


def test_dropout_of_a_sparse_x_keeps_its_mean_and_its_zeros() -> None:
    torch.manual_seed(0)
    x = torch.ones(200, 200).triu()  # 20,100 ones
    dropped = dropout(to_csr(x), 0.3, training=True).to_dense()
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert dropped.tril(-1).abs().max() == 0
    kept = (dropped > 0).sum() / x.sum()
    assert kept.item() == pytest.approx(0.7, abs=0.015)  # five standard deviations


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_dropout_that_is_off_changes_nothing(x: Tensor, p: float, training: bool) -> None:
    assert dropout(to_csr(x), p, training).to_dense().equal(x)
    assert dropout(x, p, training).equal(x)


def test_dropout_leaves_its_input_alone(x: Tensor) -> None:
    sparse = to_csr(x)
    dropout(sparse, 0.9, training=True)
    assert sparse.to_dense().equal(x)


def test_dropout_of_everything_is_nothing(x: Tensor) -> None:
    assert dropout(to_csr(x), 1.0, training=True).to_dense().abs().max() == 0
