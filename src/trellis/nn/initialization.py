"""How weights start: schemes that keep the scale of signals from layer to layer."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from trellis.checks import choose_from

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
    choose_from("initialization", scheme, Initialization)
    if scheme == "xavier":
        _start(module, nn.init.xavier_uniform_)
    elif scheme == "he":
        _start(module, partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def orthogonal_(module: nn.Module, gain: float) -> None:
    r"""Start every ``Linear`` and ``Conv2d`` anew, in place: :math:`W W^\top = g^2 I`, b = 0.

    Of a wide matrix the rows are orthogonal, of a high one the columns.

    Args:
        module: searched to its leaves.
        gain: g.

    Source: Saxe et al. 2014.
    """
    _start(module, partial(nn.init.orthogonal_, gain=gain))


def _start(module: nn.Module, weight_: Callable[[Tensor], Any]) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
