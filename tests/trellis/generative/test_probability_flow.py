"""Equations with known solutions, densities of linear maps, orders of the solvers, torch's ODE."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from trellis.generative.probability_flow import (
    directional_traces,
    flow_log_prob,
    integrate,
    time_grid,
)
from trellis.nn.attention import SelfAttention

DRIFT = torch.tensor([[0.3, -1.1, 0.2], [0.8, -0.2, 0.5], [0.1, 0.4, 0.6]], dtype=torch.double)


def linear(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = 2 t A x: its solution is exp(A) x at 1, whatever the times between."""
    return 2 * t[:, None] * x @ DRIFT.T


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_solvers_have_their_order(solver: str, order: int) -> None:
    x = torch.randn(5, 3, dtype=torch.double)
    exact = x @ torch.matrix_exp(DRIFT).T
    errors = [
        (integrate(linear, x, torch.linspace(0, 1, n + 1).double(), solver) - exact).abs().max()
        for n in (32, 64)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_integrating_back_undoes_it() -> None:
    x, times = torch.randn(5, 3, dtype=torch.double), time_grid(40).double()
    there = integrate(linear, x, times)
    torch.testing.assert_close(integrate(linear, there, times.flip(0)), x, rtol=0, atol=1e-6)
    assert (there - x).abs().max() > 0.1


def test_the_density_of_a_linear_flow_is_a_gaussian() -> None:
    flow = torch.matrix_exp(DRIFT)
    exact = MultivariateNormal(torch.zeros(3).double(), flow @ flow.T)
    x = exact.sample((7,))
    log_prob = flow_log_prob(linear, x, time_grid(60).double())
    torch.testing.assert_close(log_prob, exact.log_prob(x), rtol=0, atol=1e-6)


def test_random_directions_give_the_density_in_the_mean() -> None:
    torch.manual_seed(0)
    x, times = torch.randn(2, 3, dtype=torch.double), time_grid(10).double()
    directions = torch.randn(20_000, 2, 3, dtype=torch.double).sign()
    exact = flow_log_prob(linear, x, times)
    estimate = flow_log_prob(linear, x, times, directions=directions)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.03)
    few = flow_log_prob(linear, x, times, directions=directions[:1])
    assert (few - exact).abs().max() > 0.05, "one direction is an estimate"


def test_traces_are_those_of_the_jacobian() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))

    def field(x: Tensor, t: Tensor) -> Tensor:
        return network(x.flatten(1)).view_as(x) * t.view(-1, 1, 1)

    x, t = torch.randn(3, 2, 2), torch.rand(3)
    basis = torch.eye(4).view(4, 1, 2, 2).expand(4, 3, 2, 2)
    with torch.inference_mode():
        slopes, traces = directional_traces(field, x, t, basis)
    torch.testing.assert_close(slopes, field(x, t))
    for row in range(3):
        one = torch.autograd.functional.jacobian(
            lambda z, row=row: field(z[None], t[row : row + 1])[0].flatten(), x[row]
        )
        torch.testing.assert_close(traces[:, row], one.view(4, 4).diagonal())


def test_evaluations_are_counted() -> None:
    calls = []

    def field(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x

    integrate(field, torch.zeros(1, 2), time_grid(7), "heun")
    assert len(calls) == 14


def test_times_are_dense_at_both_ends_and_a_solver_must_be_known() -> None:
    steps = time_grid(10).diff()
    assert (steps > 0).all()
    assert steps[0] < steps[5] / 3
    torch.testing.assert_close(steps, steps.flip(0))
    with pytest.raises(ValueError, match=r"solver='rk5'.*rk4"):
        integrate(linear, torch.zeros(1, 3), time_grid(2), "rk5")
    with pytest.raises(ValueError, match="num_steps=0"):
        time_grid(0)


def test_fields_may_attend() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(4, 2).double().requires_grad_(False)
    x, times = torch.randn(3, 5, 4).double(), torch.zeros(3)
    basis = torch.eye(20).double().view(20, 1, 5, 4).expand(20, 3, 5, 4)
    slopes, traces = directional_traces(lambda at, t: attention(at), x, times, basis)
    jacobian = torch.autograd.functional.jacobian(attention, x[:1]).view(20, 20)
    torch.testing.assert_close(slopes, attention(x))
    torch.testing.assert_close(traces[:, 0], jacobian.diagonal())
