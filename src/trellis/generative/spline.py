"""Monotonic rational-quadratic splines, with an inverse in closed form.

Legend: K bins. A spline maps [-bound, bound] onto itself and is the identity outside.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one, fraction


@dataclass(frozen=True)
class RationalQuadratic:
    """Elementwise monotonic rational-quadratic spline.

    Its parameters are K unnormalised log widths, K unnormalised log heights and the logarithms of
    the derivatives at the K - 1 inner knots. All are softly clipped, so that no bin becomes empty
    and no derivative vanishes.

    Args:
        bins: K.
        bound: of the interval [-bound, bound], outside which the spline is the identity.
        min_derivative: smallest derivative at a knot; the largest is its inverse.
    Raises:
        ValueError: no bin, a bound that is not positive, or ``min_derivative`` outside (0, 1).

    Source: Durkan et al. 2019, section 3.1 and eq. 19-29; the clip is that of zuko.
    """

    bins: int = 8
    bound: float = 5.0
    min_derivative: float = 1e-3

    def __post_init__(self) -> None:
        at_least_one("bins", self.bins)
        if not self.bound > 0.0:
            raise ValueError(f"bound={self.bound}: give a positive number")
        fraction("min_derivative", self.min_derivative)

    @property
    def num_parameters(self) -> int:
        """Of widths, heights and inner derivatives."""
        return 3 * self.bins - 1

    def _knots(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Unnormalised widths and heights ``[*, 2, K]``, log-derivatives ``[*, K + 1]``."""
        limit = -math.log(self.min_derivative)
        sizes, inner = parameters.split([2 * self.bins, self.bins - 1], -1)
        # Clipped they cannot overflow; torch's softmax takes ten times as long on such short rows.
        sizes = (sizes / (1.0 + sizes.abs() * (2.0 / limit))).exp()
        inner = inner / (1.0 + inner.abs() * (1.0 / limit))
        return sizes.reshape(*sizes.shape[:-1], 2, self.bins), F.pad(inner, (1, 1))

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``[*]`` with parameters ``[*, 3 K - 1]`` -> values and log-derivatives ``[*]``."""
        return _spline(x, *self._knots(parameters), self.bound)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse, with its own log-derivatives."""
        return _inverse_spline(z, *self._knots(parameters), self.bound)


def rational_quadratic(
    x: Tensor,
    widths: Tensor,
    heights: Tensor,
    derivatives: Tensor,
    *,
    bound: float,
    inverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """The spline with given bins and derivatives, or its inverse.

    Args:
        x: where to evaluate it, ``[*]``.
        widths: of the K bins, ``[*, K]``, positive; rescaled to sum to ``2 bound``.
        heights: likewise.
        derivatives: at the K + 1 knots, ``[*, K + 1]``, positive; with 1 at both ends the spline
            is differentiable there, too.
        bound: of the interval [-bound, bound], outside which the spline is the identity.
        inverse: evaluate the inverse instead.
    Shape:
        -> values ``[*]``, logarithms of the derivatives ``[*]``
    Raises:
        ValueError: a width, height or derivative is not positive, or their numbers do not fit.

    Source: Durkan et al. 2019, eq. 19-29.
    """
    for name, given in (("widths", widths), ("heights", heights), ("derivatives", derivatives)):
        if not (given > 0).all():
            raise ValueError(f"{name} hold {float(given.min()):g}: give positive numbers only")
    bins = widths.size(-1)
    if heights.size(-1) != bins or derivatives.size(-1) != bins + 1:
        raise ValueError(
            f"heights {list(heights.shape)}, derivatives {list(derivatives.shape)}: for widths of "
            f"{bins} bins give {bins} and {bins + 1}"
        )
    sizes = torch.stack([widths, heights], -2)
    evaluate = _inverse_spline if inverse else _spline
    return evaluate(x, sizes, derivatives.log(), bound)


def _bins(
    position: Tensor, sizes: Tensor, log_derivatives: Tensor, axis: int
) -> tuple[Tensor, ...]:
    """The bin of each ``position [*]`` in [0, 1], along the widths (axis 0) or the heights (1).

    Returns its left edge, width, lower edge and height, with widths and heights normalised to sum
    to one, and the derivatives at both of its ends, each ``[*]``.
    """
    edges = sizes.cumsum(-1)  # right, or upper: [*, 2, K]
    total = edges[..., -1]
    below = edges[..., axis, :-1] <= (position * total[..., axis])[..., None]
    index = below.sum(-1, keepdim=True)  # [*, 1]
    # One gather of four rows, [*, 4, K], instead of four gathers.
    found = torch.cat([edges, sizes], -2).gather(
        -1, index[..., None].expand(*index.shape[:-1], 4, 1)
    )
    ends, spans = (found.view(*total.shape[:-1], 2, 2) / total[..., None, :]).unbind(-2)
    width, height = spans.unbind(-1)
    left, lower = (ends - spans).unbind(-1)
    ends = log_derivatives.gather(-1, torch.cat([index, index + 1], -1)).exp()
    return left, width, lower, height, *ends.unbind(-1)


# In the terms of Durkan et al. 2019: s is the slope of a bin, d0 and d1 are the derivatives at its
# ends, t (xi there) is the position in it, u = 1 - t.
def _spline(
    x: Tensor, sizes: Tensor, log_derivatives: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    position = (x * (0.5 / bound) + 0.5).clamp(0.0, 1.0)
    left, width, lower, height, d0, d1 = _bins(position, sizes, log_derivatives, 0)
    s = height / width
    t = ((position - left) / width).clamp(0.0, 1.0)
    u = 1.0 - t
    tu = t * u
    denominator = s + (d0 + d1 - 2.0 * s) * tu
    fraction = (s * t.square() + d0 * tu) / denominator
    numerator = 2.0 * s * tu + d0 * u.square() + d1 * t.square()
    log_derivative = numerator.log() + 2.0 * (s / denominator).log()
    z = (lower + height * fraction) * (2.0 * bound) - bound
    inside = x.abs() < bound
    return torch.where(inside, z, x), log_derivative * inside


def _inverse_spline(
    z: Tensor, sizes: Tensor, log_derivatives: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    position = (z * (0.5 / bound) + 0.5).clamp(0.0, 1.0)
    left, width, lower, height, d0, d1 = _bins(position, sizes, log_derivatives, 1)
    s = height / width
    rise = position - lower
    bend = d0 + d1 - 2.0 * s
    a = height * (s - d0) + rise * bend
    b = height * d0 - rise * bend
    c = s * rise
    # Rounding can push the discriminant of a nearly straight bin below zero.
    root = (b.square() + 4.0 * a * c).clamp_min(0.0).sqrt()
    t = (2.0 * c / (b + root)).clamp(0.0, 1.0)
    u = 1.0 - t
    numerator = 2.0 * s * t * u + d0 * u.square() + d1 * t.square()
    log_derivative = 2.0 * (1.0 + bend / s * t * u).log() - numerator.log()
    x = (left + t * width) * (2.0 * bound) - bound
    inside = z.abs() < bound
    return torch.where(inside, x, z), log_derivative * inside
