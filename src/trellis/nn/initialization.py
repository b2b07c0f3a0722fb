"""Weight initialization that keeps the scale of signals from layer to layer."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from trellis.checks import choose_from

Initialization = Literal["torch", "xavier", "he"]


def initialize_(module: nn.Module, scheme: Initialization) -> None:
    r"""Initialize every ``Linear`` and ``Conv2d`` inside ``module`` again, in place.

    .. math::
        \text{xavier:}\ w \sim U(\pm\sqrt{6 / (n_{in} + n_{out})}), \quad
        \text{he:}\ w \sim N(0, 2 / n_{in})

    with the fan-in and fan-out of a layer; biases become zero. ``torch`` keeps the default of the
    modules, :math:`U(\pm\sqrt{1 / n_{in}})` for weights and biases.

    Args:
        module: with all its submodules.
        scheme: xavier suits tanh, he suits the ReLU family.
    Raises:
        ValueError: unknown scheme.

    Source: Glorot and Bengio 2010, eq. 16 (Keras' default); He et al. 2015, eq. 10.
    """
    choose_from("initialization", scheme, Initialization)
    if scheme == "xavier":
        _initialize(module, nn.init.xavier_uniform_)
    elif scheme == "he":
        _initialize(module, partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def orthogonal_(module: nn.Module, gain: float) -> None:
    r"""Initialize every ``Linear`` and ``Conv2d``, in place: :math:`W W^\top = g^2 I`, b = 0.

    The rows of a wide matrix are orthogonal, the columns of a tall one.

    Args:
        module: with all its submodules.
        gain: g.

    Source: Saxe et al. 2014.
    """
    _initialize(module, partial(nn.init.orthogonal_, gain=gain))


def _initialize(module: nn.Module, weight_: Callable[[Tensor], Any]) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
