"""Activations by name, and the ones torch has no module for."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Activation = Literal["relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "identity"]

_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def activation_module(name: Activation) -> nn.Module:
    """The module of an activation.

    Raises:
        ValueError: there is none of that name.

    >>> activation_module("relu")
    ReLU()
    """
    if name not in _MODULES:
        raise ValueError(f"activation={name!r}: choose from {', '.join(get_args(Activation))}")
    return _MODULES[name]()


class Maxout(nn.Module):
    """Largest of ``pieces`` affine maps, feature by feature.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        pieces: maps per output feature.
    Shape:
        x ``[*, in_features]`` -> ``[*, out_features]``

    Source: Goodfellow et al. 2013, section 3.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(in_features, out_features * pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)
