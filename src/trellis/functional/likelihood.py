"""Negative log-likelihoods in nats: summed over the event, averaged over the batch.

Legend: B examples, T targets. Scales are given by their logarithms, which networks can predict:
any real number is valid, and a small scale does not underflow before its logarithm is taken.
"""

import math

import torch
from torch import Tensor

from trellis.checks import check_same_shape


def gaussian_nll(x: Tensor, mean: Tensor, scale: float = 1.0, reduce: bool = True) -> Tensor:
    r"""Gaussian with one known standard deviation; the mean squared error up to constants.

    .. math:: \sum_t \frac{(x_t - \mu_t)^2}{2 s^2} + \ln s + \tfrac12 \ln 2\pi

    Args:
        x: observed targets.
        mean: predicted means.
        scale: standard deviation s of every target, above 0, in the unit of ``x``.
        reduce: false gives the terms of the sum.
    Shape:
        x and mean ``[B, T]`` -> scalar, or ``[B, T]``
    Raises:
        ValueError: the shapes differ, or the scale is not positive.

    >>> round(gaussian_nll(torch.zeros(3, 2), torch.zeros(3, 2)).item(), 4)
    1.8379
    """
    if not scale > 0:
        raise ValueError(f"scale={scale}: give a standard deviation above 0")
    return heteroscedastic_gaussian_nll(x, mean, torch.full_like(mean, math.log(scale)), reduce)


def heteroscedastic_gaussian_nll(
    x: Tensor, mean: Tensor, log_scale: Tensor, reduce: bool = True
) -> Tensor:
    r"""Gaussian with predicted mean and standard deviation.

    .. math:: \sum_t \frac{(x_t - \mu_t)^2}{2 s_t^2} + \ln s_t + \tfrac12 \ln 2\pi

    Args:
        x: observed targets.
        mean: predicted means.
        log_scale: logarithms of the predicted standard deviations s.
        reduce: false gives the terms of the sum.
    Shape:
        x, mean and log_scale ``[B, T]`` -> scalar, or ``[B, T]``
    Raises:
        ValueError: the shapes differ.

    Source: Nix and Weigend 1994.
    """
    _same_shape(x, mean, log_scale)
    standardized = (x - mean) * torch.exp(-log_scale)
    nats = 0.5 * standardized.square() + log_scale + 0.5 * math.log(2 * math.pi)
    return _sum_over_event(nats).mean() if reduce else nats


def gumbel_nll(x: Tensor, location: Tensor, log_scale: Tensor, reduce: bool = True) -> Tensor:
    r"""Gumbel distribution of maxima, CDF :math:`\exp(-e^{-(x - \mu) / \beta})`.

    .. math:: \sum_t \ln \beta_t + z_t + e^{-z_t}, \quad z_t = (x_t - \mu_t) / \beta_t

    Args:
        x: observed targets.
        location: the modes :math:`\mu`.
        log_scale: logarithms of the scales :math:`\beta`.
        reduce: false gives the terms of the sum.
    Shape:
        x, location and log_scale ``[B, T]`` -> scalar, or ``[B, T]``
    Raises:
        ValueError: the shapes differ.

    Source: Gumbel 1958.
    """
    _same_shape(x, location, log_scale)
    z = (x - location) * torch.exp(-log_scale)
    nats = log_scale + z + torch.exp(-z)
    return _sum_over_event(nats).mean() if reduce else nats


def _same_shape(x: Tensor, *parameters: Tensor) -> None:
    for parameter in parameters:
        # [B] and [B, 1] would broadcast to [B, B], without an error.
        check_same_shape("give a parameter for each target", targets=x, parameters=parameter)


def _sum_over_event(nats: Tensor) -> Tensor:
    return nats.flatten(1).sum(1) if nats.ndim > 1 else nats
