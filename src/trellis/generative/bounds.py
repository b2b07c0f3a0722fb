r"""Lower bounds on the evidence :math:`\ln p(x)` of latent-variable models, in nats.

They are computed from the logarithms of importance weights: for a sample :math:`z_k \sim q(z \mid
x)`, :math:`\ln w_k = \ln p(x \mid z_k) + \ln p(z_k) - \ln q(z_k \mid x)`. Legend: K samples, B
examples.
"""

import math

from torch import Tensor


def elbo(log_weights: Tensor) -> Tensor:
    r"""Evidence lower bound: the mean of the logarithms of the weights.

    .. math:: \frac1K \sum_k \ln w_k

    Its expectation does not depend on K; its variance decreases with K.

    Shape:
        ``[K, B]`` -> ``[B]``

    Source: Kingma and Welling 2014, eq. 2.

    >>> elbo(torch.tensor([[0.0], [-2.0]]))
    tensor([-1.])
    """
    return log_weights.mean(0)


def iwae(log_weights: Tensor) -> Tensor:
    r"""Importance-weighted lower bound: the logarithm of the mean weight.

    .. math:: \ln \frac1K \sum_k w_k

    With K = 1 it is the evidence lower bound. In expectation it does not decrease with K and
    converges to :math:`\ln p(x)`, which is estimated in this way with many samples.

    Shape:
        ``[K, B]`` -> ``[B]``

    Source: Burda et al. 2016, eq. 8 and theorem 1.

    >>> iwae(torch.tensor([[0.0], [-2.0]]))
    tensor([-0.5662])
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
