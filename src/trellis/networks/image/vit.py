"""Vision transformers: images as sequences of patches."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_images, check_sizes, does_not_fit
from trellis.nn.initialization import initialize_
from trellis.nn.positional import LearnedPositions
from trellis.nn.transformer_layer import EncoderLayers, LayerOptions


class ViT(nn.Module):
    """Vision transformer: a class token and one token per patch, through pre-norm layers.

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        image_size: height and width of an image.
        patch_size: height and width of a patch; divides ``image_size``.
        embed_dim: width D.
        num_heads: attention heads H of a layer; divides ``embed_dim``.
        num_layers: number of layers.
        feedforward_dim: hidden width of the feed-forward networks.
        dropout: probability after embeddings and sublayers.
    Shape:
        x ``[B, in_channels, image_size, image_size]`` -> ``[B, out_channels]``
    Raises:
        ValueError: an impossible size, or an image of another size.

    Source: Dosovitskiy et al. 2021, eq. 1-4; the head is one linear layer, as in their
    fine-tuning.

    >>> ViT(1, 10, image_size=28, patch_size=7)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image_size: int = 28,
        patch_size: int = 4,
        embed_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 4,
        feedforward_dim: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("patch_size", patch_size)
        if at_least_one("image_size", image_size) % patch_size:
            raise ValueError(f"patch_size={patch_size}: give a divisor of image_size={image_size}")
        self.in_channels, self.image_size = in_channels, image_size
        options = LayerOptions(
            embed_dim, num_heads, feedforward_dim, dropout=dropout, activation="gelu"
        )
        self.patches = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        self.first = nn.Parameter(torch.zeros(embed_dim))
        self.positions = LearnedPositions(embed_dim, (image_size // patch_size) ** 2 + 1)
        self.dropout = nn.Dropout(dropout)
        self.layers = EncoderLayers(options, num_layers)
        self.norm = nn.LayerNorm(embed_dim)
        self.output = nn.Linear(embed_dim, out_channels)
        initialize_(self, "xavier")
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self._embed(x))
        return self.output(self.norm(x[:, 0]))

    def attention_weights(self, x: Tensor) -> list[Tensor]:
        """Attention weights of each layer, ``[B, H, N + 1, N + 1]`` for N patches, row by row."""
        return self.layers.weights(self._embed(x))

    def _embed(self, x: Tensor) -> Tensor:
        """Embeddings ``[B, N + 1, D]`` of the class token and the N patches."""
        check_images(x, self.in_channels, "ViT")
        if x.shape[2:] != (self.image_size, self.image_size):
            wanted = f"[B, {self.in_channels}, {self.image_size}, {self.image_size}]"
            raise does_not_fit("x", x, f"ViT(image_size={self.image_size})", wanted)
        patches = self.patches(x).flatten(2).transpose(1, 2)  # [B, N, D]
        first = self.first.expand(x.size(0), 1, -1)
        x, _ = self.positions(torch.cat([first, patches], 1))
        return self.dropout(x)
