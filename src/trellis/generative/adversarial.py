"""What a generator G and a discriminator D tell each other: losses, and ways to keep D smooth.

B counts examples. A logit is D's output before any sigmoid; of a Wasserstein critic it is the
score itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    """Two losses to be minimised: D's from its logits of real and generated data, and G's."""

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What D minimises; ``[B], [B] -> []``."""

    @abstractmethod
    def generator(self, fake_logits: Tensor) -> Tensor:
        """What G minimises; ``[B] -> []``."""


def binary_cross_entropy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    r"""Loss of a classifier of real and generated data.

    .. math:: -E \log D(x) - E \log(1 - D(G(z))), \quad D = \sigma(\text{logit})

    With the best D it is :math:`2 \log 2 - 2\, JS(p_{data}, p_G)`.

    Shape:
        real_logits ``[B]``, fake_logits ``[B]`` -> ``[]``

    Source: Goodfellow et al. 2014, eq. 1 and theorem 1.

    >>> binary_cross_entropy(torch.zeros(2), torch.zeros(2))
    tensor(1.3863)
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


class MinimaxLoss(AdversarialLoss):
    r"""The zero-sum game: G minimises what D maximises.

    .. math:: L_G = E \log(1 - D(G(z)))

    Where D is sure, :math:`D(G(z)) \approx 0`, its gradient vanishes; D's loss is
    ``binary_cross_entropy``.

    Source: Goodfellow et al. 2014, eq. 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return binary_cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -F.softplus(fake_logits).mean()


class NonSaturatingLoss(AdversarialLoss):
    r"""G makes its data likely to be taken for real; D's loss is ``binary_cross_entropy``.

    .. math:: L_G = -E \log D(G(z))

    Source: Goodfellow et al. 2014, section 3.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return binary_cross_entropy(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        return F.softplus(-fake_logits).mean()


class LeastSquaresLoss(AdversarialLoss):
    r"""Regression on labels instead of classification.

    .. math::
        L_D = \tfrac{1}{2} E (D(x) - b)^2 + \tfrac{1}{2} E (D(G(z)) - a)^2, \quad
        L_G = \tfrac{1}{2} E (D(G(z)) - c)^2

    Args:
        a: label of generated data.
        b: label of real data.
        c: what G wants D to say; with b - c = 1 and b - a = 2 the best D makes G minimise a
            Pearson chi-squared divergence.

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
    r"""The dual of the Wasserstein-1 distance, for a critic that is 1-Lipschitz.

    .. math:: L_D = E D(G(z)) - E D(x), \quad L_G = -E D(G(z))

    The critic has to be kept Lipschitz: ``gradient_penalty``, ``clip_weights_`` or spectral norm.

    Source: Arjovsky et al. 2017, eq. 2 and algorithm 1.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


class HingeLoss(AdversarialLoss):
    r"""D stops learning from what it gets right by a margin of 1.

    .. math:: L_D = E \max(0, 1 - D(x)) + E \max(0, 1 + D(G(z))), \quad L_G = -E D(G(z))

    Source: Lim and Ye 2017; Miyato et al. 2018, eq. 16 and 17.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


def interpolates(real: Tensor, fake: Tensor) -> Tensor:
    r"""A point on the line from each real example to a generated one.

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
    r"""How far the slope of a critic is from what it should be.

    .. math:: E (\lVert \nabla_{\hat x} D(\hat x) \rVert_2 - \text{norm})^2

    Args:
        critic: from points to logits, each of its own point alone: batch norm would mix them.
        points: where to look: ``interpolates`` in the paper, real examples in some courses.
        norm: the slope wanted.
    Shape:
        points ``[B, *shape]`` -> ``[]``, with gradients for the critic's parameters

    Source: Gulrajani et al. 2017, eq. 3.

    >>> float(gradient_penalty(lambda x: 3 * x.sum(1), torch.ones(5, 1)))
    4.0
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - norm).square().mean()


@torch.no_grad()
def clip_weights_(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamp every weight to ``[-limit, limit]``, in place.

    Source: Arjovsky et al. 2017, algorithm 1, with a limit of 0.01.
    """
    for parameter in parameters:
        parameter.clamp_(-limit, limit)


def instance_noise(x: Tensor, scale: float) -> Tensor:
    """``x`` with Gaussian noise of standard deviation ``scale``, so that D cannot be sure.

    Shape:
        x ``[B, *shape]`` -> ``[B, *shape]``

    Source: Sonderby et al. 2017, section 3.3; Arjovsky and Bottou 2017, section 3.
    """
    return x + scale * torch.randn_like(x) if scale > 0 else x
