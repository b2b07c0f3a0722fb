"""From the bytes of images to what networks take: numbers in [0, 1], bits, real numbers."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.loader import Loader
from trellis.random import hashed_integers
from trellis.spec import Values

Pixels = Literal["unit", "static", "dynamic", "dequantized", "logit"]
# What the spec says about the values of each kind.
VALUES: dict[str, Values] = {
    "unit": "unit",
    "static": "binary",
    "dynamic": "binary",
    "dequantized": "dequantized",
    "logit": "logit",
}


class PixelValues:
    r"""Bytes to values of one kind; their noise is a function of a seed and of where it is used.

    =========== ===================================================================
    kind        value of a byte k, with u uniform in [0, 1)
    =========== ===================================================================
    unit        k / 255
    static      1 with probability k / 255, else 0; drawn once
    dynamic     the same, drawn again in each epoch of training
    dequantized x = (k + u) / 256, u drawn again in each epoch of training
    logit       ln(s / (1 - s)) with s = alpha + (1 - 2 alpha) x of dequantized x
    =========== ===================================================================

    Args:
        kind: see above.
        alpha: keeps logits finite, in (0, 0.5); used by ``logit`` only.
        seed: of the random draws.
    Raises:
        ValueError: an unknown kind, or ``alpha`` out of range.

    Source: Salakhutdinov and Murray 2008 (static); Burda et al. 2016 (dynamic); Uria et al. 2013
    (dequantized); Dinh et al. 2017, section 4.1, and Papamakarios et al. 2017 (logit).
    """

    def __init__(self, kind: Pixels, alpha: float = 1e-6, seed: int = 0) -> None:
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha={alpha}: give more than 0 and less than 0.5")
        self.kind = choose_from("pixels", kind, Pixels)
        self.alpha, self.seed = alpha, seed

    def __call__(self, pixels: Tensor, *place: int) -> Tensor:
        """Values of bytes, of the same shape.

        Args:
            pixels: bytes, of type ``uint8``.
            place: integers that identify the use, such as split, epoch and the first example of
                the batch: the same place gives the same values.
        """
        if self.kind == "unit":
            return pixels / 255
        generator = torch.Generator().manual_seed(int(hashed_integers(2**31, self.seed, *place)))
        noise = torch.rand(pixels.shape, generator=generator)
        if VALUES[self.kind] == "binary":
            return (noise.mul_(255) < pixels).float()
        x = noise.add_(pixels).div_(256)
        return x.mul_(1 - 2 * self.alpha).add_(self.alpha).logit() if self.kind == "logit" else x

    def is_fixed(self, train: bool) -> bool:
        """Whether the values are random and the same in each epoch, so that they can be kept."""
        return self.kind == "static" or (self.kind != "unit" and not train)

    def fixed(self, pixels: Tensor, *place: int) -> Tensor:
        """Values to keep in memory; those that are bits stay bytes."""
        values = self(pixels, *place)
        return values.to(torch.uint8) if VALUES[self.kind] == "binary" else values


def image_loader(
    pixels: Tensor,
    labels: Tensor,
    shape: tuple[int, ...],
    values: Callable[[Tensor, int, int], Tensor],
    fixed: Tensor | None,
    *,
    batch_size: int,
    train: bool,
    further: Callable[[int, int], Tensor] | None = None,
) -> Loader[tuple[Tensor, Tensor]]:
    """Batches ``(x, y)`` of images that are kept as bytes and become values batch by batch.

    Args:
        pixels: bytes ``[N, K]``.
        labels: ``[N]``.
        shape: of one example x.
        values: ``(pixels [B, K], epoch, first example of the batch)`` -> values ``[B, K]``.
        fixed: the values of all images, where no epoch changes them; instead of ``values``.
        batch_size: examples per batch.
        train: shuffle, and pad over processes.
        further: ``(epoch, first example of the batch)`` -> indices of examples to add to it.
    """

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        if further is not None:
            indices = torch.cat([indices, further(loader.epoch, int(indices[0]))])
        if fixed is None:
            x = values(pixels.index_select(0, indices), loader.epoch, int(indices[0]))
        else:
            x = fixed.index_select(0, indices).float()
        return x.view(-1, *shape), labels.index_select(0, indices)

    loader = Loader(len(pixels), batch, batch_size=batch_size, shuffle=train)
    return loader
