"""Losses of a generator G and a discriminator D, and regularisation of D.

Legend: B examples, or all patches of all examples. A logit is D's output before any sigmoid; for a
Wasserstein critic it is the score itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    """The losses that D and G minimise, computed from D's logits; abstract."""

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Loss of D, ``[B], [B] -> []``."""

    @abstractmethod
    def generator(self, fake_logits: Tensor) -> Tensor:
        """Loss of G, ``[B] -> []``."""


def binary_cross_entropy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""Loss of D as a classifier of real and generated data.

    .. math:: -E \log D(x) - E \log(1 - D(G(z))), \quad D = \sigma(\text{logit})

    With the optimal D it equals :math:`2 \log 2 - 2\, JS(p_{data}, p_G)`.

    Shape:
        real_logits ``[B]``, fake_logits ``[B]`` -> ``[]``

    Source: Goodfellow et al. 2014, eq. 1 and theorem 1.

    >>> binary_cross_entropy(torch.zeros(2), torch.zeros(2))
    tensor(1.3863)
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


class MinimaxLoss(AdversarialLoss):
    r"""The zero-sum game: G minimises the objective that D maximises.

    .. math:: L_G = E \log(1 - D(G(z)))

    The gradient vanishes where D is confident, :math:`D(G(z)) \approx 0`. D's loss is
    ``binary_cross_entropy``.

    Source: Goodfellow et al. 2014, eq. 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return binary_cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -F.softplus(fake_logits).mean()


class NonSaturatingLoss(AdversarialLoss):
    r"""G maximises the log-probability of real; D's loss is ``binary_cross_entropy``.

    .. math:: L_G = -E \log D(G(z))

    Source: Goodfellow et al. 2014, section 3.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return binary_cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        return F.softplus(-fake_logits).mean()


class LeastSquaresLoss(AdversarialLoss):
    r"""Least-squares regression on the labels instead of classification.

    .. math::
        L_D = \tfrac{1}{2} E (D(x) - b)^2 + \tfrac{1}{2} E (D(G(z)) - a)^2, \quad
        L_G = \tfrac{1}{2} E (D(G(z)) - c)^2

    Args:
        a: D's target for generated data.
        b: D's target for real data.
        c: G's target for generated data; if b - c = 1 and b - a = 2, G minimises a Pearson
            chi-squared divergence, given the optimal D.

    Source: Mao et al. 2017, eq. 2 and 9.
    """

    def __init__(self, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> None:
        self.a, self.b, self.c = a, b, c

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real, fake = (real_logits - self.b).square(), (fake_logits - self.a).square()
        return (real.mean() + fake.mean()) / 2

    def generator(self, fake_logits: Tensor) -> Tensor:
        return (fake_logits - self.c).square().mean() / 2


class WassersteinLoss(AdversarialLoss):
    r"""The dual form of the Wasserstein-1 distance, for a 1-Lipschitz critic.

    .. math:: L_D = E D(G(z)) - E D(x), \quad L_G = -E D(G(z))

    The critic is kept Lipschitz by ``gradient_penalty``, ``clip_weights_`` or spectral norm.

    Source: Arjovsky et al. 2017, eq. 2 and algorithm 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


class HingeLoss(AdversarialLoss):
    r"""Hinge loss: D ignores examples that it classifies with a margin of 1.

    .. math:: L_D = E \max(0, 1 - D(x)) + E \max(0, 1 + D(G(z))), \quad L_G = -E D(G(z))

    Source: Lim and Ye 2017; Miyato et al. 2018, eq. 16 and 17.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


def interpolates(real: Tensor, fake: Tensor) -> Tensor:
    r"""A random point on the line between each real example and a generated one.

    .. math:: \hat x = u x + (1 - u) G(z), \quad u \sim U[0, 1]

    Shape:
        real ``[B, *shape]``, fake ``[B, *shape]`` -> ``[B, *shape]``

    Source: Gulrajani et al. 2017, section 4.
    """
    u = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return torch.lerp(fake, real, u)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], points: Tensor, norm: float = 1.0
) -> Tensor:
    r"""Penalty on the deviation of the critic's gradient norm from its target.

    .. math:: E (\lVert \nabla_{\hat x} D(\hat x) \rVert_2 - \text{norm})^2

    Args:
        critic: from points to logits, each a function of its own point, so without batch norm.
        points: where to evaluate the gradient: ``interpolates`` in the paper, real examples in
            some courses.
        norm: target of the gradient norm.
    Shape:
        points ``[B, *shape]`` -> ``[]``, differentiable in the critic's parameters

    Source: Gulrajani et al. 2017, eq. 3.

    >>> float(gradient_penalty(lambda x: 3 * x.sum(1), torch.ones(5, 1)))
    4.0
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - norm).square().mean()


@torch.no_grad()
def clip_weights_(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamp every weight to ``[-limit, limit]``, in place.

    Source: Arjovsky et al. 2017, algorithm 1, with a limit of 0.01.
    """
    for parameter in parameters:
        parameter.clamp_(-limit, limit)


def instance_noise(x: Tensor, scale: float) -> Tensor:
    """Adds Gaussian noise of standard deviation ``scale``, which smooths the task of D.

    Shape:
        x ``[B, *shape]`` -> ``[B, *shape]``

    Source: Sonderby et al. 2017, section 3.3; Arjovsky and Bottou 2017, section 3.
    """
    return x + scale * torch.randn_like(x) if scale > 0 else x
