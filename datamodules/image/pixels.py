"""What a pixel becomes before a network sees it: a number in [0, 1], a bit, a real number."""

from typing import Literal

import torch
from torch import Tensor

from trellis.checks import choose_from
from trellis.random import hashed_integers
from trellis.spec import Values

Pixels = Literal["unit", "static", "dynamic", "dequantized", "logit"]
# What the spec says of the values that each kind gives.
VALUES: dict[str, Values] = {
    "unit": "unit",
    "static": "binary",
    "dynamic": "binary",
    "dequantized": "dequantized",
    "logit": "logit",
}


class PixelValues:
    r"""Bytes as values of one kind; what is random in them is a function of a seed and a place.

    =========== ===================================================================
    kind        value of a byte k, with u uniform in [0, 1)
    =========== ===================================================================
    unit        k / 255
    static      1 with probability k / 255, else 0; drawn once
    dynamic     the same, drawn anew in each epoch of training
    dequantized x = (k + u) / 256, u drawn anew in each epoch of training
    logit       ln(s / (1 - s)) with s = alpha + (1 - 2 alpha) x of dequantized x
    =========== ===================================================================

    Args:
        kind: see above.
        alpha: keeps logits finite, in (0, 0.5); used by ``logit`` alone.
        seed: of what is drawn.
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
        """Values of bytes ``pixels``, of the same shape.

        Args:
            pixels: of type ``uint8``.
            place: whole numbers that say where the values are used, such as split, epoch and the
                first example of the batch: the same place, the same values.
        """
        if self.kind == "unit":
            return pixels / 255
        generator = torch.Generator().manual_seed(int(hashed_integers(2**31, self.seed, *place)))
        noise = torch.rand(pixels.shape, generator=generator)
        if VALUES[self.kind] == "binary":
            return (noise.mul_(255) < pixels).float()
        x = noise.add_(pixels).div_(256)
        return x.mul_(1 - 2 * self.alpha).add_(self.alpha).logit() if self.kind == "logit" else x
