"""Activations by name, and those that torch does not have."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from trellis.checks import choose_from
from trellis.nn.sparse import SparseLinear

# gelu_tanh is the approximation of GELU by tanh, as in GPT-2.
Activation = Literal[
    "relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "identity"
]  # fmt: skip

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def activation_module(name: Activation) -> nn.Module:
    """The module of an activation.

    Raises:
        ValueError: an unknown name.

    >>> activation_module("relu")
    ReLU()
    """
    return _MODULES[choose_from("activation", name, Activation)]()


class Maxout(nn.Module):
    r"""Maximum of ``pieces`` affine maps, for each feature.

    .. math:: y_i = \max_k (w_{ik}^\top x + b_{ik})

    Args:
        in_features: width of the input.
        out_features: width of the output.
        pieces: maps per output feature.
    Shape:
        x ``[*, in_features]``, dense or CSR -> ``[*, out_features]``

    Source: Goodfellow et al. 2013, section 3.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = SparseLinear(in_features, out_features * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)  # [*, out, pieces]
