"""Autoregressive flows: every entry is mapped by parameters that those before it give.

Legend: B examples, K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.generative.autoregressive import MaskedAutoregressive
from trellis.generative.spline import RationalQuadratic
from trellis.generative.transform import Affine, Chain, Elementwise, FlatView, Inverse, Transform
from trellis.networks.generative.flow import Flow
from trellis.nn.activation import Activation
from trellis.nn.examples import num_entries


class MAF(Flow):
    """Masked autoregressive flow: affine maps, in turns from the first entry and from the last.

    Densities take one pass; samples go entry by entry, at the cost of about one pass too.

    Args:
        shape: of one example.
        num_classes: K of a conditional flow.
        num_transforms: autoregressions.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        max_scale: no transform stretches an entry more.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: a size below 1 or an unknown name.

    Source: Papamakarios et al. 2017, section 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 3,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        max_scale: float = 1000.0,
    ) -> None:
        layer = _autoregression(shape, num_classes, hidden_channels, activation, Affine(max_scale))
        chain = _in_turns(shape, num_transforms, layer)
        super().__init__(shape, chain, num_classes=num_classes)


class IAF(Flow):
    """Inverse autoregressive flow: MAF the other way round, made to draw samples at once.

    Args:
        shape: of one example.
        num_classes: K of a conditional flow.
        num_transforms: autoregressions.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        max_scale: no transform stretches an entry more.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: a size below 1 or an unknown name.

    Source: Kingma et al. 2016, section 3; as the mirror of MAF, Papamakarios et al. 2017, 3.5.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 3,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        max_scale: float = 1000.0,
    ) -> None:
        layer = _autoregression(shape, num_classes, hidden_channels, activation, Affine(max_scale))
        chain = _in_turns(shape, num_transforms, lambda order: Inverse(layer(order)))
        super().__init__(shape, chain, num_classes=num_classes)


class NSF(Flow):
    """Neural spline flow: MAF with rational-quadratic splines in place of affine maps.

    Args:
        shape: of one example.
        num_classes: K of a conditional flow.
        num_transforms: autoregressions.
        hidden_channels: width of each hidden layer of a conditioner.
        activation: between them.
        bins: of a spline.
        bound: entries outside [-bound, bound] pass unchanged: standardise data, or widen it.
    Shape:
        x ``[B, *shape]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: a size below 1, a bound that is not positive, an unknown name.

    Source: Durkan et al. 2019, section 3.2, RQ-NSF (AR).
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_transforms: int = 3,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        bins: int = 8,
        bound: float = 5.0,
    ) -> None:
        spline = RationalQuadratic(bins, bound)
        layer = _autoregression(shape, num_classes, hidden_channels, activation, spline)
        chain = _in_turns(shape, num_transforms, layer)
        super().__init__(shape, chain, num_classes=num_classes)


def _autoregression(
    shape: Sequence[int],
    num_classes: int,
    hidden_channels: Sequence[int],
    activation: Activation,
    elementwise: Elementwise,
) -> Callable[[Tensor], Transform]:
    def build(order: Tensor) -> MaskedAutoregressive:
        return MaskedAutoregressive(
            len(order),
            elementwise,
            hidden_channels=hidden_channels,
            activation=activation,
            order=order,
            context_features=num_classes,
        )

    return build


def _in_turns(shape: Sequence[int], count: int, layer: Callable[[Tensor], Transform]) -> Chain:
    """Layers whose order is that of the entries and its reverse, in turns."""
    order = torch.arange(num_entries(tuple(shape)))
    flat: list[Transform] = [FlatView(shape)] if len(shape) > 1 else []
    layers = [
        layer(order.flip(0) if number % 2 else order)
        for number in range(at_least_one("num_transforms", count))
    ]
    return Chain([*flat, *layers])
