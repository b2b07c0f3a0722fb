r"""Ordinary differential equations that carry noise to data, and the densities they give.

Legend: B examples, D numbers in one, K directions, S steps. A field is a function
``(x [B, *shape], t [B]) -> dx/dt [B, *shape]``.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from trellis.checks import at_least_one, choose_from
from trellis.generative.gaussian import gaussian_log_prob

Field = Callable[[Tensor, Tensor], Tensor]
Solver = Literal["euler", "heun", "rk4"]
Divergence = Literal["exact", "hutchinson"]
# Of each stage: where it is evaluated along the step, and its weight in the step. A stage starts
# from the slope of the one before, which is all that these three methods need.
_STAGES: dict[str, tuple[tuple[float, float], ...]] = {
    "euler": ((0.0, 1.0),),
    "heun": ((0.0, 1 / 2), (1.0, 1 / 2)),
    "rk4": ((0.0, 1 / 6), (0.5, 1 / 3), (0.5, 1 / 3), (1.0, 1 / 6)),
}


def time_grid(num_steps: int, device: torch.device | None = None) -> Tensor:
    r"""Times ``[S + 1]`` from 0 to 1, close to each other at both ends: :math:`\sin^2(\pi s / 2)`.

    Near the data a field varies on the scale of its finest structure.

    >>> time_grid(2)
    tensor([0.0000, 0.5000, 1.0000])
    """
    at_least_one("num_steps", num_steps)
    return torch.linspace(0, math.pi / 2, num_steps + 1, device=device).sin().square()


def integrate(field: Field, x: Tensor, times: Tensor, solver: Solver = "rk4") -> Tensor:
    """Carry points along a field.

    Args:
        field: to follow.
        x: points at ``times[0]``, ``[B, *shape]``.
        times: ``[S + 1]``, one step between any two, in either direction.
        solver: Euler's method, Heun's, or the classical one of Runge and Kutta.
    Shape:
        -> points at ``times[-1]``, ``[B, *shape]``
    """
    (x,) = _solve(lambda at, t: (field(at[0], t),), (x,), times, solver)
    return x


def flow_log_prob(
    field: Field,
    x: Tensor,
    times: Tensor,
    solver: Solver = "rk4",
    directions: Tensor | None = None,
    log_scale: Tensor | None = None,
) -> Tensor:
    r"""Log-density of data that a field carries from normal noise.

    .. math:: \ln p(x_1) = \ln \mathcal N(x_0; 0, \sigma^2 I)
        - \int_0^1 \nabla \cdot v(x_t, t)\, dt

    Args:
        field: from noise at ``times[0]`` to data at ``times[-1]``.
        x: data ``[B, *shape]``.
        times: see ``integrate``.
        solver: see ``integrate``.
        directions: random ones of variance 1, ``[K, B, *shape]``, for Hutchinson's estimate of
            the divergence; ``None`` computes it exactly, at the cost of D.
        log_scale: logarithm of the standard deviation of the noise; 0 by default.
    Shape:
        -> ``[B]``, in nats
    Source: Chen et al. 2018, theorem 1; Grathwohl et al. 2019, section 3.1 (Hutchinson; the same
    directions at each time).
    """
    exact = directions is None
    if directions is None:
        size = x[0].numel()
        basis = torch.eye(size, dtype=x.dtype, device=x.device).view(size, 1, *x.shape[1:])
        directions = basis.expand(size, *x.shape)

    def change(at: tuple[Tensor, ...], t: Tensor) -> tuple[Tensor, ...]:
        slope, traces = directional_traces(field, at[0], t, directions)
        return slope, traces.sum(0) if exact else traces.mean(0)

    start = (x, x.new_zeros(len(x)))
    noise, gathered = _solve(change, start, times.flip(0), solver)
    scales = None if log_scale is None else log_scale.expand(noise[0].numel())
    return gaussian_log_prob(noise.flatten(1), log_scale=scales) + gathered


def random_directions(x: Tensor) -> Tensor:
    """One direction of -1 and 1 for each example, ``[1, B, *shape]``: the least variance."""
    return torch.randn_like(x).sign()[None]


def directional_traces(
    field: Field, x: Tensor, t: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    r"""A field, and :math:`u^\top J u` of its Jacobian for each direction u.

    All in one pass, in forward mode: it needs no graph, and runs under ``inference_mode``.

    Args:
        field: to differentiate.
        x: points ``[B, *shape]``.
        t: times ``[B]``.
        directions: ``[K, B, *shape]``.
    Shape:
        -> slopes ``[B, *shape]``, traces ``[K, B]``
    """
    count, size = directions.shape[:2]
    tangents = directions.flatten(0, 1).contiguous()
    points = x.repeat(count, *(1 for _ in x.shape[1:]))
    times = t.repeat(count)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no forward mode
        slopes, change, *_ = torch.func.jvp(lambda at: field(at, times), (points,), (tangents,))
    return slopes[:size], (change * tangents).flatten(1).sum(1).view(count, size)


def _solve(
    change: Callable[[tuple[Tensor, ...], Tensor], tuple[Tensor, ...]],
    start: tuple[Tensor, ...],
    times: Tensor,
    solver: Solver,
) -> tuple[Tensor, ...]:
    stages = _STAGES[choose_from("solver", solver, Solver)]
    state = start
    for t, step in zip(times[:-1], times.diff(), strict=True):
        total: tuple[Tensor, ...] = tuple(torch.zeros_like(part) for part in state)
        slopes = total
        for along, weight in stages:
            at = tuple(part + along * step * s for part, s in zip(state, slopes, strict=True))
            slopes = change(at, (t + along * step).expand(len(at[0])))
            total = tuple(sum_ + weight * s for sum_, s in zip(total, slopes, strict=True))
        state = tuple(part + step * s for part, s in zip(state, total, strict=True))
    return state
