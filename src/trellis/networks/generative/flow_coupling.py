"""Coupling flows of vectors: both ways take one pass.

Legend: B examples, K classes.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from torch import nn

from trellis.checks import at_least_one
from trellis.generative.coupling import Coupling, coupled_sizes
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import (
    Additive,
    Affine,
    Chain,
    Elementwise,
    FlatView,
    Scaling,
    Transform,
    evens_first,
)
from trellis.networks.generative.flow import Base, Flow
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation
from trellis.nn.examples import num_entries

Partition = Literal["alternating", "halves"]


class NICE(Flow):
    """Additive couplings, which keep volume, and one scale per number at the end.

    Args:
        shape: of one example; two entries at least.
        num_classes: K of a conditional flow.
        num_transforms: couplings; three at least let all entries act on each other.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        partition: ``alternating`` couples odd and even entries, ``halves`` those of the first and
            second half.
        base: ``logistic`` as in the paper, or ``normal``.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: an example of one number, a size below 1, an unknown name.

    Source: Dinh et al. 2015, sections 3 and 5.1.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 4,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        partition: Partition = "alternating",
        base: Base = "logistic",
    ) -> None:
        features = num_entries(tuple(shape))
        network = _perceptron(hidden_channels, activation)
        couplings = _couplings(features, num_classes, num_transforms, Additive(), network)
        transforms = [*_arranged(shape, partition), *couplings, Scaling(features)]
        super().__init__(shape, Chain(transforms), num_classes=num_classes, base=base)


class RealNVP(Flow):
    """Affine couplings of vectors; images are read as vectors (``RealNVPImage`` convolves).

    Args:
        shape: of one example; two entries at least.
        num_classes: K of a conditional flow.
        num_transforms: couplings.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        partition: as of ``NICE``.
        max_scale: no coupling stretches an entry more.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: an example of one number, a size below 1, an unknown name.

    Source: Dinh et al. 2017, section 3.

    >>> RealNVP((2,)).sample(5).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 4,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        partition: Partition = "alternating",
        max_scale: float = 1000.0,
    ) -> None:
        features, affine = num_entries(tuple(shape)), Affine(max_scale)
        network = _perceptron(hidden_channels, activation)
        couplings = _couplings(features, num_classes, num_transforms, affine, network)
        transforms = [*_arranged(shape, partition), *couplings]
        super().__init__(shape, Chain(transforms), num_classes=num_classes)


class CouplingNSF(Flow):
    """Neural spline flow of couplings: splines in place of ``RealNVP``'s affine maps.

    Args:
        shape: of one example; two entries at least.
        num_classes: K of a conditional flow.
        num_transforms: couplings.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        partition: as of ``NICE``.
        bins: of a spline.
        bound: entries outside [-bound, bound] pass unchanged.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: an example of one number, a size below 1, a bound that is not positive, an
            unknown name.

    Source: Durkan et al. 2019, section 3.2, RQ-NSF (C).
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 4,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        partition: Partition = "alternating",
        bins: int = 8,
        bound: float = 5.0,
    ) -> None:
        features, spline = num_entries(tuple(shape)), RationalQuadratic(bins, bound)
        network = _perceptron(hidden_channels, activation)
        couplings = _couplings(features, num_classes, num_transforms, spline, network)
        transforms = [*_arranged(shape, partition), *couplings]
        super().__init__(shape, Chain(transforms), num_classes=num_classes)


class _Conditioner(Protocol):
    def __call__(self, in_channels: int, out_channels: int) -> nn.Module: ...


def _perceptron(hidden_channels: Sequence[int], activation: Activation) -> _Conditioner:
    def build(in_channels: int, out_channels: int) -> MLP:
        return MLP(
            in_channels, out_channels, hidden_channels=hidden_channels, activation=activation
        )

    return build


def _couplings(
    features: int,
    context_features: int,
    count: int,
    elementwise: Elementwise,
    network: _Conditioner,
) -> list[Coupling]:
    """In turns the first half decides and the second."""
    couplings = []
    for number in range(at_least_one("num_transforms", count)):
        swap = number % 2 == 1
        kept, mapped = coupled_sizes(features, swap=swap)
        conditioner = network(kept + context_features, mapped * elementwise.num_parameters)
        couplings.append(Coupling(features, elementwise, conditioner, swap=swap))
    return couplings


def _arranged(shape: Sequence[int], partition: Partition) -> list[Transform]:
    """What comes before couplings of halves."""
    if partition not in get_args(Partition):
        raise ValueError(f"partition={partition!r}: choose from {', '.join(get_args(Partition))}")
    flat: list[Transform] = [FlatView(shape)] if len(shape) > 1 else []
    features = num_entries(tuple(shape))
    # Two entries alternate as they stand.
    return [*flat, evens_first(features)] if partition != "halves" and features > 2 else flat
