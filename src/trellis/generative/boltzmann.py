"""Boltzmann machines as their weights: energies, Gibbs sampling, annealing.

Legend: B examples of D visible units, H hidden units, N states.
"""

import math
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.generative.gaussian import HALF_LOG_TWO_PI

Rule = Literal["gibbs", "metropolis"]


class Units(Protocol):
    r"""What training and the estimates of partition functions ask of a machine.

    At an inverse temperature beta of 0 the visible units are independent, at 1 they are this
    machine's.
    """

    @property
    def visible_bias(self) -> Tensor:
        """``[D]``."""

    @property
    def num_enumerated(self) -> int:
        """Number of binary units whose states have weights in closed form."""

    def log_weights(self, states: Tensor) -> Tensor:
        """Logarithms of the weights of these units' states ``[N, units]``, which add up to Z."""

    def free_energy(self, visible: Tensor) -> Tensor:
        """Minus the logarithm of p(v), but for that of Z, of ``[B, D]``: ``[B]``."""

    def gibbs(
        self, visible: Tensor, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """States ``[B, D]`` after so many steps of a chain from others.

        Args:
            visible: where the chains begin.
            num_steps: each draws every unit anew.
            generator: of the random numbers.
        """

    def independent(self, num_states: int, generator: torch.Generator | None = None) -> Tensor:
        """Visible states where beta = 0, ``[N, D]``."""

    def log_partition_independent(self) -> Tensor:
        """The logarithm of Z where beta = 0, a scalar in double precision."""

    def anneal(self, visible: Tensor, before: float, now: float) -> tuple[Tensor, Tensor]:
        r"""One step of annealed importance sampling, from one inverse temperature to the next.

        Args:
            visible: states ``[N, D]``, about those of beta = ``before``.
            before: the smaller inverse temperature.
            now: the larger one.
        Returns:
            States after a Gibbs step at ``now``, and :math:`F_{before}(v) - F_{now}(v)`, ``[N]``.
        """


class BoltzmannUnits(NamedTuple):
    r"""A restricted Boltzmann machine of binary units.

    .. math:: F_\beta(v) = -b^\top v - \sum_j \ln(1 + e^{\beta (c_j + (W v)_j)})

    Args:
        weight: W, ``[H, D]``.
        visible_bias: b, ``[D]``.
        hidden_bias: c, ``[H]``.

    Source: Salakhutdinov and Murray 2008, section 4.1 (beta, where a = b).
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    @property
    def num_enumerated(self) -> int:
        """See ``Units``: those of the smaller layer."""
        return min(self.weight.shape)

    def log_weights(self, states: Tensor) -> Tensor:
        """See ``Units``."""
        if self.num_enumerated == len(self.visible_bias):
            return -self.free_energy(states)
        inputs = self.visible_logits(states)
        return states @ self.hidden_bias + F.softplus(inputs).sum(1)

    def free_energy(self, visible: Tensor) -> Tensor:
        """See ``Units``."""
        inputs = self.hidden_logits(visible)
        return -(visible @ self.visible_bias) - F.softplus(inputs).sum(1)

    def gibbs(
        self, visible: Tensor, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """See ``Units``: all hidden units given the visible ones, then the other way round."""
        for _ in range(num_steps):
            hidden = drawn(self.hidden_logits(visible), generator)
            visible = drawn(self.visible_logits(hidden), generator)
        return visible

    def independent(self, num_states: int, generator: torch.Generator | None = None) -> Tensor:
        """See ``Units``."""
        return drawn(self.visible_bias.expand(num_states, -1), generator)

    def log_partition_independent(self) -> Tensor:
        """See ``Units``."""
        log_z = F.softplus(self.visible_bias.double()).sum()
        return log_z + len(self.hidden_bias) * math.log(2)

    def anneal(self, visible: Tensor, before: float, now: float) -> tuple[Tensor, Tensor]:
        """See ``Units``."""
        inputs = self.hidden_logits(visible)
        hidden = drawn(now * inputs)
        return drawn(self.visible_logits(hidden, now)), _gain(inputs, before, now)

    def hidden_logits(self, visible: Tensor) -> Tensor:
        """Log-odds of the hidden units given the visible ones, ``[B, D]`` -> ``[B, H]``."""
        return F.linear(visible, self.weight, self.hidden_bias)

    def visible_logits(self, hidden: Tensor, beta: float = 1.0) -> Tensor:
        """Log-odds of the visible units given the hidden ones, ``[B, H]`` -> ``[B, D]``."""
        return torch.addmm(self.visible_bias, hidden, self.weight, alpha=beta)


class GaussianUnits(NamedTuple):
    r"""A restricted Boltzmann machine of Gaussian visible and binary hidden units.

    .. math:: F_\beta(v) = \sum_i \frac{(v_i - b_i)^2}{2 \sigma_i^2}
        - \sum_j \ln(1 + e^{\beta (c_j + (W v / \sigma)_j)})

    The visible units given the hidden ones are
    :math:`N(b + \beta\, \sigma\, W^\top h, \sigma^2)`: a mixture of :math:`2^H` Gaussians.

    Args:
        weight: W, ``[H, D]``.
        visible_bias: b, ``[D]``.
        hidden_bias: c, ``[H]``.
        log_scale: :math:`\ln \sigma`, ``[D]``.

    Source: Hinton and Salakhutdinov 2006; Hinton 2010, section 13.2.
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    log_scale: Tensor

    @property
    def num_enumerated(self) -> int:
        """See ``Units``: the hidden ones."""
        return len(self.hidden_bias)

    def log_weights(self, states: Tensor) -> Tensor:
        """See ``Units``."""
        shift = states @ self.weight  # of the means, in units of sigma
        inner = shift * (self.visible_bias * (-self.log_scale).exp() + shift / 2)
        return states @ self.hidden_bias + inner.sum(1) + self._log_volume().to(shift)

    def free_energy(self, visible: Tensor) -> Tensor:
        """See ``Units``."""
        away = (visible - self.visible_bias) * (-self.log_scale).exp()
        return away.square().sum(1) / 2 - F.softplus(self._inputs(visible)).sum(1)

    def gibbs(
        self, visible: Tensor, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """See ``Units``: all hidden units given the visible ones, then the other way round."""
        for _ in range(num_steps):
            visible = self._visible(drawn(self._inputs(visible), generator), 1.0, generator)
        return visible

    def independent(self, num_states: int, generator: torch.Generator | None = None) -> Tensor:
        """See ``Units``."""
        hidden = self.hidden_bias.new_zeros(num_states, self.num_enumerated)
        return self._visible(hidden, 0.0, generator)

    def log_partition_independent(self) -> Tensor:
        """See ``Units``."""
        return self._log_volume() + self.num_enumerated * math.log(2)

    def anneal(self, visible: Tensor, before: float, now: float) -> tuple[Tensor, Tensor]:
        """See ``Units``."""
        inputs = self._inputs(visible)
        return self._visible(drawn(now * inputs), now, None), _gain(inputs, before, now)

    def _inputs(self, visible: Tensor) -> Tensor:
        return F.linear(visible * (-self.log_scale).exp(), self.weight, self.hidden_bias)

    def _visible(self, hidden: Tensor, beta: float, generator: torch.Generator | None) -> Tensor:
        shift = beta * (hidden @ self.weight)
        noise = torch.randn(
            shift.shape, generator=generator, device=shift.device, dtype=shift.dtype
        )
        return self.visible_bias + self.log_scale.exp() * (shift + noise)

    def _log_volume(self) -> Tensor:
        scales = self.log_scale.double()
        return scales.sum() + len(scales) * HALF_LOG_TWO_PI


class PairwiseUnits(NamedTuple):
    r"""A Boltzmann machine without hidden units: an Ising model with couplings of its own.

    .. math:: F_\beta(v) = -\beta\, (b^\top v + \tfrac12 v^\top W v)

    Args:
        weight: W, symmetric with a diagonal of 0, ``[D, D]``.
        visible_bias: b, ``[D]``.
        rule: by which a unit changes that would raise the energy by e: with the probability
            :math:`\sigma(-e)` of ``gibbs`` sampling, whatever it was, or the
            :math:`\min(1, e^{-e})` of ``metropolis``.

    Source: Ackley, Hinton and Sejnowski 1985; Geman and Geman 1984; Metropolis et al. 1953.
    """

    weight: Tensor
    visible_bias: Tensor
    rule: Rule = "gibbs"

    @property
    def num_enumerated(self) -> int:
        """See ``Units``: all."""
        return len(self.visible_bias)

    def log_weights(self, states: Tensor) -> Tensor:
        """See ``Units``."""
        return -self.free_energy(states)

    def free_energy(self, visible: Tensor) -> Tensor:
        """See ``Units``: the energy, as nothing is hidden."""
        return -(visible @ self.visible_bias) - ((visible @ self.weight) * visible).sum(1) / 2

    def gibbs(
        self, visible: Tensor, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """See ``Units``: one visible unit after the other, in their order."""
        return self._swept(visible, 1.0, num_steps, generator)

    def independent(self, num_states: int, generator: torch.Generator | None = None) -> Tensor:
        """See ``Units``."""
        return drawn(torch.zeros_like(self.visible_bias).expand(num_states, -1), generator)

    def log_partition_independent(self) -> Tensor:
        """See ``Units``."""
        return self.visible_bias.double().new_tensor(len(self.visible_bias) * math.log(2))

    def anneal(self, visible: Tensor, before: float, now: float) -> tuple[Tensor, Tensor]:
        """See ``Units``."""
        return self._swept(visible, now, 1, None), (before - now) * self.free_energy(visible)

    def _swept(
        self, visible: Tensor, beta: float, num_steps: int, generator: torch.Generator | None
    ) -> Tensor:
        visible, weight, biases = visible.clone(), beta * self.weight, beta * self.visible_bias
        like: Any = {"device": visible.device, "dtype": visible.dtype}
        for _ in range(num_steps):
            uniform = torch.rand(visible.shape, generator=generator, **like)
            for i in range(visible.size(1)):
                logit = visible @ weight[i] + biases[i]
                visible[:, i] = self._changed(visible[:, i], logit, uniform[:, i])
        return visible

    def _changed(self, unit: Tensor, logit: Tensor, uniform: Tensor) -> Tensor:
        if self.rule == "gibbs":
            return (uniform < logit.sigmoid()).to(unit)
        fall = (1 - 2 * unit) * logit  # of the energy, if the unit changes
        return torch.where(uniform < fall.exp(), 1 - unit, unit)


def drawn(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binary units that are 1 with the probability ``logits.sigmoid()``, of the same shape."""
    uniform = torch.rand(
        logits.shape, generator=generator, device=logits.device, dtype=logits.dtype
    )
    return (uniform < logits.sigmoid()).to(logits.dtype)


def _gain(inputs: Tensor, before: float, now: float) -> Tensor:
    """What the free energy of hidden units falls by, from one inverse temperature to another."""
    return (F.softplus(now * inputs) - F.softplus(before * inputs)).sum(1)
