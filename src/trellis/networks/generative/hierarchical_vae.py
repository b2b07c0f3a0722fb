"""A variational autoencoder with two stochastic layers.

Legend: that of ``trellis.networks.generative.vae``; M dimensions of the lower latent variable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, num_entries
from trellis.generative.conditioning import append_context
from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob
from trellis.networks.generative.sampler import Sampler
from trellis.networks.generative.vae import Latents
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation


class HierarchicalVAE(Sampler):
    r"""Variational autoencoder with a hierarchy of two latent variables.

    .. math::
        p(x, z_1, z_2) = p(x \mid z_1)\, p(z_1 \mid z_2)\, N(z_2; 0, I), \quad
        q(z_1, z_2 \mid x) = q(z_1 \mid x)\, q(z_2 \mid z_1)

    ``kl`` of the ``Latents`` is in closed form for :math:`z_2`, plus an estimate for :math:`z_1`,
    for which there is none: the mean of :math:`\ln q(z_1 \mid x) - \ln p(z_1 \mid z_2)` over the
    K samples. ``encode``, ``decode`` and ``latent_dim`` refer to :math:`z_2`, and take the mean
    of :math:`z_1` in between. Labels condition :math:`q(z_1 \mid x)` and
    :math:`p(x \mid z_1)`.

    Args:
        shape, num_parameters, num_classes: see ``VAE``.
        latent_dim: dimensions of the upper latent variable z2, L.
        lower_dim: dimensions of the lower latent variable z1, M.
        hidden_channels: widths of the hidden layers between x and z1.
        upper_channels: widths of the hidden layers between z1 and z2.
        activation: of the hidden layers.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> ``Latents``
    Raises:
        ValueError: see ``VAE``.

    Source: Burda et al. 2016, section 2 and figure 1; without the ladder of Sonderby et al. 2016.
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
        super().__init__(shape, num_classes)
        entries = num_entries(shape)
        at_least_one("lower_dim", lower_dim)
        self.num_parameters = at_least_one("num_parameters", num_parameters)
        self.latent_dim = at_least_one("latent_dim", latent_dim)

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
        labels = self._one_hot(y)
        mean, log_scale = self._encode_lower(x, labels)
        noise = torch.randn(num_samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z1 = torch.addcmul(mean, log_scale.exp(), noise)  # [K, B, M]
        log_lower = gaussian_log_prob(noise) - log_scale.sum(-1)
        upper_mean, upper_log_scale = self._halves(self.upper_encoder, z1)
        upper_noise = torch.randn_like(upper_mean)
        z2 = torch.addcmul(upper_mean, upper_log_scale.exp(), upper_noise)  # [K, B, L]
        log_prior_lower = gaussian_log_prob(z1, *self._halves(self.upper_decoder, z2))
        kl = gaussian_kl(upper_mean, upper_log_scale) + log_lower - log_prior_lower
        repeated = None if labels is None else labels.repeat(num_samples, 1)
        parameters = self._decode_lower(z1.flatten(0, 1), repeated).unflatten(0, z1.shape[:2])

        def log_posterior() -> Tensor:
            return log_lower + gaussian_log_prob(upper_noise) - upper_log_scale.sum(-1)

        return Latents(
            parameters,
            log_prior=lambda: gaussian_log_prob(z2) + log_prior_lower,
            log_posterior=log_posterior,
            kl=kl.mean(0),
        )

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of q(z2 | z1) at the mean of q(z1 | x), ``[B, L]`` each."""
        mean, _ = self._encode_lower(x, self._one_hot(y))
        return self._halves(self.upper_encoder, mean)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z1) at the mean of p(z1 | z2), z2 ``[B, L]``."""
        check_examples(z, (self.latent_dim,), "HierarchicalVAE's decoder")
        mean, _ = self._halves(self.upper_decoder, z)
        return self._decode_lower(mean, self._one_hot(y))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters ``[B, P, *shape]`` of p(x | z1) at the mean of q(z1 | x)."""
        labels = self._one_hot(y)
        return self._decode_lower(self._encode_lower(x, labels)[0], labels)

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Parameters ``[N, P, *shape]`` of p(x | z1), z1 from the prior."""
        device = next(self.parameters()).device

        def noise(width: int) -> Tensor:
            return torch.randn(count, width, generator=generator, device=device)

        mean, log_scale = self._halves(self.upper_decoder, noise(self.latent_dim))
        z1 = torch.addcmul(mean, log_scale.exp(), noise(mean.size(-1)))
        return self._decode_lower(z1, self._one_hot(y))

    def _encode_lower(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of q(z1 | x), ``[B, M]`` each."""
        check_examples(x, self.shape, "HierarchicalVAE")
        return self._halves(self.encoder, append_context(x.flatten(1), labels))

    @staticmethod
    def _halves(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale, ``[..., width]`` each."""
        rows = network(x.flatten(0, -2))
        mean, log_scale = rows.unflatten(0, x.shape[:-1]).chunk(2, -1)
        return mean, log_scale

    def _decode_lower(self, z1: Tensor, labels: Tensor | None) -> Tensor:
        """Parameters of p(x | z1)."""
        parameters = self.decoder(append_context(z1, labels))
        return parameters.view(-1, self.num_parameters, *self.shape)
