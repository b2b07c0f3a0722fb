"""Approximate posteriors of a variational autoencoder beyond the diagonal Gaussian.

Legend: K samples, B examples, L latent dimensions, H features of the context.
"""

from typing import Any, Protocol

from torch import Tensor, nn

from trellis.checks import not_negative


class ConditionalFlowFactory(Protocol):
    """Builds a flow of vectors given a context of ``context_features`` numbers; called by keyword.

    The network has a ``transform``, as those of ``Flow``.
    """

    def __call__(self, shape: tuple[int, ...], context_features: int) -> nn.Module: ...


class PosteriorFactory(Protocol):
    """Builds what maps samples of a Gaussian to those of the posterior; called by keyword."""

    def __call__(self, latent_dim: int) -> "FlowPosterior": ...


class FlowPosterior(nn.Module):
    r"""Samples of the encoder's Gaussian, transformed by a flow that depends on the example.

    .. math:: z = f^{-1}(z_0; h(x)), \quad z_0 \sim N(\mu(x), \mathrm{diag}\, s(x)^2), \quad
        \ln q(z \mid x) = \ln N(z_0) - \ln |\det \partial z / \partial z_0|

    Samples are drawn from noise to data: ``IAF`` takes one pass for that, ``MAF`` goes entry by
    entry. The context h is a further output of the encoder.

    Args:
        latent_dim: L.
        flow: from ``(shape, context_features)`` to a flow, as ``IAF``.
        context_features: H, numbers of the context; 0 for a flow that is the same for all
            examples.
    Shape:
        z0 ``[K, B, L]``, context ``[B, H]`` -> z ``[K, B, L]``, log-determinants ``[K, B]``
    Raises:
        ValueError: a negative number of features.

    Source: Rezende and Mohamed 2015, section 3; Kingma et al. 2016, section 3.
    """

    flow: Any  # with a transform, which nn.Module does not declare

    def __init__(
        self, latent_dim: int, *, flow: ConditionalFlowFactory, context_features: int = 64
    ) -> None:
        super().__init__()
        self.context_features = not_negative("context_features", context_features)
        self.flow = flow(shape=(latent_dim,), context_features=context_features)

    def forward(self, z0: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        repeated = context.repeat(len(z0), 1) if self.context_features else None
        z, log_det = self.flow.transform.inverse(z0.flatten(0, 1), repeated)
        return z.view_as(z0), log_det.view(z0.shape[:2])
