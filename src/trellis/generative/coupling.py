"""Coupling transforms: one half of the entries parametrises the transform of the other half.

Legend: B examples, D features, C channels, H and W height and width, P parameters per entry, K
context features. A conditioner is any network with P outputs for each transformed entry.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least, at_least_one
from trellis.generative.conditioning import append_context
from trellis.generative.transform import Elementwise, Transform

_Direction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # Elementwise.forward or .inverse


class _ConditionedHalf(Transform):
    """One half of the entries stays as it is and conditions the transform of the other.

    Args:
        elementwise: the transform f of an entry.
        conditioner: from the half that stays, and the context, to the parameters of f.
        swap: exchange the halves.
    """

    def __init__(self, elementwise: Elementwise, conditioner: nn.Module, swap: bool) -> None:
        super().__init__()
        self.elementwise, self.conditioner, self.swap = elementwise, conditioner, swap

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._transformed(self.elementwise.forward, x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._transformed(self.elementwise.inverse, z, context)

    @abstractmethod
    def _transformed(
        self, transform: _Direction, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The entries after f in one direction, and the log-determinant."""


class Coupling(_ConditionedHalf):
    r"""The first half stays as it is and conditions the transform of the second, or vice versa.

    .. math:: z_1 = x_1, \quad z_2 = f(x_2; \theta(x_1))

    Both directions take one pass of the conditioner. Vectors are split by features, images by
    channels; of an odd number the first half is the larger one.

    Args:
        channels: features D, or channels C.
        elementwise: the transform f: additive for NICE, affine for RealNVP, or a spline.
        conditioner: from ``coupled_sizes(channels, swap)[0]`` channels, and K of context, to P
            for each of the other half's: the first parameter of all of them, then the second.
        swap: the second half stays and conditions the first.
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
        super().__init__(elementwise, conditioner, swap)
        self.split = sorted(coupled_sizes(channels, swap=swap), reverse=True)

    def _transformed(
        self, transform: _Direction, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.split, 1)
        kept, changed = (second, first) if self.swap else (first, second)
        parameters = self.conditioner(append_context(kept, context))
        parameters = _per_entry(parameters, changed, self.elementwise.num_parameters)
        changed, log_derivative = transform(changed, parameters)
        parts = [changed, kept] if self.swap else [kept, changed]
        return torch.cat(parts, 1), log_derivative.flatten(1).sum(1)


def coupled_sizes(channels: int, *, swap: bool = False) -> tuple[int, int]:
    """How many of ``channels`` stay as they are, and how many are transformed.

    Raises:
        ValueError: fewer than two.

    >>> coupled_sizes(5), coupled_sizes(5, swap=True)
    ((3, 2), (2, 3))
    """
    reason = ", one to condition on and one to transform; or use an autoregressive flow"
    at_least(2, "channels", channels, reason)
    first = channels - channels // 2
    return (channels - first, first) if swap else (first, channels - first)


class ConditionerFactory(Protocol):
    """Builds a conditioner from its numbers of channels."""

    def __call__(self, in_channels: int, out_channels: int) -> nn.Module: ...


def build_coupling(
    channels: int,
    elementwise: Elementwise,
    network: ConditionerFactory,
    *,
    context_features: int = 0,
    swap: bool = False,
) -> Coupling:
    """A ``Coupling`` with a conditioner of the sizes that it needs.

    Args:
        channels: features D, or channels C.
        elementwise: transform of an entry.
        network: from the sizes to the conditioner.
        context_features: K.
        swap: the second half stays and conditions the first.
    """
    kept, changed = coupled_sizes(channels, swap=swap)
    conditioner = network(kept + context_features, changed * elementwise.num_parameters)
    return Coupling(channels, elementwise, conditioner, swap=swap)


class CheckerboardCoupling(_ConditionedHalf):
    """The white squares of an image stay as they are and condition the transform of the black.

    Args:
        channels: C.
        elementwise: transform of an entry.
        conditioner: from C channels, zero on the black squares, and K of context, to C P.
        swap: the black squares stay and condition the white ones.
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
        super().__init__(elementwise, conditioner, swap)
        at_least_one("channels", channels)

    def _transformed(
        self, transform: _Direction, x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        keep = checkerboard(x.size(2), x.size(3), x.device) ^ self.swap
        parameters = self.conditioner(append_context(x * keep, context))
        parameters = _per_entry(parameters, x, self.elementwise.num_parameters)
        changed, log_derivative = transform(x, parameters)
        return torch.where(keep, x, changed), (log_derivative * ~keep).flatten(1).sum(1)


def _per_entry(parameters: Tensor, x: Tensor, count: int) -> Tensor:
    """P = ``count`` parameters for each entry of x: ``[B, P C, ...]`` -> ``[B, C, ..., P]``."""
    return parameters.view(x.size(0), count, *x.shape[1:]).movedim(1, -1)


def checkerboard(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """True on every second square, ``[height, width]``, the first among them.

    >>> checkerboard(2, 3).int()
    tensor([[1, 0, 1],
            [0, 1, 0]], dtype=torch.int32)
    """
    rows = torch.arange(height, device=device)
    return (rows[:, None] + torch.arange(width, device=device)) % 2 == 0


class Squeeze(Transform):
    """Moves each two by two square of pixels into four times as many channels.

    Shape:
        x ``[B, C, H, W]`` -> z ``[B, 4 C, H / 2, W / 2]``

    Source: Dinh et al. 2017, section 3.6.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(x.size(0))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z, 2), z.new_zeros(z.size(0))


class MultiScale(Transform):
    """Multi-scale architecture: each level but the last factors out half of its channels.

    Args:
        levels: transforms of images, each of the channels that the one before has left.
        shapes: ``(C, H, W)`` of the output of each level.
    Shape:
        x ``[B, C, H, W]`` -> z ``[B, D]``, in the order in which the levels factor out
    Raises:
        ValueError: not one shape for each level, or an odd number of channels at any but the last.

    Source: Dinh et al. 2017, section 3.6.
    """

    def __init__(self, levels: Sequence[Transform], shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        if len(levels) != len(shapes) or any(shape[0] % 2 for shape in shapes[:-1]):
            raise ValueError(
                f"shapes={list(map(tuple, shapes))}: give one for each of {len(levels)} levels, "
                f"with an even number of channels at each but the last"
            )
        self.levels = cast(Sequence[Transform], nn.ModuleList(levels))
        halves = [(channels // 2, *size) for channels, *size in shapes[:-1]]
        self.shapes = [*halves, tuple(shapes[-1])]

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        factored_out, total = [], x.new_zeros(x.size(0))
        for number, level in enumerate(self.levels):
            x, log_det = level(x, context)
            total = total + log_det
            if number + 1 < len(self.levels):
                x, half = x.chunk(2, 1)
                factored_out.append(half.flatten(1))
        return torch.cat([*factored_out, x.flatten(1)], 1), total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *halves, last = z.split([math.prod(shape) for shape in self.shapes], 1)
        x, total = last.unflatten(1, self.shapes[-1]), z.new_zeros(z.size(0))
        for number in reversed(range(len(self.levels))):
            if number < len(halves):
                x = torch.cat([x, halves[number].unflatten(1, self.shapes[number])], 1)
            x, log_det = self.levels[number].inverse(x, context)
            total = total + log_det
        return x, total


class ConvConditioner(nn.Sequential):
    """Convolutions with kernels of 3, 1 and 3 pixels; the last is initialised to zero.

    An affine or additive coupling therefore starts as the identity.

    Args:
        in_channels: of the half that is conditioned on, and of the context.
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
