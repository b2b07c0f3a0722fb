"""Learned priors of the latent variable of a variational autoencoder, in place of N(0, I).

Legend: N latent variables, L latent dimensions, C components of a mixture.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.generative.gaussian import HALF_LOG_TWO_PI

# From examples [N, *shape] to the means and log-scales [N, L] of q(z | x).
Encode = Callable[[Tensor], tuple[Tensor, Tensor]]


class Prior(nn.Module, ABC):
    """A distribution p(z) that is learnt with the network whose prior it is; abstract.

    Its methods take ``encode``, of the network as it is at that moment, without labels.
    """

    @abstractmethod
    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        """Log-densities ``[...]`` in nats of latent variables ``[..., L]``."""

    @abstractmethod
    def draw(self, count: int, encode: Encode, generator: torch.Generator | None) -> Tensor:
        """``count`` latent variables ``[count, L]``; random numbers by ``generator``."""


class PriorFactory(Protocol):
    """Builds a prior; called by keyword, with the sizes of its network."""

    def __call__(self, shape: tuple[int, ...], num_classes: int, latent_dim: int) -> Prior: ...


class VectorDensityFactory(Protocol):
    """Builds a density of vectors from their shape, as ``RealNVP``; called by keyword.

    The network has ``forward(x) -> log_prob [B]`` in nats and ``sample(num_samples,
    generator=...) -> [num_samples, *shape]``.
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class FlowPrior(Prior):
    """A normalizing flow, or another density of vectors, as the prior.

    Args:
        shape, num_classes: not used: z does not depend on labels.
        latent_dim: L.
        flow: from ``(shape)`` to a density, as ``RealNVP`` or ``MAF``.
    Shape:
        z ``[..., L]`` -> ``[...]``

    Source: Chen et al. 2017 (Variational lossy autoencoder), section 3.2.
    """

    flow: Any  # with sample, which nn.Module does not declare

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        latent_dim: int,
        *,
        flow: VectorDensityFactory,
    ) -> None:
        super().__init__()
        self.flow = flow(shape=(latent_dim,))

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        return self.flow(z.flatten(0, -2)).view(z.shape[:-1])

    def draw(self, count: int, encode: Encode, generator: torch.Generator | None) -> Tensor:
        return self.flow.sample(count, generator=generator)


class VampPrior(Prior):
    r"""The mixture of the approximate posteriors of learned pseudo-inputs.

    .. math:: p(z) = \frac1C \sum_c q(z \mid u_c)

    The gradient with respect to the encoder flows through the pseudo-inputs, too.

    Args:
        shape: of an example, and of a pseudo-input.
        num_classes: 0; there are no labels of pseudo-inputs.
        latent_dim: L.
        num_components: C.
    Shape:
        z ``[..., L]`` -> ``[...]``
    Raises:
        ValueError: fewer than one component, or a network with labels.

    Source: Tomczak and Welling 2018, section 3.
    Deviates: pseudo-inputs are not confined to the range of the data.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        latent_dim: int,
        *,
        num_components: int = 500,
    ) -> None:
        super().__init__()
        at_least_one("num_components", num_components)
        if num_classes:
            raise ValueError(
                f"VampPrior: its pseudo-inputs have no labels, but num_classes={num_classes}; "
                f"take another prior, or conditional=False"
            )
        self.pseudo_inputs = nn.Parameter(torch.rand(num_components, *shape))

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        mean, log_scale = encode(self.pseudo_inputs)
        precision = torch.exp(-2 * log_scale)
        # The square, expanded: a tensor [..., C, L] would take most of a step.
        linear = mean * precision
        constant = 0.5 * (mean * linear).sum(-1) + log_scale.sum(-1)
        quadratic = z @ linear.t() - 0.5 * (z.square() @ precision.t())
        count = math.log(len(mean)) + z.size(-1) * HALF_LOG_TWO_PI
        return (quadratic - constant).logsumexp(-1) - count

    def draw(self, count: int, encode: Encode, generator: torch.Generator | None) -> Tensor:
        inputs = self.pseudo_inputs
        chosen = torch.randint(len(inputs), (count,), generator=generator, device=inputs.device)
        mean, log_scale = (each[chosen] for each in encode(inputs))
        noise = torch.empty_like(mean).normal_(generator=generator)
        return torch.addcmul(mean, log_scale.exp(), noise)
