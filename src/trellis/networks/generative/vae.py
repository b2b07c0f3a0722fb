"""Variational autoencoders with Gaussian latent variables.

Legend: B examples of shape ``shape``, K samples of the latent variable of each, L latent
dimensions, P parameters of the likelihood for each entry of an example.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, num_entries
from trellis.generative.conditioning import append_context
from trellis.generative.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob
from trellis.generative.posterior import PosteriorFactory
from trellis.generative.prior import PriorFactory
from trellis.networks.generative.sampler import Sampler
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation


class Latents(NamedTuple):
    """Samples z of the approximate posterior, by the terms of bounds on the likelihood, in nats.

    The log-densities are functions, since a bound with a closed-form KL divergence needs neither.

    Args:
        parameters: of p(x | z) for each sample, ``[K, B, P, *shape]``.
        log_prior: returns ln p(z), ``[K, B]``.
        log_posterior: returns ln q(z | x), ``[K, B]``.
        kl: KL(q(z | x) || p(z)), ``[B]``, in closed form or estimated from the K samples.
    """

    parameters: Tensor
    log_prior: Callable[[], Tensor]
    log_posterior: Callable[[], Tensor]
    kl: Tensor


class _GaussianVAE(Sampler):
    """One latent variable for each example; prior and posterior are Gaussian or parts.

    A subclass builds the encoder and the decoder, and defines the input of the encoder.

    Args:
        num_parameters: of the likelihood for each entry, P.
        latent_dim: L.
        prior: see ``VAE``.
        posterior: see ``VAE``.
    """

    encoder: nn.Module  # to means, log-scales and a context, [B, encoded_features]
    decoder: nn.Module  # from [B, L + num_classes] to anything that can be viewed as parameters

    def __init__(
        self,
        shape: tuple[int, ...],
        num_parameters: int,
        num_classes: int,
        latent_dim: int,
        prior: PriorFactory | None,
        posterior: PosteriorFactory | None,
    ) -> None:
        super().__init__(shape, num_classes)
        num_entries(shape)
        self.num_parameters = at_least_one("num_parameters", num_parameters)
        self.latent_dim = at_least_one("latent_dim", latent_dim)
        self.prior = self.posterior = None
        if prior is not None:
            self.prior = prior(shape=shape, num_classes=num_classes, latent_dim=latent_dim)
        if posterior is not None:
            self.posterior = posterior(latent_dim=latent_dim)
        context = 0 if self.posterior is None else self.posterior.context_features
        self.encoded_features = 2 * latent_dim + context

    @abstractmethod
    def _entries(self, x: Tensor) -> Tensor:
        """Examples ``[B, *shape]`` in the shape that the encoder takes, without the labels."""

    def forward(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Latents:
        mean, log_scale, context = self._encode(x, y)
        noise = torch.randn(num_samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z = torch.addcmul(mean, log_scale.exp(), noise)  # [K, B, L]
        log_det: Tensor | float = 0.0
        if self.posterior is not None:
            z, log_det = self.posterior(z, context)
        labels = None if y is None else y.repeat(num_samples)
        parameters = self.decode(z.flatten(0, 1), labels)  # [K B, P, *shape]
        parameters = parameters.view(*z.shape[:2], *parameters.shape[1:])

        def log_posterior() -> Tensor:
            return gaussian_log_prob(noise) - log_scale.sum(-1) - log_det

        if self.prior is None and self.posterior is None:
            kl = gaussian_kl(mean, log_scale)
            return Latents(parameters, lambda: gaussian_log_prob(z), log_posterior, kl)
        above, below = log_posterior(), self._log_prior(z)
        return Latents(parameters, lambda: below, lambda: above, (above - below).mean(0))

    def _log_prior(self, z: Tensor) -> Tensor:
        return gaussian_log_prob(z) if self.prior is None else self.prior.log_prob(z, self.encode)

    def _encode(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and log-scale ``[B, L]`` of the encoder's Gaussian, and the flow's context."""
        check_examples(x, self.shape, type(self).__name__)
        entries = append_context(self._entries(x), self._one_hot(y))
        context = self.encoded_features - 2 * self.latent_dim
        mean, log_scale, rest = self.encoder(entries).split(
            [self.latent_dim, self.latent_dim, context], -1
        )
        return mean, log_scale, rest

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of q(z | x), ``[B, L]`` each.

        With a flow as posterior: where the flow takes the mean of the Gaussian, and the
        log-scale of the Gaussian.
        """
        mean, log_scale, context = self._encode(x, y)
        if self.posterior is not None:
            mean = self.posterior(mean.unsqueeze(0), context)[0].squeeze(0)
        return mean, log_scale

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z) for latent variables ``[B, L]``."""
        check_examples(z, (self.latent_dim,), f"{type(self).__name__}'s decoder")
        parameters = self.decoder(append_context(z, self._one_hot(y)))
        return parameters.view(-1, self.num_parameters, *self.shape)

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z) at the mean of q(z | x)."""
        return self.decode(self.encode(x, y)[0], y)

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Parameters ``[N, P, *shape]`` of p(x | z), z from the prior."""
        if self.prior is not None:
            return self.decode(self.prior.draw(count, self.encode, generator), y)
        device = next(self.parameters()).device
        z = torch.randn(count, self.latent_dim, generator=generator, device=device)
        return self.decode(z, y)


class VAE(_GaussianVAE):
    r"""Variational autoencoder of two perceptrons.

    .. math::
        p(z) = N(0, I), \quad q(z \mid x) = N(\mu(x), \mathrm{diag}\, s(x)^2), \quad
        p(x \mid z) = \prod_d p(x_d; f_d(z))

    Samples are reparametrised as :math:`\mu + s \epsilon`, so that gradients flow through them.
    With labels y, all distributions but the prior are conditional on y.

    Args:
        hidden_channels: widths of the encoder, in reverse those of the decoder.
        activation: of the hidden layers.
        prior: p(z), as ``FlowPrior`` or ``VampPrior``; ``None`` for N(0, I).
        posterior: what transforms the samples of the Gaussian q(z | x), as ``FlowPosterior``;
            ``None`` leaves them. With a prior or a posterior the KL divergence is estimated from
            the samples; otherwise it has a closed form.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> ``Latents``
    Raises:
        ValueError: a size below 1, an x of another shape, or labels that do not fit.

    Source: Kingma and Welling 2014, appendix C; Sohn et al. 2015 (labels); for other priors and
    posteriors see those.

    >>> sum(p.numel() for p in VAE((784,), 1, latent_dim=20).parameters())
    652824
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_parameters: int,
        *,
        num_classes: int = 0,
        latent_dim: int = 20,
        hidden_channels: Sequence[int] = (400,),
        activation: Activation = "relu",
        prior: PriorFactory | None = None,
        posterior: PosteriorFactory | None = None,
    ) -> None:
        super().__init__(shape, num_parameters, num_classes, latent_dim, prior, posterior)
        entries = num_entries(shape)
        self.encoder = MLP(
            entries + num_classes,
            self.encoded_features,
            hidden_channels=hidden_channels,
            activation=activation,
        )
        self.decoder = MLP(
            latent_dim + num_classes,
            num_parameters * entries,
            hidden_channels=tuple(reversed(hidden_channels)),
            activation=activation,
        )

    def _entries(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ConvolutionalVAE(_GaussianVAE):
    """``VAE`` with convolutions of stride 2 in the encoder, transposed ones in the decoder.

    Labels enter the encoder as further channels of the image, constant over the pixels.

    Args:
        shape: of an image, ``(C, H, W)``; each layer halves H and W.
        channels: of each convolution of the encoder, in reverse those of the decoder.
        activation: see ``VAE``.
        prior: see ``VAE``.
        posterior: see ``VAE``.
    Shape:
        x ``[B, C, H, W]``, y ``[B]`` -> ``Latents``
    Raises:
        ValueError: see ``VAE``; or an image that cannot be halved so often.

    Source: Kingma and Welling 2014; the layers are those of Radford et al. 2016.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_parameters: int,
        *,
        num_classes: int = 0,
        latent_dim: int = 20,
        channels: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        prior: PriorFactory | None = None,
        posterior: PosteriorFactory | None = None,
    ) -> None:
        super().__init__(shape, num_parameters, num_classes, latent_dim, prior, posterior)
        colours, *size = shape
        self.encoder = ConvolutionalEncoder(
            (colours + num_classes, *size),
            self.encoded_features,
            channels=channels,
            activation=activation,
        )
        self.decoder = ConvolutionalDecoder(
            latent_dim + num_classes,
            (num_parameters * colours, *size),
            channels=channels,
            activation=activation,
        )

    def _entries(self, x: Tensor) -> Tensor:
        return x
