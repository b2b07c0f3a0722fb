"""Coupling flows of vectors: densities and samples take one pass of each conditioner.

Legend: B examples.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from trellis.checks import at_least_one, choose_from, num_entries
from trellis.generative.coupling import build_coupling
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import (
    Additive,
    Affine,
    Elementwise,
    Scaling,
    Transform,
    evens_first,
    vector_chain,
)
from trellis.networks.generative.flow import Base, Flow
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation
from trellis.signature import options_of

Partition = Literal["alternating", "halves"]


def coupling_transforms(
    shape: Sequence[int],
    context_features: int,
    elementwise: Elementwise,
    *,
    num_transforms: int = 4,
    hidden_channels: Sequence[int] = (64, 64),
    activation: Activation = "relu",
    partition: Partition = "alternating",
) -> list[Transform]:
    """Couplings of the flattened entries, which condition on either half in turn.

    Args:
        shape: of one example.
        context_features: width of the context, one-hot labels or real numbers.
        elementwise: transform of one entry, whose parameters a conditioner computes.
        num_transforms: how many couplings.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: of the hidden layers.
        partition: ``alternating`` couples even with odd entries, ``halves`` the first half with
            the second.
    """
    features = num_entries(tuple(shape))
    network = partial(MLP, hidden_channels=hidden_channels, activation=activation)
    couplings = [
        build_coupling(
            features, elementwise, network, context_features=context_features, swap=number % 2 == 1
        )
        for number in range(at_least_one("num_transforms", num_transforms))
    ]
    # Two entries are an even and an odd one as they are.
    reordered = choose_from("partition", partition, Partition) == "alternating" and features > 2
    return [evens_first(features), *couplings] if reordered else [*couplings]


class NICE(Flow):
    """Additive couplings, which preserve volume, followed by one learnt scale per entry.

    Args:
        shape: of one example; at least two entries.
        base: distribution of the noise, ``logistic`` as in the paper or ``normal``.
        options: of ``coupling_transforms``; with three couplings or more every entry can
            influence every other.
    Shape:
        see ``Flow``
    Raises:
        ValueError: an example of one entry, a size below 1, an unknown name.

    Source: Dinh et al. 2015, sections 3 and 5.1.
    """

    @options_of(coupling_transforms)
    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        base: Base = "logistic",
        **options: Any,
    ) -> None:
        transforms = coupling_transforms(
            shape, num_classes + context_features, Additive(), **options
        )
        chain = vector_chain(shape, [*transforms, Scaling(num_entries(tuple(shape)))])
        super().__init__(
            shape,
            chain,
            num_classes=num_classes,
            context_features=context_features,
            base=base,
        )


class RealNVP(Flow):
    """Affine couplings of vectors; images are flattened (``RealNVPImage`` convolves).

    Args:
        max_scale: the largest factor by which one coupling scales an entry.
        options: of ``coupling_transforms``.
    Shape:
        see ``Flow``
    Raises:
        ValueError: see ``NICE``.

    Source: Dinh et al. 2017, section 3.

    >>> RealNVP((2,)).sample(5).shape
    torch.Size([5, 2])
    """

    @options_of(coupling_transforms)
    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        max_scale: float = 1000.0,
        **options: Any,
    ) -> None:
        transforms = coupling_transforms(
            shape, num_classes + context_features, Affine(max_scale), **options
        )
        super().__init__(
            shape,
            vector_chain(shape, transforms),
            num_classes=num_classes,
            context_features=context_features,
        )


class CouplingNSF(Flow):
    """Neural spline flow with couplings: ``RealNVP`` with splines instead of affine transforms.

    Args:
        bins: of each spline.
        bound: entries outside [-bound, bound] pass unchanged.
        options: of ``coupling_transforms``.
    Shape:
        see ``Flow``
    Raises:
        ValueError: see ``NICE``; or a bound that is not positive.

    Source: Durkan et al. 2019, section 3.2, RQ-NSF (C).
    """

    @options_of(coupling_transforms)
    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        bins: int = 8,
        bound: float = 5.0,
        **options: Any,
    ) -> None:
        spline = RationalQuadratic(bins, bound)
        transforms = coupling_transforms(shape, num_classes + context_features, spline, **options)
        super().__init__(
            shape,
            vector_chain(shape, transforms),
            num_classes=num_classes,
            context_features=context_features,
        )
