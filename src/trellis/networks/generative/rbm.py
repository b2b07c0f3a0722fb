"""Boltzmann machines: two layers of units, one layer, or a stack of layers.

Legend: B examples of D visible units, H hidden units, N samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least, at_least_one, check_examples, choose_from, num_entries
from trellis.generative.boltzmann import (
    BoltzmannUnits,
    GaussianUnits,
    PairwiseUnits,
    Rule,
    Units,
    drawn,
)
from trellis.spec import Values


class BoltzmannMachine(nn.Module, ABC):
    """Base of the machines whose visible units are the entries of an example.

    A subclass has parameters, which ``units`` gives.

    Args:
        shape: of an example; D numbers.
    Shape:
        x ``[B, *shape]`` -> free energies F ``[B]``
    Raises:
        ValueError: a size below 1, or an x of another shape.
    """

    values: ClassVar[Values] = "binary"  # of the entries

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape, self.size = tuple(shape), num_entries(tuple(shape))

    @property
    @abstractmethod
    def units(self) -> Units:
        """The machine as its weights."""

    def states(self, x: Tensor) -> Tensor:
        """Examples as states of visible units, ``[B, D]``."""
        check_examples(x, self.shape, type(self).__name__)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.free_energy(x)

    def free_energy(self, x: Tensor) -> Tensor:
        """F of each example, ``[B]``."""
        return self.units.free_energy(self.states(x))

    @torch.no_grad()
    def sample(
        self, num_samples: int, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Examples ``[N, *shape]`` after so many Gibbs steps from independent units."""
        start = self.units.independent(num_samples, generator)
        return self.units.gibbs(start, num_steps, generator).view(-1, *self.shape)


class RBM(BoltzmannMachine):
    r"""Binary units in two layers, with weights between the layers only.

    .. math:: p(v) = \frac{e^{-F(v)}}{Z}, \quad
        F(v) = -b^\top v - \sum_j \ln(1 + e^{c_j + (W v)_j})

    See ``BoltzmannMachine``.

    Args:
        shape: of an example; D zeros and ones.
        hidden_units: H.

    Source: Smolensky 1986; Hinton 2002; Hinton 2010, "A practical guide", section 8 (weights begin
    with a standard deviation of 0.01, biases at 0).

    >>> RBM((6,), hidden_units=4)(torch.zeros(2, 6)).round(decimals=2)
    tensor([-2.7700, -2.7700], grad_fn=<RoundBackward1>)
    """

    def __init__(self, shape: Sequence[int], *, hidden_units: int = 500) -> None:
        super().__init__(shape)
        at_least_one("hidden_units", hidden_units)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden_units, self.size))
        self.visible_bias = nn.Parameter(torch.zeros(self.size))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_units))

    @property
    def units(self) -> BoltzmannUnits:
        """See ``BoltzmannMachine``."""
        return BoltzmannUnits(self.weight, self.visible_bias, self.hidden_bias)


class GaussianRBM(BoltzmannMachine):
    r"""Gaussian visible and binary hidden units: a density.

    .. math:: p(v) = \frac{e^{-F(v)}}{Z}, \quad F(v) = \sum_i \frac{(v_i - b_i)^2}{2 \sigma_i^2}
        - \sum_j \ln(1 + e^{c_j + (W v / \sigma)_j})

    See ``BoltzmannMachine``. The standard deviations are learnt.

    Args:
        shape: of an example; D real numbers.
        hidden_units: H.

    Source: Hinton and Salakhutdinov 2006; Hinton 2010, section 13.2.
    """

    values = "real"

    def __init__(self, shape: Sequence[int], *, hidden_units: int = 16) -> None:
        super().__init__(shape)
        at_least_one("hidden_units", hidden_units)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden_units, self.size))
        self.visible_bias = nn.Parameter(torch.zeros(self.size))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_units))
        self.log_scale = nn.Parameter(torch.zeros(self.size))

    @property
    def units(self) -> GaussianUnits:
        """See ``BoltzmannMachine``."""
        return GaussianUnits(self.weight, self.visible_bias, self.hidden_bias, self.log_scale)


class VisibleBoltzmann(BoltzmannMachine):
    r"""Binary units with weights between all of them, none hidden.

    .. math:: p(v) = \frac{e^{-E(v)}}{Z}, \quad E(v) = -b^\top v - \sum_{i < j} W_{ij} v_i v_j

    See ``BoltzmannMachine``.

    Args:
        shape: of an example; D zeros and ones.
        rule: of its chains, see ``PairwiseUnits``.
    Raises:
        ValueError: an unknown rule.

    Source: Ackley, Hinton and Sejnowski 1985.
    """

    def __init__(self, shape: Sequence[int], *, rule: Rule = "gibbs") -> None:
        super().__init__(shape)
        self.rule = choose_from("rule", rule, Rule)
        self.weight = nn.Parameter(torch.zeros(self.size, self.size))  # above the diagonal
        self.visible_bias = nn.Parameter(torch.zeros(self.size))

    @property
    def units(self) -> PairwiseUnits:
        """See ``BoltzmannMachine``."""
        above = self.weight.triu(1)
        return PairwiseUnits(above + above.t(), self.visible_bias, self.rule)


class DeepBeliefNet(nn.Module):
    r"""A restricted Boltzmann machine on top of layers that generate downwards, trained greedily.

    .. math:: p(v) = \sum_h p(v \mid h)\, p_{top}(h), \quad
        F(v) = \ln q(h \mid v) - \ln p(v \mid h) + F_{top}(h), \quad h \sim q(h \mid v)

    The mean of F over h is an upper bound of :math:`-\ln p(v)` but for ln Z of the top. Given the
    layer above or below, the units of a layer are independent, with the same weights both ways.

    Only the top learns. The layers below it take the weights of a net without it, by ``init_from``
    and ``init_map``: of an ``RBM`` by ``{network: network.layers.0}``.

    Args:
        shape: of an example; D zeros and ones.
        hidden_units: of each layer, from the lowest to the top; at least two.
    Shape:
        x ``[B, *shape]`` -> probabilities of the top's hidden units, each layer given those of
        the one below, ``[B, H]``
    Raises:
        ValueError: fewer than two layers, a size below 1, or an x of another shape.

    Source: Hinton, Osindero and Teh 2006; Salakhutdinov and Murray 2008, section 5 (the bound).
    """

    values: ClassVar[Values] = "binary"

    def __init__(self, shape: Sequence[int], *, hidden_units: Sequence[int] = (500, 500)) -> None:
        super().__init__()
        self.shape = tuple(shape)
        at_least(2, "the number of hidden_units", len(hidden_units), "; one layer is an RBM")
        shapes = [self.shape, *((size,) for size in hidden_units)]
        self.layers = nn.ModuleList(
            RBM(visible, hidden_units=size)
            for visible, size in zip(shapes, hidden_units, strict=False)
        )
        self.layers[:-1].requires_grad_(False)

    @property
    def units(self) -> BoltzmannUnits:
        """The top as its weights."""
        return self._layers()[-1]

    def _layers(self) -> list[BoltzmannUnits]:
        machines: Any = self.layers
        return [machine.units for machine in machines]

    @torch.no_grad()
    def states(self, x: Tensor) -> Tensor:
        """Random states of the units below the top given examples, ``[B, units]``."""
        check_examples(x, self.shape, "DeepBeliefNet")
        states = x.flatten(1)
        for layer in self._layers()[:-1]:
            states = drawn(layer.hidden_logits(states))
        return states

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "DeepBeliefNet")
        code = x.flatten(1)
        for layer in self._layers():
            code = layer.hidden_logits(code).sigmoid()
        return code

    def free_energy(self, x: Tensor) -> Tensor:
        """F of each example with a random h, ``[B]``."""
        check_examples(x, self.shape, "DeepBeliefNet")
        visible, log_ratio = x.flatten(1), x.new_zeros(len(x))
        for layer in self._layers()[:-1]:
            logits = layer.hidden_logits(visible)
            hidden = drawn(logits)
            generated = _log_prob(visible, layer.visible_logits(hidden))
            log_ratio = log_ratio + _log_prob(hidden, logits) - generated
            visible = hidden
        return log_ratio + self.units.free_energy(visible)

    @torch.no_grad()
    def sample(
        self, num_samples: int, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Examples ``[N, *shape]``, by so many Gibbs steps of the top and a pass downwards."""
        *below, top = self._layers()
        states = top.gibbs(top.independent(num_samples, generator), num_steps, generator)
        for layer in reversed(below):
            states = drawn(layer.visible_logits(states), generator)
        return states.view(-1, *self.shape)


def _log_prob(bits: Tensor, logits: Tensor) -> Tensor:
    """Log-probabilities of independent bits, ``[B, D]`` each -> ``[B]``."""
    return (bits * logits - F.softplus(logits)).sum(1)
