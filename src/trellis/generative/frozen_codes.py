"""Codes of a trained autoencoder as data for another model.

Legend: B examples, L dimensions of a code.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn


class FrozenCodes(nn.Module):
    """An autoencoder that does not learn, with its codes standardised.

    The codes' mean and variance are those of the training batches so far, as in batch norm; a
    denoiser then meets codes on the scale of its noise.

    Args:
        autoencoder: has ``latent_dim``, L, ``encode(x) -> [B, L]`` and ``decode([B, L])``.
    Raises:
        ValueError: it has none of these.

    Source: Rombach et al. 2022, section 3.2 and appendix G (scale of the codes).
    """

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        missing = [
            name for name in ("encode", "decode", "latent_dim") if not hasattr(autoencoder, name)
        ]
        if missing:
            raise ValueError(
                f"autoencoder={type(autoencoder).__name__} has no {', '.join(missing)}: give one "
                f"with codes [B, L], such as MLPAutoencoder"
            )
        self.autoencoder = autoencoder.requires_grad_(False)
        self.latent_dim: int = autoencoder.latent_dim
        self.scale: Any = nn.BatchNorm1d(self.latent_dim, eps=1e-8, momentum=None, affine=False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Standardised codes ``[B, L]`` of examples ``[B, *shape]``."""
        return self.scale(self.autoencoder.encode(x))

    def decode(self, code: Tensor) -> Tensor:
        """Examples, or logits, ``[B, *shape]`` of standardised codes ``[B, L]``."""
        deviation = (self.scale.running_var + self.scale.eps).sqrt()
        return self.autoencoder.decode(code * deviation + self.scale.running_mean)
