"""Distributions of the levels of a pixel, whose parameters an autoregressive network computes.

Legend: B examples, C channels of a pixel, P parameters of its distribution, M components of a
mixture, K levels; level k of a channel is the value k / (K - 1).
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least, at_least_one
from trellis.generative.pixel_levels import as_levels
from trellis.generative.pixel_likelihood import log_mass


class PixelDistribution(Protocol):
    """A joint distribution of the channels of one pixel.

    ``log_prob`` takes values x ``[B, C, *]`` and parameters ``[B, P, *]``, and returns ``[B, *]``
    in nats; ``sample`` takes parameters ``[B, P]`` and a generator, and returns x ``[B, C]``.
    """

    @property
    def num_parameters(self) -> int: ...

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor: ...

    def sample(self, parameters: Tensor, generator: torch.Generator | None) -> Tensor: ...


class LevelLogits:
    """A probability for each level of a single channel, by their logits.

    Args:
        num_levels: K.
    Raises:
        ValueError: fewer than two levels.

    Source: van den Oord et al. 2016 (Pixel recurrent neural networks), section 2.
    """

    def __init__(self, num_levels: int) -> None:
        self.num_levels = self.num_parameters = at_least(2, "num_levels", num_levels)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        levels = as_levels(x, self.num_levels).squeeze(1)
        return -F.cross_entropy(parameters, levels, reduction="none")

    def sample(self, parameters: Tensor, generator: torch.Generator | None) -> Tensor:
        level = torch.multinomial(parameters.softmax(1), 1, generator=generator)
        return level / (self.num_levels - 1)


class LogisticMixture:
    r"""A mixture of discretized logistic distributions, joint over the channels of a pixel.

    .. math:: P(x) = \sum_m \pi_m \prod_c \left[\sigma\!\left(\frac{x_c + h - \mu_{mc}}{s_{mc}}
        \right) - \sigma\!\left(\frac{x_c - h - \mu_{mc}}{s_{mc}}\right)\right], \quad
        \mu_{mc} = \nu_{mc} + \sum_{d < c} a_{mcd} x_d

    for x in [-1, 1], to which the values are moved, and h = 1 / (K - 1), half the distance of two
    levels; the first and the last level include the tails. The means of green and blue depend
    linearly on the levels of the channels before them.

    The M logits of :math:`\pi` come first of the parameters. For each component follow C means
    :math:`\nu`, C logarithms of scales s and C (C - 1) / 2 coefficients, whose tanh is a: for
    green that of red, for blue that of red and that of green. One channel has 3 M parameters,
    three have 10 M.

    Args:
        channels: C.
        num_levels: K.
        num_components: M.
    Raises:
        ValueError: a number too small.

    Source: Salimans et al. 2017, sections 2.1 and 2.2; log-scales are at least -7 as in its code.
    """

    def __init__(self, channels: int, num_levels: int, num_components: int) -> None:
        self.channels = at_least_one("channels", channels)
        self.num_levels = at_least(2, "num_levels", num_levels)
        self.num_components = at_least_one("num_components", num_components)
        self.pairs = [(c, d) for c in range(channels) for d in range(c)]
        self.num_parameters = num_components * (1 + 2 * channels + len(self.pairs))

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        total, means, log_scales, slopes = self._parts(parameters)
        x = as_levels(x, self.num_levels).to(means.dtype) / (self.num_levels - 1)
        for channel, value in enumerate(x.unsqueeze(1).unbind(2)):
            mean = self._mean(channel, means, slopes, 2 * x - 1)
            # In [0, 1], half as wide as [-1, 1].
            mean, log_scale = (mean + 1) / 2, log_scales[:, :, channel] - math.log(2)
            total = total + log_mass(value, mean, log_scale, self.num_levels)
        return total.logsumexp(1)

    def sample(self, parameters: Tensor, generator: torch.Generator | None) -> Tensor:
        log_weights, *parts = self._parts(parameters)
        chosen = torch.multinomial(log_weights.exp(), 1, generator=generator).unsqueeze(2)
        means, log_scales, slopes = (
            part.gather(1, chosen.expand(-1, -1, part.size(2))) for part in parts
        )
        noise = torch.rand(log_scales.shape, generator=generator, device=means.device)
        noise = log_scales.exp() * noise.clamp(1e-7, 1 - 1e-7).logit()  # [B, 1, C]
        x, last = means.new_zeros(len(means), self.channels), self.num_levels - 1
        for channel in range(self.channels):
            drawn = self._mean(channel, means, slopes, x) + noise[:, :, channel]  # [B, 1]
            level = ((drawn[:, 0] + 1) / 2 * last).round().clamp(0, last)
            x[:, channel] = 2 * level / last - 1
        return (x + 1) / 2

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-weights ``[B, M, *]``; means, log-scales and slopes ``[B, M, C or pairs, *]``."""
        # Half precision cannot tell 256 levels apart.
        parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
        count = self.num_components
        rest = parameters[:, count:].unflatten(1, (count, -1))
        sizes = [self.channels, self.channels, len(self.pairs)]
        means, log_scales, slopes = rest.split(sizes, 2)
        log_weights = parameters[:, :count].log_softmax(1)
        return log_weights, means, log_scales.clamp(min=-7.0), slopes.tanh()

    def _mean(self, channel: int, means: Tensor, slopes: Tensor, x: Tensor) -> Tensor:
        """Means ``[B, M, *]`` of a channel, given those before it in x ``[B, C, *]``."""
        mean = means[:, :, channel]
        for number, (later, earlier) in enumerate(self.pairs):
            if later == channel:
                mean = mean + slopes[:, :, number] * x[:, earlier].unsqueeze(1)
        return mean
