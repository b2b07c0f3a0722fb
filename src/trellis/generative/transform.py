"""Invertible maps whose volume change is known: the contract, chains, and maps number by number.

Legend: B examples, D features, C channels, P parameters per number, K context features. Every
transform maps data x to noise z; its inverse maps back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one


class Transform(nn.Module):
    r"""A one-to-one map with its log-determinant; abstract.

    .. math:: z = f(x), \quad \log |\det \partial f / \partial x|

    Shape:
        x ``[B, ...]``, context ``[B, K]`` or ``None`` -> z ``[B, ...]``, log-determinant ``[B]``
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise."""
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, with the log-determinant of this direction: minus that of the other."""
        raise NotImplementedError


class Chain(Transform):
    """Transforms one after another; their log-determinants add up.

    Args:
        transforms: in the order in which data meets them; one at least.

    Source: Rezende and Mohamed 2015, eq. 6-7.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        at_least_one("number of transforms", len(transforms))
        self.transforms = cast(Sequence[Transform], nn.ModuleList(transforms))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first, *rest = self.transforms
        x, total = first(x, context)
        for transform in rest:
            x, log_det = transform(x, context)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        *rest, last = self.transforms
        z, total = last.inverse(z, context)
        for transform in reversed(rest):
            z, log_det = transform.inverse(z, context)
            total = total + log_det
        return z, total


class Inverse(Transform):
    """A transform the other way round: inverse autoregressive out of masked autoregressive.

    Args:
        transform: the one to turn.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform(z, context)


class Permutation(Transform):
    """Features, or channels, in another order; volume stays.

    Args:
        permutation: which feature stands at each place.
    Raises:
        ValueError: not each feature once.

    >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([[5, 6, 7]]))[0]
    tensor([[7, 5, 6]])
    """

    permutation: Tensor
    back: Tensor

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        if permutation.sort().values.tolist() != list(range(len(permutation))):
            raise ValueError(
                f"permutation={permutation.tolist()}: give each of 0 to {len(permutation) - 1} "
                f"once"
            )
        self.register_buffer("permutation", permutation)
        self.register_buffer("back", permutation.argsort(), persistent=False)

    def _load_from_state_dict(self, *args: object) -> None:
        super()._load_from_state_dict(*args)
        self.back = self.permutation.argsort()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.permutation), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.index_select(1, self.back), z.new_zeros(len(z))


def evens_first(features: int) -> Permutation:
    """Features 0, 2, 4, ... and then 1, 3, ...: what halves are after it alternated before.

    >>> evens_first(5).permutation
    tensor([0, 2, 4, 1, 3])
    """
    numbers = torch.arange(at_least_one("features", features))
    return Permutation(torch.cat([numbers[::2], numbers[1::2]]))


class FlatView(Transform):
    """Examples of any shape as vectors.

    Args:
        shape: of an example.
    Shape:
        x ``[B, *shape]`` -> ``[B, D]``
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.unflatten(1, self.shape), z.new_zeros(len(z))


class Scaling(Transform):
    """Each feature times a positive factor, which is learnt and begins at one.

    Args:
        features: D.
    Shape:
        x ``[B, D]`` -> z ``[B, D]``, log-determinant ``[B]``

    Source: Dinh et al. 2015, section 3.3.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(at_least_one("features", features)))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(z))


class Elementwise(Protocol):
    """A rising map of numbers, each by parameters of its own.

    Both ways take numbers ``[*]`` and parameters ``[*, num_parameters]`` of any sign and size, and
    give numbers ``[*]`` and the logarithms of the slopes there, ``[*]``.
    """

    @property
    def num_parameters(self) -> int: ...

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Additive:
    """z = x + shift, whose slope is one.

    Source: Dinh et al. 2015, section 3.2.
    """

    num_parameters: int = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[..., 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return z - parameters[..., 0], torch.zeros_like(z)


@dataclass(frozen=True)
class Affine:
    r"""z = x exp(s) + shift, with the log-scale s held inside (-b, b).

    .. math:: s = a / (1 + |a| / b), \quad b = \log(\mathrm{max\_scale})

    for parameters shift and a; without bounds, sampling may run away to infinity.

    Args:
        max_scale: no slope is larger, nor smaller than one over it.

    Source: Dinh et al. 2017, eq. 7-8.
    Deviates: s is bounded by a soft clip instead of tanh.

    >>> bool(Affine().forward(torch.tensor(2.0), torch.tensor([1.0, 0.0]))[0] == 3)
    True
    """

    max_scale: float = 1000.0
    num_parameters: int = 2

    def __post_init__(self) -> None:
        if not self.max_scale > 1.0:
            raise ValueError(f"max_scale={self.max_scale}: give more than 1")

    def _shift_and_log_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, a = parameters.unbind(-1)
        return shift, a / (1.0 + a.abs() * (1.0 / math.log(self.max_scale)))

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(parameters)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(parameters)
        return (z - shift) * (-log_scale).exp(), -log_scale
