import pytest
import torch
from transform_cases import assert_log_det_is_of_the_jacobian, assert_one_to_one

from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.transform import (
    Additive,
    Affine,
    Chain,
    FlatView,
    Inverse,
    Permutation,
    Scaling,
    Transform,
    evens_first,
)


def scaling(*factors: float) -> Scaling:
    transform = Scaling(len(factors))
    transform.log_scale.data = torch.tensor(factors).log()
    return transform


CASES = {
    "scaling": lambda: scaling(0.5, 3.0, 2.0),
    "permutation": lambda: Permutation(torch.tensor([2, 0, 1])),
    "chain": lambda: Chain([scaling(0.5, 3.0, 2.0), evens_first(3), scaling(0.1, 1.0, 1.0)]),
    "inverse": lambda: Inverse(MaskedAutoregressive(3, Affine())),
}


@pytest.mark.parametrize("name", CASES)
def test_one_to_one_with_the_jacobian_of_autograd(name: str) -> None:
    torch.manual_seed(0)
    transform, x = CASES[name](), torch.randn(4, 3)
    assert_one_to_one(transform, x)
    assert_log_det_is_of_the_jacobian(transform, x)


def test_a_chain_runs_forward_and_back_in_order() -> None:
    chain = Chain([scaling(2.0, 1.0), Permutation(torch.tensor([1, 0]))])
    z, log_det = chain(torch.tensor([[3.0, 5.0]]))
    assert z.tolist() == [[5.0, 6.0]]
    assert log_det.item() == pytest.approx(0.693147)


def test_an_inverse_swaps_both_ways() -> None:
    torch.manual_seed(0)
    transform: Transform = MaskedAutoregressive(3, Affine())
    x = torch.randn(2, 3)
    for a, b in zip(Inverse(transform)(x), transform.inverse(x), strict=True):
        assert a.equal(b)
    for a, b in zip(Inverse(transform).inverse(x), transform(x), strict=True):
        assert a.equal(b)


def test_a_permutation_is_loaded_with_its_inverse() -> None:
    there, other = Permutation(torch.tensor([2, 0, 1])), Permutation(torch.arange(3))
    other.load_state_dict(there.state_dict())
    x = torch.tensor([[5.0, 6.0, 7.0]])
    assert other.inverse(there(x)[0])[0].equal(x)


def test_a_flat_view_is_undone() -> None:
    x = torch.arange(12.0).view(1, 3, 2, 2)
    z, log_det = FlatView((3, 2, 2))(x)
    assert z.tolist() == [list(range(12))]
    assert log_det.tolist() == [0.0]
    assert FlatView((3, 2, 2)).inverse(z)[0].equal(x)


def test_an_affine_map_is_bounded_softly() -> None:
    """However large its parameter, neither scale nor its inverse exceeds max_scale."""
    affine, x = Affine(max_scale=10.0), torch.ones(3)
    parameters = torch.tensor([[0.0, 1e9], [0.0, -1e9], [0.0, 1e-3]])
    z, log_derivative = affine.forward(x, parameters)
    torch.testing.assert_close(z, torch.tensor([10.0, 0.1, 1.001]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_derivative, z.log(), atol=1e-6, rtol=1e-5)
    assert Additive().forward(x, torch.full((3, 1), 2.0))[0].tolist() == [3.0] * 3


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"permutation=\[0, 0\]: give each of 0 to 1 once"):
        Permutation(torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"max_scale=1.0: give more than 1"):
        Affine(1.0)
    with pytest.raises(ValueError, match="features=0: give at least 1"):
        Scaling(0)
