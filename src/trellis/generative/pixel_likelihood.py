r"""Log-likelihoods of images and other tensors given a decoder's outputs, in nats per example.

Legend: B examples of shape ``shape``; P parameters for each entry of an example; further leading
dimensions, such as K samples, broadcast. Levels are the 256 values k / 255.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import can_read, check_unit_interval
from trellis.generative.gaussian import HALF_LOG_TWO_PI
from trellis.spec import Values

Likelihood = Literal[
    "bernoulli", "gaussian", "unit_gaussian", "discretized_logistic", "categorical"
]
LEVELS = 256


class PixelLikelihood(NamedTuple):
    """A family of distributions p(x | z) that factorises over the entries of an example.

    Args:
        num_parameters: P, of the distribution of one entry.
        log_prob: ``x [B, *shape], parameters [..., B, P, *shape] -> [..., B]``, summed over the
            entries.
        mean: ``parameters [B, P, *shape] -> [B, *shape]``.
        sample: as ``mean``, with a generator as its second argument; ``None`` for torch's own.
    """

    num_parameters: int
    log_prob: Callable[[Tensor, Tensor], Tensor]
    mean: Callable[[Tensor], Tensor]
    sample: Callable[[Tensor, torch.Generator | None], Tensor]


def bernoulli(x: Tensor, parameters: Tensor) -> Tensor:
    r"""Bernoulli distributions of bits, given the logits l.

    .. math:: \sum_d x_d \ln \sigma(l_d) + (1 - x_d) \ln \sigma(-l_d)

    Args:
        x: in [0, 1]. For grey values it is the expectation over bits with these probabilities,
            not a density of grey values; this is customary on MNIST.
        parameters: the logits.
    Shape:
        x ``[B, *shape]``, parameters ``[..., B, 1, *shape]`` -> ``[..., B]``
    Raises:
        ValueError: shapes that do not fit, or an x outside [0, 1] (not checked on a GPU, where
            it would force a synchronisation).

    >>> bernoulli(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 1, 2))
    tensor([-1.3863])
    """
    (logits,) = _unpacked(x, parameters, 1)
    _check_range(x, "bernoulli", "pixels='unit' or a binary kind")
    nats = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
    return -_summed(nats, x)


def gaussian(x: Tensor, parameters: Tensor) -> Tensor:
    r"""Gaussian distributions of real values, given means and log standard deviations.

    .. math:: -\sum_d \frac{(x_d - \mu_d)^2}{2 s_d^2} + \ln s_d + \tfrac12 \ln 2\pi

    Args:
        x: real values.
        parameters: :math:`\mu`, then :math:`\ln s`.
    Shape:
        x ``[B, *shape]``, parameters ``[..., B, 2, *shape]`` -> ``[..., B]``
    Raises:
        ValueError: shapes that do not fit.
    """
    mean, log_scale = _unpacked(x, parameters, 2)
    nats = 0.5 * ((x - mean) * torch.exp(-log_scale)).square() + log_scale + HALF_LOG_TWO_PI
    return -_summed(nats, x)


def unit_gaussian(x: Tensor, parameters: Tensor) -> Tensor:
    r"""Gaussian distributions of real values with standard deviation 1, given means.

    .. math:: -\sum_d \tfrac12 (x_d - \mu_d)^2 + \tfrac12 \ln 2\pi

    Args:
        x: real values.
        parameters: :math:`\mu`.
    Shape:
        x ``[B, *shape]``, parameters ``[..., B, 1, *shape]`` -> ``[..., B]``
    Raises:
        ValueError: shapes that do not fit.
    """
    (mean,) = _unpacked(x, parameters, 1)
    return -_summed(0.5 * (x - mean).square() + HALF_LOG_TWO_PI, x)


def discretized_logistic(x: Tensor, parameters: Tensor) -> Tensor:
    r"""Discretized logistic distributions of levels: the mass in the interval of 1/255 around x.

    .. math:: \sum_d \ln\left[\sigma\!\left(\frac{x_d + h - \mu_d}{s_d}\right)
        - \sigma\!\left(\frac{x_d - h - \mu_d}{s_d}\right)\right], \quad h = 1/510

    The first and the last level include the tails, so that all 256 sum to 1.

    Args:
        x: levels.
        parameters: :math:`\mu`, in the unit of x, then :math:`\ln s`.
    Shape:
        x ``[B, *shape]``, parameters ``[..., B, 2, *shape]`` -> ``[..., B]``
    Raises:
        ValueError: see ``bernoulli``.

    Source: Kingma et al. 2016, appendix; Salimans et al. 2017, section 2.1.
    """
    mean, log_scale = _unpacked(x, parameters, 2)
    _check_range(x, "discretized_logistic", "pixels='unit'")
    return _summed(log_mass(x, mean, log_scale, LEVELS), x)


def log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, num_levels: int) -> Tensor:
    """Log-probability of each level under a discretized logistic distribution of its own.

    Args:
        x: values k / (``num_levels`` - 1).
        mean: of the logistic distribution, in the unit of x.
        log_scale: likewise.
        num_levels: 256 for bytes.
    Shape:
        all broadcast together, ``[...]`` -> ``[...]``

    >>> probability = log_mass(torch.tensor([0.0, 1.0]), torch.tensor(0.5), torch.tensor(0.0), 2)
    >>> probability.exp()
    tensor([0.5000, 0.5000])
    """
    half = 0.5 / (num_levels - 1)
    inverse = torch.exp(-log_scale)
    upper, lower = (x + half - mean) * inverse, (x - half - mean) * inverse
    # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), which never cancels to zero.
    log_above, log_below = F.logsigmoid(upper), F.logsigmoid(-lower)
    inside = log_above + log_below + torch.log(-torch.expm1(-2 * half * inverse))
    return torch.where(x < half, log_above, torch.where(x > 1 - half, log_below, inside))


def categorical(x: Tensor, parameters: Tensor) -> Tensor:
    r"""Categorical distributions of levels, given 256 logits.

    .. math:: \sum_d \ln \mathrm{softmax}(l_d)_{k_d}, \quad k_d = 255 x_d

    Args:
        x: levels.
        parameters: the logits of the 256 levels, in increasing order.
    Shape:
        x ``[B, *shape]``, parameters ``[..., B, 256, *shape]`` -> ``[..., B]``
    Raises:
        ValueError: see ``bernoulli``.

    Source: van den Oord et al. 2016, section 2.
    """
    _unpacked(x, parameters, LEVELS)
    _check_range(x, "categorical", "pixels='unit'")
    level = x.mul(LEVELS - 1).round().long().unsqueeze(1)
    log_probs = parameters.log_softmax(-x.ndim)
    level = level.expand(*parameters.shape[: -x.ndim], 1, *x.shape[1:])
    return _summed(log_probs.gather(-x.ndim, level).squeeze(-x.ndim), x)


def _unpacked(x: Tensor, parameters: Tensor, count: int) -> tuple[Tensor, ...]:
    """Each kind of parameters by itself, ``[..., B, *shape]``."""
    expected = (x.size(0), count, *x.shape[1:])
    if parameters.shape[-len(expected) :] != expected:
        raise ValueError(
            f"parameters {list(parameters.shape)} do not fit x {list(x.shape)}: give "
            f"[..., {', '.join(map(str, expected))}]"
        )
    if count == 1:  # the gradient of squeeze is a view, that of unbind a copy
        return (parameters.squeeze(-x.ndim),)
    return parameters.unbind(-x.ndim) if count < LEVELS else ()


def _check_range(x: Tensor, likelihood: str, fix: str) -> None:
    if can_read(x):
        check_unit_interval("x", x, f"a {likelihood} likelihood takes [0, 1]; give {fix}")


def _summed(nats: Tensor, x: Tensor) -> Tensor:
    """The sum over the entries of each example, ``[..., B, *shape] -> [..., B]``."""
    return nats.flatten(-(x.ndim - 1)).sum(-1) if x.ndim > 1 else nats


def _logistic_mean(parameters: Tensor) -> Tensor:
    """Mean level: the sum of the probabilities to exceed each of the 255 boundaries."""
    mean, scale = parameters[:, 0], parameters[:, 1].exp()
    total = torch.zeros_like(mean)
    for level in range(1, LEVELS):
        total += torch.sigmoid((mean - (level - 0.5) / (LEVELS - 1)) / scale)
    return total / (LEVELS - 1)


def _logistic_sample(parameters: Tensor, generator: torch.Generator | None) -> Tensor:
    mean, scale = parameters[:, 0], parameters[:, 1].exp()
    uniform = torch.rand(mean.shape, generator=generator, device=mean.device)
    x = mean + scale * uniform.clamp(1e-7, 1 - 1e-7).logit()
    return x.mul(LEVELS - 1).round().clamp(0, LEVELS - 1) / (LEVELS - 1)


def _categorical_mean(parameters: Tensor) -> Tensor:
    levels = torch.linspace(0, 1, LEVELS, device=parameters.device)
    return torch.tensordot(parameters.softmax(1), levels, dims=([1], [0]))


def _categorical_sample(parameters: Tensor, generator: torch.Generator | None) -> Tensor:
    probs = parameters.softmax(1).movedim(1, -1)  # [B, *shape, 256]
    level = torch.multinomial(probs.reshape(-1, LEVELS), 1, generator=generator)
    return level.view(probs.shape[:-1]) / (LEVELS - 1)


def _gaussian_sample(parameters: Tensor, generator: torch.Generator | None) -> Tensor:
    mean = parameters[:, 0]
    scale = parameters[:, 1].exp() if parameters.size(1) == 2 else 1.0
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    return mean + scale * noise


def _first(parameters: Tensor) -> Tensor:
    return parameters[:, 0]


LIKELIHOODS: dict[str, PixelLikelihood] = {
    "bernoulli": PixelLikelihood(
        1,
        bernoulli,
        lambda parameters: parameters[:, 0].sigmoid(),
        lambda parameters, generator: torch.bernoulli(
            parameters[:, 0].sigmoid(), generator=generator
        ),
    ),
    "gaussian": PixelLikelihood(2, gaussian, _first, _gaussian_sample),
    "unit_gaussian": PixelLikelihood(1, unit_gaussian, _first, _gaussian_sample),
    "discretized_logistic": PixelLikelihood(
        2, discretized_logistic, _logistic_mean, _logistic_sample
    ),
    "categorical": PixelLikelihood(LEVELS, categorical, _categorical_mean, _categorical_sample),
}

# Kinds of values for which a likelihood is not defined, and what to give instead.
_REFUSED: dict[str, tuple[tuple[Values, ...], str]] = {
    "bernoulli": (("real", "logit"), "data with pixels='unit' or a binary kind, or a Gaussian"),
    "discretized_logistic": (("real", "dequantized", "logit"), "data with pixels='unit'"),
    "categorical": (("real", "dequantized", "logit"), "data with pixels='unit'"),
}


def refuse_values(likelihood: Likelihood, values: Values) -> None:
    """Refuse data for which a likelihood is not defined.

    Args:
        likelihood: by its name.
        values: kind of the data's values.
    Raises:
        ValueError: it is not; says what to give.
    """
    refused, fix = _REFUSED.get(likelihood, ((), ""))
    if values in refused:
        where = f"likelihood={likelihood!r} is not defined for {values!r} values"
        raise ValueError(f"{where}; give {fix}")
