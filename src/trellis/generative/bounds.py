r"""Lower bounds on :math:`\ln p(x)` of latent-variable models, in nats, from log-weights.

The log-weight of a sample :math:`z_k \sim q(z \mid x)` is :math:`\ln w_k = \ln p(x \mid z_k) +
\ln p(z_k) - \ln q(z_k \mid x)`. Legend: K samples, B examples.
"""

import math

from torch import Tensor


def elbo(log_weights: Tensor) -> Tensor:
    r"""Evidence lower bound: the mean of the log-weights.

    .. math:: \frac1K \sum_k \ln w_k

    In expectation it does not depend on K, which only calms it.

    Shape:
        ``[K, B]`` -> ``[B]``

    Source: Kingma and Welling 2014, eq. 2.

    >>> elbo(torch.tensor([[0.0], [-2.0]]))
    tensor([-1.])
    """
    return log_weights.mean(0)


def iwae(log_weights: Tensor) -> Tensor:
    r"""Importance-weighted bound: the logarithm of the mean weight.

    .. math:: \ln \frac1K \sum_k w_k

    One sample gives the evidence lower bound; more never loosen it, and in the limit it is
    :math:`\ln p(x)`: with many samples it is how that is estimated.

    Shape:
        ``[K, B]`` -> ``[B]``

    Source: Burda et al. 2016, eq. 8 and theorem 1.

    >>> iwae(torch.tensor([[0.0], [-2.0]]))
    tensor([-0.5662])
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
