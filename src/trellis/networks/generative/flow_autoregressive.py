"""Autoregressive flows: each entry is transformed given the entries before it.

Legend: B examples.
"""

from collections.abc import Sequence
from typing import Any

import torch

from trellis.checks import at_least_one, num_entries
from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import Affine, Elementwise, Inverse, vector_chain
from trellis.networks.generative.flow import Flow
from trellis.nn.activation import Activation
from trellis.signature import options_of


def autoregressive_transforms(
    shape: Sequence[int],
    context_features: int,
    elementwise: Elementwise,
    *,
    num_transforms: int = 3,
    hidden_channels: Sequence[int] = (64, 64),
    activation: Activation = "relu",
) -> list[MaskedAutoregressive]:
    """Transforms of the flattened entries, alternately in their order and in its reverse.

    Args:
        shape: of one example.
        context_features: width of the context, one-hot labels or real numbers.
        elementwise: transform of one entry, whose parameters a conditioner computes.
        num_transforms: how many.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: of the hidden layers.
    """
    order = torch.arange(num_entries(tuple(shape)))
    return [
        MaskedAutoregressive(
            len(order),
            elementwise,
            hidden_channels=hidden_channels,
            activation=activation,
            order=order.flip(0) if number % 2 else order,
            context_features=context_features,
        )
        for number in range(at_least_one("num_transforms", num_transforms))
    ]


class MAF(Flow):
    """Masked autoregressive flow: affine transforms.

    A density takes one pass of each conditioner. A sample is drawn entry by entry, which costs
    about one pass too.

    Args:
        max_scale: the largest factor by which one transform scales an entry.
        options: of ``autoregressive_transforms``.
    Shape:
        see ``Flow``
    Raises:
        ValueError: a size below 1 or an unknown name.

    Source: Papamakarios et al. 2017, section 3.
    """

    @options_of(autoregressive_transforms)
    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        max_scale: float = 1000.0,
        **options: Any,
    ) -> None:
        affine = Affine(max_scale)
        transforms = autoregressive_transforms(
            shape, num_classes + context_features, affine, **options
        )
        super().__init__(
            shape,
            vector_chain(shape, transforms),
            num_classes=num_classes,
            context_features=context_features,
        )


class IAF(Flow):
    """Inverse autoregressive flow: ``MAF`` with its transforms inverted.

    A sample takes one pass of each conditioner, a density is computed entry by entry.

    Args:
        max_scale: see ``MAF``.
        options: see ``MAF``.
    Shape:
        see ``Flow``

    Source: Kingma et al. 2016, section 3; as the inverse of MAF, Papamakarios et al. 2017, 3.5.
    """

    @options_of(autoregressive_transforms)
    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        max_scale: float = 1000.0,
        **options: Any,
    ) -> None:
        affine = Affine(max_scale)
        transforms = autoregressive_transforms(
            shape, num_classes + context_features, affine, **options
        )
        chain = vector_chain(shape, map(Inverse, transforms))
        super().__init__(
            shape,
            chain,
            num_classes=num_classes,
            context_features=context_features,
        )


class NSF(Flow):
    """Neural spline flow: ``MAF`` with rational-quadratic splines instead of affine transforms.

    Args:
        bins: of each spline.
        bound: entries outside [-bound, bound] pass unchanged: standardise the data or widen it.
        options: of ``autoregressive_transforms``.
    Shape:
        see ``Flow``
    Raises:
        ValueError: see ``MAF``; or a bound that is not positive.

    Source: Durkan et al. 2019, section 3.2, RQ-NSF (AR).
    """

    @options_of(autoregressive_transforms)
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
        transforms = autoregressive_transforms(
            shape, num_classes + context_features, spline, **options
        )
        super().__init__(
            shape,
            vector_chain(shape, transforms),
            num_classes=num_classes,
            context_features=context_features,
        )
