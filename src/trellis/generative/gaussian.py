"""Diagonal Gaussians, parametrised by the logarithms of their standard deviations.

Legend: L dimensions of the event; all leading dimensions broadcast.
"""

import math

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def gaussian_log_prob(
    x: Tensor, mean: Tensor | None = None, log_scale: Tensor | None = None
) -> Tensor:
    r"""Log-density in nats, by default of the standard Gaussian.

    .. math:: -\sum_l \tfrac12 \left(\frac{x_l - \mu_l}{s_l}\right)^2 + \ln s_l + \tfrac12\ln 2\pi

    Args:
        x: where to evaluate it.
        mean: :math:`\mu`, zero by default.
        log_scale: :math:`\ln s`, zero by default.
    Shape:
        ``[..., L]`` each -> ``[...]``

    >>> round(gaussian_log_prob(torch.zeros(2)).item(), 4)
    -1.8379
    """
    z = x if mean is None else x - mean
    if log_scale is not None:
        z = z * torch.exp(-log_scale)
    log_prob = z.square().sum(-1).mul(-0.5) - HALF_LOG_TWO_PI * z.size(-1)
    return log_prob if log_scale is None else log_prob - log_scale.sum(-1)


def gaussian_kl(
    mean: Tensor,
    log_scale: Tensor,
    other_mean: Tensor | None = None,
    other_log_scale: Tensor | None = None,
) -> Tensor:
    r"""KL divergence to another Gaussian in nats, by default to the standard Gaussian.

    .. math:: \sum_l \ln \frac{t_l}{s_l} + \frac{s_l^2 + (\mu_l - \nu_l)^2}{2 t_l^2} - \tfrac12

    Args:
        mean: :math:`\mu`.
        log_scale: :math:`\ln s`.
        other_mean: :math:`\nu`, zero by default.
        other_log_scale: :math:`\ln t`, zero by default.
    Shape:
        ``[..., L]`` each -> ``[...]``

    Source: Kingma and Welling 2014, appendix B.

    >>> gaussian_kl(torch.ones(1, 3), torch.zeros(1, 3))
    tensor([1.5000])
    """
    if other_mean is not None:
        mean = mean - other_mean
    if other_log_scale is not None:
        mean, log_scale = mean * torch.exp(-other_log_scale), log_scale - other_log_scale
    log_variance = 2 * log_scale
    return (mean.square() + torch.expm1(log_variance) - log_variance).sum(-1).mul(0.5)
