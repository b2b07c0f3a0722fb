"""Autoregressive transforms: each feature is transformed given the features before it.

Legend: B examples, D features, P parameters per feature.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trellis.generative.masked import MaskedMLP
from trellis.generative.transform import Elementwise, Transform
from trellis.nn.activation import Activation


class MaskedAutoregressive(Transform):
    r"""A monotonic transform of each feature, with parameters computed from those before it.

    .. math:: z_i = f(x_i; \theta_i(x_{<i})), \quad
        \log |\det| = \sum_i \log f'(x_i; \theta_i(x_{<i}))

    Data to noise takes one pass of the conditioner; noise to data goes feature by feature, which
    costs about one pass too (``MaskedMLP.generate``).

    Args:
        features: D.
        elementwise: the transform f: affine for MAF, a spline for NSF.
        hidden_channels: width of each hidden layer of the conditioner.
        activation: of the hidden layers.
        order: rank of each feature; by default their own order.
        context_features: width of the context, on which every parameter may depend.
    Shape:
        x ``[B, D]`` -> z ``[B, D]``, log-determinant ``[B]``
    Raises:
        ValueError: a size below 1, or an order that is no permutation.

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
        z, log_derivative = self.elementwise.forward(x, self.conditioner(x, context))
        return z, log_derivative.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_derivatives = []

        def choose(parameters: Tensor, features: Tensor) -> Tensor:
            x, log_derivative = self.elementwise.inverse(z[:, features], parameters)
            log_derivatives.append(log_derivative)
            return x

        x = self.conditioner.generate(choose, z.size(0), context)
        return x, torch.cat(log_derivatives, 1).sum(1)
