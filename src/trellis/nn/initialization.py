"""How weights start: schemes that keep the scale of signals from layer to layer."""

from typing import Literal, get_args

from torch import nn

Initialization = Literal["torch", "xavier", "he"]


def initialize_(module: nn.Module, scheme: Initialization) -> None:
    r"""Start every ``Linear`` and ``Conv2d`` inside ``module`` anew, in place.

    .. math::
        \text{xavier:}\ w \sim U(\pm\sqrt{6 / (n_{in} + n_{out})}), \quad
        \text{he:}\ w \sim N(0, 2 / n_{in})

    with the number of inputs and outputs of a unit; biases become zero. ``torch`` keeps what the
    modules chose, :math:`U(\pm\sqrt{1 / n_{in}})` for weights and biases.

    Args:
        module: searched to its leaves.
        scheme: xavier suits tanh, he suits the ReLU family.
    Raises:
        ValueError: unknown scheme.

    Source: Glorot and Bengio 2010, eq. 16 (Keras' default); He et al. 2015, eq. 10.
    """
    if scheme not in get_args(Initialization):
        names = ", ".join(get_args(Initialization))
        raise ValueError(f"initialization={scheme!r}: choose from {names}")
    if scheme == "torch":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if scheme == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
