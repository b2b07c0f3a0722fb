"""Coupling: one part of the numbers decides how the other is mapped; and what images need for it.

Legend: B examples, D features, C channels, H and W sides of an image, P parameters per number, K
context features. A conditioner is any network with P outputs for each number that is mapped.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.generative.transform import Elementwise, Transform


class Coupling(Transform):
    r"""The first half stays and decides how the second is mapped; or the other way round.

    .. math:: z_1 = x_1, \quad z_2 = f(x_2; \theta(x_1))

    Both ways take one pass of the conditioner. Of vectors halves the features, of images the
    channels; of an odd number the first half is the larger one.

    Args:
        channels: features D, or channels C.
        elementwise: the map f: additive for NICE, affine for RealNVP, or a spline.
        conditioner: from ``coupled_sizes(channels, swap)[0]`` channels, and K of context, to P
            for each of the other half's: first the first parameter of all, then the second.
        swap: the second half stays and decides.
    Shape:
        x ``[B, D]`` or ``[B, C, H, W]``, context ``[B, K]`` -> z as x, log-determinant ``[B]``
    Raises:
        ValueError: fewer than two channels.

    Source: Dinh et al. 2015, section 3.2; Dinh et al. 2017, section 3.2.
    """

    def __init__(
        self,
        channels: int,
        elementwise: Elementwise,
        conditioner: nn.Module,
        *,
        swap: bool = False,
    ) -> None:
        super().__init__()
        self.split = sorted(coupled_sizes(channels, swap=swap), reverse=True)
        self.elementwise, self.conditioner, self.swap = elementwise, conditioner, swap

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, mapped = self._parts(x)
        parameters = self._conditioned(kept, mapped, context)
        return self._whole(kept, *self.elementwise.forward(mapped, parameters))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, mapped = self._parts(z)
        parameters = self._conditioned(kept, mapped, context)
        return self._whole(kept, *self.elementwise.inverse(mapped, parameters))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.split, 1)
        return (second, first) if self.swap else (first, second)

    def _conditioned(self, kept: Tensor, mapped: Tensor, context: Tensor | None) -> Tensor:
        parameters = self.conditioner(beside(kept, context))
        count = self.elementwise.num_parameters
        parameters = parameters.view(len(kept), count, *mapped.shape[1:])
        return parameters.movedim(1, -1)  # [B, D, P] or [B, C, H, W, P]

    def _whole(self, kept: Tensor, mapped: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        parts = [mapped, kept] if self.swap else [kept, mapped]
        return torch.cat(parts, 1), log_slope.flatten(1).sum(1)


def coupled_sizes(channels: int, *, swap: bool = False) -> tuple[int, int]:
    """How many of ``channels`` stay, and how many are mapped.

    Raises:
        ValueError: fewer than two.

    >>> coupled_sizes(5), coupled_sizes(5, swap=True)
    ((3, 2), (2, 3))
    """
    if channels < 2:
        raise ValueError(
            f"channels={channels}: coupling needs two numbers at least, one to decide and one to "
            f"be mapped; take an autoregressive flow"
        )
    first = channels - channels // 2
    return (channels - first, first) if swap else (first, channels - first)


class CheckerboardCoupling(Transform):
    """The white squares of an image stay and decide how the black ones are mapped.

    Args:
        channels: C.
        elementwise: the map of a number.
        conditioner: from C channels, zero at the squares to be mapped, and K of context, to C P.
        swap: the black squares stay.
    Shape:
        x ``[B, C, H, W]``, context ``[B, K]`` -> z ``[B, C, H, W]``, log-determinant ``[B]``

    Source: Dinh et al. 2017, section 3.4.
    """

    def __init__(
        self,
        channels: int,
        elementwise: Elementwise,
        conditioner: nn.Module,
        *,
        swap: bool = False,
    ) -> None:
        super().__init__()
        at_least_one("channels", channels)
        self.elementwise, self.conditioner, self.swap = elementwise, conditioner, swap

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        keep, parameters = self._conditioned(x, context)
        return self._whole(keep, x, *self.elementwise.forward(x, parameters))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        keep, parameters = self._conditioned(z, context)
        return self._whole(keep, z, *self.elementwise.inverse(z, parameters))

    def _conditioned(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        keep = checkerboard(x.size(2), x.size(3), x.device) ^ self.swap
        parameters = self.conditioner(beside(x * keep, context))
        parameters = parameters.view(len(x), self.elementwise.num_parameters, *x.shape[1:])
        return keep, parameters.movedim(1, -1)

    def _whole(
        self, keep: Tensor, x: Tensor, mapped: Tensor, log_slope: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.where(keep, x, mapped), (log_slope * ~keep).flatten(1).sum(1)


def checkerboard(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """True on every second square, ``[height, width]``, the first among them.

    >>> checkerboard(2, 3).int()
    tensor([[1, 0, 1],
            [0, 1, 0]], dtype=torch.int32)
    """
    rows = torch.arange(height, device=device)
    return (rows[:, None] + torch.arange(width, device=device)) % 2 == 0


def beside(x: Tensor, context: Tensor | None) -> Tensor:
    """``x [B, C, ...]`` with ``context [B, K]`` as further channels, ``[B, C + K, ...]``."""
    if context is None:
        return x
    planes = context.view(*context.shape, *(1 for _ in x.shape[2:]))
    return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)


class Squeeze(Transform):
    """Squares of two by two pixels as four times the channels.

    Shape:
        x ``[B, C, H, W]`` -> z ``[B, 4 C, H / 2, W / 2]``

    Source: Dinh et al. 2017, section 3.6.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z, 2), z.new_zeros(len(z))


class MultiScale(Transform):
    """After each level but the last half the channels are done; the others go on.

    Args:
        levels: transforms of images, each of what the last let through.
        shapes: ``(C, H, W)`` that come out of each.
    Shape:
        x ``[B, C, H, W]`` -> z ``[B, D]``: what was done first comes first
    Raises:
        ValueError: as many shapes as levels are needed, and even channels at each but the last.

    Source: Dinh et al. 2017, section 3.6.
    """

    def __init__(self, levels: Sequence[Transform], shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if len(levels) != len(shapes) or any(shape[0] % 2 for shape in shapes[:-1]):
            raise ValueError(
                f"shapes={list(map(tuple, shapes))}: give one for each of {len(levels)} levels, "
                f"with even channels where half of them leave"
            )
        self.levels = cast(Sequence[Transform], nn.ModuleList(levels))
        left = [(channels // 2, *size) for channels, *size in shapes[:-1]]
        self.shapes = [*left, tuple(shapes[-1])]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        done, total = [], x.new_zeros(len(x))
        for number, level in enumerate(self.levels):
            x, log_det = level(x, context)
            total = total + log_det
            if number + 1 < len(self.levels):
                x, leaves = x.chunk(2, 1)
                done.append(leaves.flatten(1))
        return torch.cat([*done, x.flatten(1)], 1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *done, last = z.split([math.prod(shape) for shape in self.shapes], 1)
        x, total = last.unflatten(1, self.shapes[-1]), z.new_zeros(len(z))
        for number in reversed(range(len(self.levels))):
            if number < len(done):
                x = torch.cat([x, done[number].unflatten(1, self.shapes[number])], 1)
            x, log_det = self.levels[number].inverse(x, context)
            total = total + log_det
        return x, total


class ConvConditioner(nn.Sequential):
    """Three convolutions, of 3, 1 and 3 pixels, whose last begins at zero: as the identity.

    Args:
        in_channels: of what decides, and of the context.
        out_channels: of the parameters.
        hidden_channels: between the convolutions.
    Shape:
        x ``[B, in_channels, H, W]`` -> ``[B, out_channels, H, W]``

    Source: Kingma and Dhariwal 2018, section 3.3 and appendix.
    """

    def __init__(self, in_channels: int, out_channels: int, *, hidden_channels: int = 64) -> None:
        at_least_one("hidden_channels", hidden_channels)
        last = nn.Conv2d(hidden_channels, out_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        super().__init__(
            nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            nn.ReLU(inplace=True),
            last,
        )
