"""A variational autoencoder of two levels of codes.

Legend: as in ``trellis.networks.generative.vae``; M entries of a lower code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob
from trellis.networks.generative.vae import Latents
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation
from trellis.nn.examples import check_examples, check_labels, num_entries, one_hot


class HierarchicalVAE(nn.Module):
    r"""Variational autoencoder whose code has a code.

    .. math::
        p(x, z_1, z_2) = p(x \mid z_1)\, p(z_1 \mid z_2)\, N(z_2; 0, I), \quad
        q(z_1, z_2 \mid x) = q(z_1 \mid x)\, q(z_2 \mid z_1)

    ``kl`` of the ``Latents`` is the closed form for the upper level, plus an estimate for the
    lower one, which has none: the mean of :math:`\ln q(z_1 \mid x) - \ln p(z_1 \mid z_2)` over
    the K samples. The code of ``encode``, ``decode`` and ``latent_dim`` is the upper one, of the
    lower's mean where that stands between; labels condition :math:`q(z_1 \mid x)` and
    :math:`p(x \mid z_1)`.

    Args:
        shape: of an example, which is flattened inside.
        num_parameters: of the likelihood for each entry, P.
        num_classes: of labels as a condition; 0 takes none.
        latent_dim: entries of an upper code, L.
        lower_dim: entries of a lower code, M.
        hidden_channels: widths between x and the lower code.
        upper_channels: widths between the two codes.
        activation: between the maps.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> ``Latents``
    Raises:
        ValueError: see ``VAE``.

    Source: Burda et al. 2016, section 2 and figure 1; ladder-free in the sense of Sonderby et
    al. 2016.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_parameters: int,
        *,
        num_classes: int = 0,
        latent_dim: int = 20,
        lower_dim: int = 50,
        hidden_channels: Sequence[int] = (200, 200),
        upper_channels: Sequence[int] = (100, 100),
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        entries = num_entries(shape)
        at_least_one("num_parameters", num_parameters)
        at_least_one("lower_dim", lower_dim)
        self.shape, self.num_parameters = tuple(shape), num_parameters
        self.num_classes, self.latent_dim = num_classes, at_least_one("latent_dim", latent_dim)

        def mlp(in_channels: int, out_channels: int, widths: Sequence[int]) -> MLP:
            return MLP(
                in_channels, out_channels, hidden_channels=tuple(widths), activation=activation
            )

        self.encoder = mlp(entries + num_classes, 2 * lower_dim, hidden_channels)
        self.upper_encoder = mlp(lower_dim, 2 * latent_dim, upper_channels)
        self.upper_decoder = mlp(latent_dim, 2 * lower_dim, upper_channels[::-1])
        self.decoder = mlp(
            lower_dim + num_classes, num_parameters * entries, hidden_channels[::-1]
        )

    def forward(self, x: Tensor, y: Tensor | None = None, num_samples: int = 1) -> Latents:
        labels = self._labels(y)
        mean, log_scale = self._lower(x, labels)
        noise = torch.randn(num_samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z1 = torch.addcmul(mean, log_scale.exp(), noise)  # [K, B, M]
        log_lower = gaussian_log_prob(noise) - log_scale.sum(-1)
        upper_mean, upper_log_scale = self._halves(self.upper_encoder, z1)
        upper_noise = torch.randn_like(upper_mean)
        z2 = torch.addcmul(upper_mean, upper_log_scale.exp(), upper_noise)  # [K, B, L]
        log_prior_lower = gaussian_log_prob(z1, *self._halves(self.upper_decoder, z2))
        kl = gaussian_kl(upper_mean, upper_log_scale) + log_lower - log_prior_lower
        repeated = None if labels is None else labels.repeat(num_samples, 1)
        parameters = self._write(z1.flatten(0, 1), repeated).unflatten(0, z1.shape[:2])

        def log_posterior() -> Tensor:
            return log_lower + gaussian_log_prob(upper_noise) - upper_log_scale.sum(-1)

        return Latents(
            parameters,
            log_prior=lambda: gaussian_log_prob(z2) + log_prior_lower,
            log_posterior=log_posterior,
            kl=kl.mean(0),
        )

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of the upper code given the lower code's mean, ``[B, L]`` each."""
        mean, _ = self._lower(x, self._labels(y))
        return self._halves(self.upper_encoder, mean)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` from upper codes ``[B, L]`` by the lower code's mean."""
        check_examples(z, (self.latent_dim,), "HierarchicalVAE's decoder")
        mean, _ = self._halves(self.upper_decoder, z)
        return self._write(mean, self._labels(y))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z1) at the mean lower code of each example."""
        labels = self._labels(y)
        return self._write(self._lower(x, labels)[0], labels)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Parameters ``[num_samples, P, *shape]`` for codes of both levels; see ``VAE.sample``."""
        device = next(self.parameters()).device

        def noise(width: int) -> Tensor:
            return torch.randn(num_samples, width, generator=generator, device=device)

        mean, log_scale = self._halves(self.upper_decoder, noise(self.latent_dim))
        z1 = torch.addcmul(mean, log_scale.exp(), noise(mean.size(-1)))
        return self._write(z1, self._labels(y))

    def _lower(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        check_examples(x, self.shape, "HierarchicalVAE")
        x = x.flatten(1)
        return self._halves(self.encoder, x if labels is None else torch.cat([x, labels], -1))

    @staticmethod
    def _halves(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale, ``[..., width]`` each."""
        rows = network(x.flatten(0, -2))
        mean, log_scale = rows.unflatten(0, x.shape[:-1]).chunk(2, -1)
        return mean, log_scale

    def _write(self, z1: Tensor, labels: Tensor | None) -> Tensor:
        z1 = z1 if labels is None else torch.cat([z1, labels], -1)
        return self.decoder(z1).view(-1, self.num_parameters, *self.shape)

    def _labels(self, y: Tensor | None) -> Tensor | None:
        check_labels(y, self.num_classes, "HierarchicalVAE")
        return None if y is None else one_hot(y, self.num_classes)
