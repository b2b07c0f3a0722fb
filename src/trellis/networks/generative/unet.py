"""The U-Net of diffusion and flow matching: images at several resolutions, told their time.

Legend: B images of C channels, H x W pixels; K classes of a conditional network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, check_labels, probability
from trellis.nn.attention import SelfAttention
from trellis.nn.positional import sinusoids


class UNet(nn.Module):
    """Residual convolutions down to small images and up again, joined at each resolution.

    Args:
        shape: of an image, ``(C, H, W)``; H and W are divisible by 2 for each resolution but the
            last.
        num_classes: K of a conditional network, 0 for an unconditional one.
        channels: of the largest resolution.
        multipliers: channels of each resolution, in ``channels``; each halves the image.
        num_blocks: residual blocks of each resolution, and one more on the way up.
        attention: resolutions, by their number from 0, whose blocks attend to all pixels.
        num_heads: of the attention.
        dropout: probability inside the residual blocks.
    Shape:
        x ``[B, C, H, W]``, t ``[B]`` in [0, 1], y ``[B]`` -> ``[B, C, H, W]``
    Raises:
        ValueError: a size below 1, an image that cannot be halved so often, images of another
            shape, or labels that are missing, superfluous or out of range.

    Source: Ronneberger et al. 2015; Ho et al. 2020, appendix B; Dhariwal and Nichol 2021, section
    3 (several heads). The output begins at 0, as do residual blocks.

    >>> UNet((1, 8, 8), channels=8)(torch.zeros(2, 1, 8, 8), torch.rand(2)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        num_blocks: int = 1,
        attention: Sequence[int] = (2,),
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes
        self.channels = at_least_one("channels", channels)
        at_least_one("num_blocks", num_blocks)
        factor = 2 ** (len(multipliers) - 1)
        if len(self.shape) != 3 or any(side % factor for side in self.shape[1:]):
            raise ValueError(
                f"shape={self.shape}: UNet takes images (C, H, W) that {len(multipliers)} "
                f"multipliers can halve, so with sides divisible by {factor}"
            )
        embed_dim = 4 * channels
        self.time = nn.Sequential(
            nn.Linear(channels, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim)
        )
        self.label = nn.Embedding(num_classes, embed_dim) if num_classes else None
        self.first = nn.Conv2d(self.shape[0], channels, 3, padding=1)

        def block(inputs: int, outputs: int, level: int) -> "_Block":
            heads = num_heads if level in attention else 0
            return _Block(inputs, outputs, embed_dim, dropout, heads)

        widths = [channels * multiplier for multiplier in multipliers]
        kept, width = [channels], channels
        self.down = nn.ModuleList()
        for level, wanted in enumerate(widths):
            for _ in range(num_blocks):
                self.down.append(block(width, wanted, level))
                width = wanted
                kept.append(width)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle = block(width, width, len(widths) - 1)
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(num_blocks + 1):
                self.up.append(block(width + kept.pop(), widths[level], level))
                width = widths[level]
            if level:
                self.up.append(_Larger(width))
        self.last = nn.Sequential(
            _norm(width), nn.SiLU(), _zero(nn.Conv2d(width, self.shape[0], 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, "UNet")
        check_labels(y, self.num_classes, "UNet")
        # Sinusoids are made for positions in a sequence; 1,000 of them are the scale of Ho et al.
        known = self.time(sinusoids(1000 * t, self.channels).to(x.dtype))
        if self.label is not None and y is not None:
            known = known + self.label(y)
        x = self.first(x)
        kept = [x]
        for layer in self.down:
            x = layer(x, known) if isinstance(layer, _Block) else layer(x)
            kept.append(x)
        x = self.middle(x, known)
        for layer in self.up:
            joined = isinstance(layer, _Block)
            x = layer(torch.cat([x, kept.pop()], 1), known) if joined else layer(x)
        return self.last(x)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, told the time between them; then attention, if any."""

    def __init__(
        self, inputs: int, outputs: int, embed_dim: int, dropout: float, num_heads: int
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.known = nn.Linear(embed_dim, outputs)
        self.second = nn.Sequential(
            _norm(outputs),
            nn.SiLU(),
            nn.Dropout(probability("dropout", dropout)),
            _zero(nn.Conv2d(outputs, outputs, 3, padding=1)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.attention = _PixelAttention(outputs, num_heads) if num_heads else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        hidden = self.first(x) + self.known(nn.functional.silu(known))[:, :, None, None]
        return self.attention(self.shortcut(x) + self.second(hidden))


class _PixelAttention(nn.Module):
    """Every pixel attends to every pixel, beside a shortcut."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.attention = SelfAttention(channels, num_heads)
        _zero(self.attention.output)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # [B, H W, C]
        return x + self.attention(pixels).transpose(1, 2).reshape(x.shape)


class _Larger(nn.Module):
    """Twice the height and width: each pixel four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(channels: int) -> nn.GroupNorm:
    """Groups of at least four channels."""
    groups = next(n for n in (8, 4, 2, 1) if channels % n == 0 and channels // n >= 4 or n == 1)
    return nn.GroupNorm(groups, channels)


def _zero(layer: nn.Module) -> nn.Module:
    """A layer whose output begins at 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
