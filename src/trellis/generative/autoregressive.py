"""Transforms in which every feature is mapped by parameters that the features before it give.

Legend: B examples, D features, P parameters per feature.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trellis.generative.masked import MaskedMLP
from trellis.generative.transform import Elementwise, Transform
from trellis.nn.activation import Activation


class MaskedAutoregressive(Transform):
    r"""Each feature by a rising map whose parameters the features before it give.

    .. math:: z_i = f(x_i; \theta_i(x_{<i})), \quad
        \log |\det| = \sum_i \log f'(x_i; \theta_i(x_{<i}))

    Data to noise takes one pass of the conditioner; noise to data goes feature by feature, though
    at the cost of about one pass too (``MaskedMLP.generate``).

    Args:
        features: D.
        elementwise: the map f: affine for MAF, a spline for NSF.
        hidden_channels: widths of the conditioner's layers.
        activation: between them.
        order: rank of each feature; as they stand by default.
        context_features: numbers that every parameter may see.
    Shape:
        x ``[B, D]`` -> z ``[B, D]``, log-determinant ``[B]``
    Raises:
        ValueError: a size below 1, or an order that is none.

    Source: Papamakarios et al. 2017, section 3; Durkan et al. 2019, section 3.2.
    """

    def __init__(
        self,
        features: int,
        elementwise: Elementwise,
        *,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        order: Tensor | None = None,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.conditioner = MaskedMLP(
            features,
            elementwise.num_parameters,
            hidden_sizes=hidden_channels,
            activation=activation,
            order=order,
            context_features=context_features,
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.elementwise.forward(x, self.conditioner(x, context))
        return z, log_slope.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_slopes = []

        def choose(parameters: Tensor, features: Tensor) -> Tensor:
            x, log_slope = self.elementwise.inverse(z[:, features], parameters)
            log_slopes.append(log_slope)
            return x

        x = self.conditioner.generate(choose, len(z), context)
        return x, torch.cat(log_slopes, 1).sum(1)
