"""Variational autoencoders: a Gaussian code for each example, and a distribution for each code.

Legend: B examples of shape ``shape``, K codes of each, L entries of a code, P parameters of the
likelihood for each entry of an example.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.generative.convolution import ConvolutionalDecoder, ConvolutionalEncoder
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation
from trellis.nn.examples import check_examples, check_labels, num_entries, one_hot


class Latents(NamedTuple):
    """What bounds on the likelihood are made of.

    Args:
        parameters: of p(x | z) for each code, ``[K, B, P, *shape]``.
        log_prior: gives ln p(z), ``[K, B]``, in nats as all that follows. A function, for a bound
            with the divergence in closed form needs neither this nor the next.
        log_posterior: gives ln q(z | x), ``[K, B]``.
        kl: KL(q(z | x) || p(z)), ``[B]``.
    """

    parameters: Tensor
    log_prior: Callable[[], Tensor]
    log_posterior: Callable[[], Tensor]
    kl: Tensor


class _GaussianVAE(nn.Module, ABC):
    """One code for each example, standard Gaussian a priori.

    A subclass says how an example becomes the mean and the log-scale of its code (``_read``) and
    how a code becomes parameters (``_write``).
    """

    def __init__(
        self, shape: tuple[int, ...], num_parameters: int, num_classes: int, latent_dim: int
    ) -> None:
        super().__init__()
        num_entries(shape)
        at_least_one("num_parameters", num_parameters)
        self.shape, self.num_parameters = tuple(shape), num_parameters
        self.num_classes, self.latent_dim = num_classes, at_least_one("latent_dim", latent_dim)

    @abstractmethod
    def _read(self, x: Tensor, y: Tensor | None) -> Tensor:
        """``x [B, *shape]`` and one-hot labels -> ``[B, 2 L]``."""

    @abstractmethod
    def _write(self, z: Tensor) -> Tensor:
        """``z [B, L + num_classes]`` -> anything that can be viewed as ``[B, P, *shape]``."""

    def forward(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Latents:
        mean, log_scale = self.encode(x, y)
        noise = torch.randn(num_samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z = torch.addcmul(mean, log_scale.exp(), noise)  # [K, B, L]
        labels = None if y is None else y.repeat(num_samples)
        parameters = self.decode(z.flatten(0, 1), labels)  # [K B, P, *shape]
        return Latents(
            parameters.view(*z.shape[:2], *parameters.shape[1:]),
            log_prior=lambda: gaussian_log_prob(z),
            log_posterior=lambda: gaussian_log_prob(noise) - log_scale.sum(-1),
            kl=gaussian_kl(mean, log_scale),
        )

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of the code, ``[B, L]`` each."""
        check_examples(x, self.shape, type(self).__name__)
        mean, log_scale = self._read(x, self._labels(y)).chunk(2, -1)
        return mean, log_scale

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z) from codes ``[B, L]``."""
        check_examples(z, (self.latent_dim,), f"{type(self).__name__}'s decoder")
        labels = self._labels(y)
        z = z if labels is None else torch.cat([z, labels], -1)
        return self._write(z).view(-1, self.num_parameters, *self.shape)

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z) at the mean code of each example."""
        return self.decode(self.encode(x, y)[0], y)

    def _labels(self, y: Tensor | None) -> Tensor | None:
        check_labels(y, self.num_classes, type(self).__name__)
        return None if y is None else one_hot(y, self.num_classes)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Parameters ``[num_samples, P, *shape]`` of p(x | z) for codes from the prior.

        Args:
            num_samples: how many.
            y: labels ``[num_samples]``, where the network is conditional.
            generator: of the codes, on their device; the global one by default.
        """
        device = next(self.parameters()).device
        return self.decode(
            torch.randn(num_samples, self.latent_dim, generator=generator, device=device), y
        )


class VAE(_GaussianVAE):
    r"""Variational autoencoder of two perceptrons.

    .. math::
        p(z) = N(0, I), \quad q(z \mid x) = N(\mu(x), \mathrm{diag}\, s(x)^2), \quad
        p(x \mid z) = \prod_d p(x_d; f_d(z))

    Codes are drawn as :math:`\mu + s \epsilon`, so that gradients pass through them. With labels
    y everything but the prior is given y (conditional VAE).

    Args:
        shape: of an example, which is flattened inside.
        num_parameters: of the likelihood for each entry, P.
        num_classes: of labels as a condition; 0 takes none.
        latent_dim: entries of a code, L.
        hidden_channels: widths of the encoder, and backwards of the decoder.
        activation: between the maps.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> ``Latents``
    Raises:
        ValueError: a size below 1, an x of another shape, or labels that do not fit.

    Source: Kingma and Welling 2014, appendix C; Sohn et al. 2015 (labels).

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
    ) -> None:
        super().__init__(shape, num_parameters, num_classes, latent_dim)
        entries = num_entries(shape)
        self.encoder = MLP(
            entries + num_classes,
            2 * latent_dim,
            hidden_channels=hidden_channels,
            activation=activation,
        )
        self.decoder = MLP(
            latent_dim + num_classes,
            num_parameters * entries,
            hidden_channels=tuple(reversed(hidden_channels)),
            activation=activation,
        )

    def _read(self, x: Tensor, y: Tensor | None) -> Tensor:
        x = x.flatten(1)
        return self.encoder(x if y is None else torch.cat([x, y], -1))

    def _write(self, z: Tensor) -> Tensor:
        return self.decoder(z)


class ConvolutionalVAE(_GaussianVAE):
    """``VAE`` with convolutions of stride 2 in the encoder, transposed ones in the decoder.

    Labels enter the encoder as constant maps beside the colours.

    Args:
        shape: of an image, ``(C, H, W)``; each layer halves H and W.
        num_parameters: see ``VAE``.
        num_classes: see ``VAE``.
        latent_dim: see ``VAE``.
        channels: maps after each convolution of the encoder, and backwards of the decoder.
        activation: between the maps.
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
    ) -> None:
        super().__init__(shape, num_parameters, num_classes, latent_dim)
        colours, *size = shape
        self.encoder = ConvolutionalEncoder(
            (colours + num_classes, *size),
            2 * latent_dim,
            channels=channels,
            activation=activation,
        )
        self.decoder = ConvolutionalDecoder(
            latent_dim + num_classes,
            (num_parameters * colours, *size),
            channels=channels,
            activation=activation,
        )

    def _read(self, x: Tensor, y: Tensor | None) -> Tensor:
        if y is not None:
            x = torch.cat([x, y[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        return self.encoder(x)

    def _write(self, z: Tensor) -> Tensor:
        return self.decoder(z)
