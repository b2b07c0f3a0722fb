"""Rational-quadratic splines: smooth rising maps through given knots, with a closed inverse.

Legend: K bins. A spline maps the interval [-bound, bound] onto itself and leaves the rest alone.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one


@dataclass(frozen=True)
class RationalQuadratic:
    """A rational-quadratic spline for each number.

    Its parameters are, before a softmax, K widths and K heights, and the logarithms of the slopes
    at the K - 1 inner knots; all are softly clipped, so that no bin and no slope vanishes.

    Args:
        bins: K.
        bound: the spline bends inside [-bound, bound]; outside it is the identity.
        min_slope: least slope at a knot; one over it is the largest.
    Raises:
        ValueError: no bin, a bound that is not positive, or a slope outside (0, 1).

    Source: Durkan et al. 2019, section 3.1 and eq. 19-29; the clip is that of zuko.
    """

    bins: int = 8
    bound: float = 5.0
    min_slope: float = 1e-3

    def __post_init__(self) -> None:
        at_least_one("bins", self.bins)
        if not self.bound > 0.0:
            raise ValueError(f"bound={self.bound}: give a positive number")
        if not 0.0 < self.min_slope < 1.0:
            raise ValueError(f"min_slope={self.min_slope}: give a number between 0 and 1")

    @property
    def num_parameters(self) -> int:
        """Widths, heights and inner slopes."""
        return 3 * self.bins - 1

    def _knots(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Widths and heights ``[*, 2, K]`` up to a factor, log-slopes at knots ``[*, K + 1]``."""
        limit = -math.log(self.min_slope)
        sizes, slopes = parameters.split([2 * self.bins, self.bins - 1], -1)
        # Clipped, they cannot overflow; torch's softmax of so short rows takes ten times as long.
        sizes = (sizes / (1.0 + sizes.abs() * (2.0 / limit))).exp()
        slopes = slopes / (1.0 + slopes.abs() * (1.0 / limit))
        return sizes.reshape(*sizes.shape[:-1], 2, self.bins), F.pad(slopes, (1, 1))

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers ``[*]`` by parameters ``[*, 3 K - 1]`` -> numbers and log-slopes ``[*]``."""
        return _spline(x, *self._knots(parameters), self.bound)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, and the log-slopes of this way."""
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
    """The spline of given bins and slopes, or its inverse; outside its bound the identity.

    Args:
        x: numbers ``[*]``.
        widths: of the K bins, ``[*, K]``, positive; scaled to sum to ``2 bound``.
        heights: likewise.
        derivatives: slopes at the K + 1 knots, ``[*, K + 1]``, positive; 1 at both ends for a
            smooth passage to the identity.
        bound: the spline bends inside [-bound, bound].
        inverse: whether to map back.
    Shape:
        -> numbers ``[*]``, logarithms of the slopes there ``[*]``
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


def _bins(place: Tensor, sizes: Tensor, log_slopes: Tensor, side: int) -> tuple[Tensor, ...]:
    """Of the bins in which ``place [*]`` in [0, 1] lies on the side of the widths or heights.

    Left edge, width, lower edge, height, with all widths summing to one and so the heights, and
    the slopes at both ends, each ``[*]``.
    """
    edges = sizes.cumsum(-1)  # right, or upper: [*, 2, K]
    total = edges[..., -1]
    reached = edges[..., side, :-1] <= (place * total[..., side])[..., None]
    index = reached.sum(-1, keepdim=True)  # [*, 1]
    # One gather of four rows, [*, 4, K], instead of four.
    found = torch.cat([edges, sizes], -2).gather(
        -1, index[..., None].expand(*index.shape[:-1], 4, 1)
    )
    ends, spans = (found.view(*total.shape[:-1], 2, 2) / total[..., None, :]).unbind(-2)
    width, height = spans.unbind(-1)
    left, lower = (ends - spans).unbind(-1)
    slopes = log_slopes.gather(-1, torch.cat([index, index + 1], -1)).exp()
    return left, width, lower, height, *slopes.unbind(-1)


def _spline(x: Tensor, sizes: Tensor, log_slopes: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    place = (x * (0.5 / bound) + 0.5).clamp(0.0, 1.0)
    left, width, lower, height, slope_0, slope_1 = _bins(place, sizes, log_slopes, 0)
    slope = height / width
    t = ((place - left) / width).clamp(0.0, 1.0)
    rest = 1.0 - t
    mixed = t * rest
    below = slope + (slope_0 + slope_1 - 2.0 * slope) * mixed
    share = (slope * t.square() + slope_0 * mixed) / below
    steepness = 2.0 * slope * mixed + slope_0 * rest.square() + slope_1 * t.square()
    log_slope = steepness.log() + 2.0 * (slope / below).log()
    z = (lower + height * share) * (2.0 * bound) - bound
    inside = x.abs() < bound
    return torch.where(inside, z, x), log_slope * inside


def _inverse_spline(
    z: Tensor, sizes: Tensor, log_slopes: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    place = (z * (0.5 / bound) + 0.5).clamp(0.0, 1.0)
    left, width, lower, height, slope_0, slope_1 = _bins(place, sizes, log_slopes, 1)
    slope = height / width
    risen = place - lower
    bend = slope_0 + slope_1 - 2.0 * slope
    a = height * (slope - slope_0) + risen * bend
    b = height * slope_0 - risen * bend
    c = slope * risen
    # Rounding can push the discriminant of a nearly straight bin below zero.
    root = (b.square() + 4.0 * a * c).clamp_min(0.0).sqrt()
    t = (2.0 * c / (b + root)).clamp(0.0, 1.0)
    rest = 1.0 - t
    steepness = 2.0 * slope * t * rest + slope_0 * rest.square() + slope_1 * t.square()
    log_slope = 2.0 * (1.0 + bend / slope * t * rest).log() - steepness.log()
    x = (left + t * width) * (2.0 * bound) - bound
    inside = z.abs() < bound
    return torch.where(inside, x, z), log_slope * inside
