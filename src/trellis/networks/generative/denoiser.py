"""Networks that look at a noisy example and its time: of diffusion and of flow matching.

Legend: B examples, F ``num_frequencies``, K classes or C real numbers of a conditional network.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, not_negative, num_entries
from trellis.generative.conditioning import Condition, labels_or_numbers, real_context
from trellis.networks.vector.mlp import MLP
from trellis.nn.activation import Activation


class MLPDenoiser(nn.Module):
    r"""Multi-layer perceptron of a noisy example and of waves of its time.

    The time enters as :math:`t, \sin(2^{f-1} \pi t), \cos(2^{f-1} \pi t)` for f up to F.

    Args:
        shape: of an example.
        num_classes: K of a network given labels, else 0.
        context_features: C of a network given real numbers, else 0.
        hidden_channels: width of each hidden layer.
        activation: of the hidden layers.
        num_frequencies: F.
        class_embed_dim: width of a learnt embedding of the labels; 0 uses one-hot vectors.
    Shape:
        x ``[B, *shape]``, t ``[B]`` in [0, 1], y labels ``[B]`` or real ``[B, C]`` ->
        ``[B, *shape]``
    Raises:
        ValueError: a size below 1, both labels and real numbers, examples of another shape, or y
            missing, superfluous, out of range or of another shape.

    Source: Ho et al. 2020 (time as an input); Tancik et al. 2020 (waves of powers of 2).

    >>> MLPDenoiser((2,))(torch.zeros(5, 2), torch.rand(5)).shape
    torch.Size([5, 2])
    """

    frequencies: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        context_features: int = 0,
        hidden_channels: Sequence[int] = (256, 256, 256),
        activation: Activation = "silu",
        num_frequencies: int = 6,
        class_embed_dim: int = 0,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        at_least_one("num_frequencies", num_frequencies)
        self.context_features = not_negative("context_features", context_features)
        labels_or_numbers("MLPDenoiser", num_classes, context_features)
        self.condition = Condition("MLPDenoiser", num_classes, class_embed_dim)
        size = num_entries(self.shape)
        self.layers = MLP(
            size + 1 + 2 * num_frequencies + self.condition.width + context_features,
            size,
            hidden_channels=hidden_channels,
            activation=activation,
        )
        powers = math.pi * 2.0 ** torch.arange(num_frequencies)
        self.register_buffer("frequencies", powers, persistent=False)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, "MLPDenoiser")
        angles = t[:, None] * self.frequencies
        inputs = torch.cat([x.flatten(1), t[:, None], angles.sin(), angles.cos()], 1)
        if self.context_features:
            inputs = torch.cat([inputs, real_context(y, self.context_features, "MLPDenoiser")], 1)
            return self.layers(inputs).view_as(x)
        return self.layers(self.condition(inputs, y)).view_as(x)
