"""Invertible transforms with a tractable log-determinant of the Jacobian.

The contract, compositions, and elementwise transforms. Legend: B examples, D features, C
channels, P parameters per entry, K context features. Every transform maps data x to noise z; its
inverse maps back.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_permutation


class Transform(nn.Module, ABC):
    r"""A bijection with the log-determinant of its Jacobian; abstract.

    .. math:: z = f(x), \quad \log |\det \partial f / \partial x|

    Shape:
        x ``[B, ...]``, context ``[B, K]`` or ``None`` -> z ``[B, ...]``, log-determinant ``[B]``
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, with the log-determinant of the inverse."""


class Chain(Transform):
    """Composition of transforms; their log-determinants add up.

    Args:
        transforms: in the order in which they are applied to data; at least one.

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
    """The inverse of a transform.

    Args:
        transform: the one to invert.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform(z, context)


class Permutation(Transform):
    """Features, or channels, in another order; preserves volume.

    Args:
        permutation: index of the feature that goes to each position.
    Raises:
        ValueError: an index that is missing or given twice.

    >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([[5, 6, 7]]))[0]
    tensor([[7, 5, 6]])
    """

    permutation: Tensor
    back: Tensor

    def __init__(self, permutation: Tensor) -> None:
        super().__init__()
        check_permutation("permutation", permutation, len(permutation))
        self.register_buffer("permutation", permutation)
        self.register_buffer("back", permutation.argsort(), persistent=False)
        self.register_load_state_dict_post_hook(Permutation._invert)

    def _invert(self, _: object) -> None:
        self.back = self.permutation.argsort()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.permutation), x.new_zeros(x.size(0))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.index_select(1, self.back), z.new_zeros(z.size(0))


def evens_first(features: int) -> Permutation:
    """Features 0, 2, 4, ... and then 1, 3, ...: the two halves are the even and the odd features.

    >>> evens_first(5).permutation
    tensor([0, 2, 4, 1, 3])
    """
    numbers = torch.arange(at_least_one("features", features))
    return Permutation(torch.cat([numbers[::2], numbers[1::2]]))


class FlatView(Transform):
    """Flattens examples of any shape.

    Args:
        shape: of an example.
    Shape:
        x ``[B, *shape]`` -> ``[B, D]``
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(x.size(0))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.unflatten(1, self.shape), z.new_zeros(z.size(0))


def vector_chain(shape: Sequence[int], transforms: Iterable[Transform]) -> Chain:
    """Transforms of vectors as one of examples of any shape.

    Args:
        shape: of an example, flattened first unless it is a vector already.
        transforms: of ``[B, D]``.
    """
    flat: list[Transform] = [FlatView(shape)] if len(shape) > 1 else []
    return Chain([*flat, *transforms])


class Scaling(Transform):
    """Multiplies each feature by a learnt positive factor, initially one.

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
        return x * self.log_scale.exp(), self.log_scale.sum().expand(x.size(0))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * (-self.log_scale).exp(), -self.log_scale.sum().expand(z.size(0))


class Elementwise(Protocol):
    """A monotonic transform of each entry, with parameters of its own.

    Both directions take entries ``[*]`` and unconstrained parameters ``[*, num_parameters]``, and
    return entries ``[*]`` and the logarithm of the derivative at each, ``[*]``.
    """

    @property
    def num_parameters(self) -> int: ...

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Additive:
    """z = x + shift, with derivative one.

    Source: Dinh et al. 2015, section 3.2.
    """

    num_parameters: int = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[..., 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return z - parameters[..., 0], torch.zeros_like(z)


@dataclass(frozen=True)
class Affine:
    r"""z = x exp(s) + shift, with the log-scale s bounded to (-b, b).

    .. math:: s = a / (1 + |a| / b), \quad b = \log(\mathrm{max\_scale})

    for parameters shift and a; with an unbounded scale, samples may diverge.

    Args:
        max_scale: the largest scale; the smallest is its inverse.

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
