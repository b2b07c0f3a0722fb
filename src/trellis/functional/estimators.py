r"""Monte Carlo gradients of expectations: score function and reparameterization.

For :math:`E_{z \sim q_\theta}[f(z)]` both are unbiased. The score function needs no derivative of
f and works for discrete z; reparameterization usually has a far lower variance. For the mean of
:math:`z \sim N(1, 1)` and :math:`f = z^2` both have the expectation 2; the variance is 4 with
reparameterization, 30 with the score function, and 18 with the mean of f as a baseline.
Legend: K samples.
"""

from torch import Tensor

from trellis.checks import check_same_shape


def reparameterize(mean: Tensor, log_scale: Tensor, noise: Tensor) -> Tensor:
    r"""Gaussian samples as a differentiable function of their parameters.

    .. math:: z = \mu + e^{\ln s} \epsilon, \quad \epsilon \sim N(0, I)

    The gradient of the mean of f(z) is the reparameterized estimate.

    Args:
        mean: :math:`\mu`.
        log_scale: :math:`\ln s`.
        noise: standard Gaussian.
    Shape:
        any that broadcast

    Source: Kingma and Welling 2014, section 2.4; Rezende et al. 2014.
    """
    return mean + log_scale.exp() * noise


def score_function(value: Tensor, log_prob: Tensor, baseline: Tensor | None = None) -> Tensor:
    r"""The mean of f, with the score-function estimate (REINFORCE) as its gradient.

    .. math:: \nabla = \frac1K \sum_k (f(z_k) - b_k) \nabla \ln q(z_k) + \nabla f(z_k)

    The last term is non-zero if f itself has parameters, as the log-weights of a bound do.

    Args:
        value: :math:`f(z_k)`.
        log_prob: :math:`\ln q(z_k)` of samples that are constants.
        baseline: b, independent of its own sample (otherwise the estimate is biased): a constant,
            a running mean, or ``leave_one_out``; none by default.
    Shape:
        ``[K, ...]`` each -> ``[...]``
    Raises:
        ValueError: other shapes.

    Source: Williams 1992; Glynn 1990; as one differentiable expression, Foerster et al. 2018.
    """
    check_same_shape("give both for each sample, [K, ...]", value=value, log_prob=log_prob)
    if value.dim() == 0:
        raise ValueError("value is a single number: give one for each sample, [K, ...]")
    advantage = value.detach() if baseline is None else value.detach() - baseline.detach()
    return (value + advantage * (log_prob - log_prob.detach())).mean(0)


def leave_one_out(value: Tensor) -> Tensor:
    r"""The mean of the other samples' values: a baseline without additional samples.

    .. math:: b_k = \frac{1}{K - 1} \sum_{j \ne k} f(z_j)

    Args:
        value: :math:`f(z_k)`.
    Shape:
        ``[K, ...]`` -> ``[K, ...]``
    Raises:
        ValueError: fewer than two samples.

    Source: Kool et al. 2019.

    >>> leave_one_out(torch.tensor([1.0, 2.0, 6.0]))
    tensor([4.0000, 3.5000, 1.5000])
    """
    if value.dim() == 0 or len(value) < 2:
        raise ValueError(f"value {list(value.shape)}: give at least 2 samples, [K, ...]")
    return (value.sum(0) - value) / (len(value) - 1)
