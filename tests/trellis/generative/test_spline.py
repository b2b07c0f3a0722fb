import pytest
import torch
from torch import Tensor

from trellis.generative.spline import RationalQuadratic, rational_quadratic


def knots(count: int, bins: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(2, count, bins, generator=generator, dtype=torch.float64) + 0.05
    derivatives = torch.rand(count, bins + 1, generator=generator, dtype=torch.float64) * 3 + 0.05
    return *sizes, derivatives


def test_it_passes_through_its_knots_with_their_derivatives() -> None:
    widths, heights, derivatives = knots(1, 5)
    x = 6 * widths.cumsum(-1) / widths.sum(-1, keepdim=True) - 3
    y = 6 * heights.cumsum(-1) / heights.sum(-1, keepdim=True) - 3
    # The last knot is the bound itself, where the identity takes over.
    z, log_derivative = rational_quadratic(
        x[0, :-1],
        widths.expand(4, -1),
        heights.expand(4, -1),
        derivatives.expand(4, -1),
        bound=3.0,
    )
    torch.testing.assert_close(z, y[0, :-1])
    torch.testing.assert_close(log_derivative.exp(), derivatives[0, 1:-1])


def test_it_is_the_formula_of_the_paper() -> None:
    """Eq. 4 in the course of a bin, read off by hand for one point."""
    ones = torch.ones(1, 1, dtype=torch.float64)
    derivatives = torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    # One bin from -1 to 1, s = 1; at x = 0 xi = 1/2: 2 (1/4 + .5/4) / (1 + .5/4) - 1.
    z, log_derivative = rational_quadratic(ones[0] * 0, ones, ones, derivatives, bound=1.0)
    assert z.item() == pytest.approx(2 * 0.375 / 1.125 - 1)
    # Eq. 5: (2/4 + 2/4 + .5/4) / (1 + .5/4)^2.
    assert log_derivative.exp().item() == pytest.approx(1.125 / 1.125**2)


@pytest.mark.parametrize("bins", [1, 2, 8])
def test_derivatives_are_those_of_autograd_and_the_inverse_inverts(bins: int) -> None:
    x = torch.linspace(-3.5, 3.5, 201, dtype=torch.float64)[1:-1].requires_grad_()
    given = knots(1, bins)
    widths, heights, derivatives = (part.expand(len(x), -1) for part in given)
    z, log_derivative = rational_quadratic(x, widths, heights, derivatives, bound=3.0)
    assert (z.diff() > 0).all()
    (derivative,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_derivative, derivative.log())
    back, log_back = rational_quadratic(
        z.detach(), widths, heights, derivatives, bound=3.0, inverse=True
    )
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_back, -log_derivative)


def test_outside_its_bound_it_is_the_identity_with_a_continuous_derivative() -> None:
    torch.manual_seed(0)
    spline = RationalQuadratic(bins=4, bound=2.0)
    parameters = torch.randn(spline.num_parameters, dtype=torch.float64) * 3
    x = torch.tensor([-9.0, -2.0, -1.9999999, 1.9999999, 2.0, 9.0], dtype=torch.float64)
    z, log_derivative = spline.forward(x, parameters.expand(6, -1))
    torch.testing.assert_close(z, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_derivative, torch.zeros_like(x), atol=1e-4, rtol=0)
    assert z[[0, 1, 4, 5]].equal(x[[0, 1, 4, 5]])


@pytest.mark.parametrize("size", [0.1, 3.0, 1e6])
def test_round_trip_in_single_precision(size: float) -> None:
    """Parameters of any size: they are clipped, so that no bin and no derivative vanishes."""
    torch.manual_seed(0)
    spline = RationalQuadratic()
    x = torch.randn(500, 2) * 3
    parameters = torch.randn(500, 2, spline.num_parameters) * size
    z, log_derivative = spline.forward(x, parameters)
    back, log_back = spline.inverse(z, parameters)
    if size < 1:  # clipped derivatives of 1/1000 leave fewer digits to go back by
        torch.testing.assert_close(back, x, atol=1e-5, rtol=0)
    assert all(numbers.isfinite().all() for numbers in (z, log_derivative, back, log_back))
    assert (log_derivative.abs() < 25).all()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    spline = RationalQuadratic(bins=3, bound=2.0)
    x = torch.tensor([-2.5, -1.0, 0.1, 1.3], dtype=torch.float64, requires_grad=True)
    parameters = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(spline.forward, (x, parameters))
    assert torch.autograd.gradcheck(spline.inverse, (x, parameters))


def test_bad_input_is_named() -> None:
    good, x = torch.ones(1, 2), torch.zeros(1)
    bad = torch.tensor([[1.0, 0.0]])
    with pytest.raises(ValueError, match="widths hold 0: give positive numbers only"):
        rational_quadratic(x, bad, good, torch.ones(1, 3), bound=1.0)
    with pytest.raises(ValueError, match="heights hold -1"):
        rational_quadratic(x, good, -good, torch.ones(1, 3), bound=1.0)
    with pytest.raises(ValueError, match="derivatives hold nan"):
        rational_quadratic(x, good, good, torch.full((1, 3), torch.nan), bound=1.0)
    with pytest.raises(ValueError, match="for widths of 2 bins give 2 and 3"):
        rational_quadratic(x, good, good, torch.ones(1, 2), bound=1.0)
    with pytest.raises(ValueError, match="bins=0: give at least 1"):
        RationalQuadratic(bins=0)
    with pytest.raises(ValueError, match="bound=0.0: give a positive number"):
        RationalQuadratic(bound=0.0)
    with pytest.raises(ValueError, match="min_derivative=1.0: give a number between 0 and 1"):
        RationalQuadratic(min_derivative=1.0)
