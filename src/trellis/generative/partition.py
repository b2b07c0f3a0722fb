r"""Partition functions of restricted Boltzmann machines: exact, or by annealed sampling.

Legend: D visible units, H hidden units, N chains, S temperatures.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least, at_least_one
from trellis.generative.boltzmann import BoltzmannUnits

LARGEST = 22  # units of a layer whose 2^n states are enumerated
BLOCK = 2**14  # states at once


class LogPartition(NamedTuple):
    """A logarithm of Z, with what lies three standard errors below and above; exact: equal."""

    value: Tensor
    low: Tensor
    high: Tensor


class Partition(ABC):
    """Base of the ways to compute ln Z."""

    @abstractmethod
    def __call__(self, machine: BoltzmannUnits) -> LogPartition:
        """The logarithm of the partition function of a machine."""


class Enumeration(Partition):
    """All states of the smaller layer, whose sums over the larger one have a closed form.

    Raises:
        ValueError: the smaller layer has more than 22 units.
    """

    @torch.no_grad()
    def __call__(self, machine: BoltzmannUnits) -> LogPartition:
        hidden, visible = machine.weight.shape
        size = min(hidden, visible)
        if size > LARGEST:
            raise ValueError(
                f"the smaller layer has {size} units: 2^{size} states are too many to enumerate; "
                f"choose AnnealedImportance, or at most {LARGEST} hidden units"
            )
        parts = []
        for states in _states(size, machine.weight).split(BLOCK):
            if size == visible:
                parts.append(-machine.free_energy(states))
            else:
                inputs = F.linear(states, machine.weight.t(), machine.visible_bias)
                parts.append(states @ machine.hidden_bias + F.softplus(inputs).sum(1))
        value = torch.cat(parts).double().logsumexp(0)
        return LogPartition(value, value, value)


class AnnealedImportance(Partition):
    r"""Annealed importance sampling from independent units to the machine.

    .. math:: \frac{Z}{Z_0} \approx \frac1N \sum_n \prod_s
        e^{F_{\beta_{s-1}}(v_s) - F_{\beta_s}(v_s)}

    with v from one Gibbs step a temperature; the independent units have the machine's visible
    biases. The estimate of Z is unbiased.

    Args:
        num_chains: N.
        betas: inverse temperatures from 0 to 1, increasing; or their number S, evenly spaced.
    Raises:
        ValueError: fewer than 2 chains or temperatures, or betas that do not increase from 0
            to 1.

    Source: Neal 2001; Salakhutdinov and Murray 2008, sections 3 and 4.1.
    """

    def __init__(self, num_chains: int = 100, betas: int | Sequence[float] = 1000) -> None:
        self.num_chains = at_least(2, "num_chains", num_chains)
        if isinstance(betas, int):
            betas = torch.linspace(0, 1, at_least(2, "betas", betas)).tolist()
        self.betas = [float(beta) for beta in betas]
        rising = all(a < b for a, b in zip(self.betas, self.betas[1:], strict=False))
        if len(self.betas) < 2 or not rising or (self.betas[0], self.betas[-1]) != (0, 1):
            raise ValueError(
                f"betas={self.betas[:3]}...{self.betas[-1:]}: give a number, or inverse "
                f"temperatures that increase from 0 to 1"
            )

    @torch.no_grad()
    def __call__(self, machine: BoltzmannUnits) -> LogPartition:
        bias = machine.visible_bias
        visible = (torch.rand(self.num_chains, len(bias)).to(bias) < bias.sigmoid()).to(bias)
        before, log_weights = machine.tempered(bias, 0.0), bias.new_zeros(self.num_chains).double()
        for beta in self.betas[1:]:
            now = machine.tempered(bias, beta)
            log_weights += (before.free_energy(visible) - now.free_energy(visible)).double()
            visible, before = now.gibbs(visible, 1), now
        first = F.softplus(bias).double().sum() + len(machine.hidden_bias) * math.log(2)
        return _mean_of(log_weights, first)


def _mean_of(log_weights: Tensor, first: Tensor) -> LogPartition:
    """The logarithm of the mean of weights, and of the mean 3 standard errors off."""
    most = log_weights.max()
    weights = (log_weights - most).exp()
    error = 3 * weights.std() / math.sqrt(len(weights))
    mean = weights.mean()
    low = (mean - error).clamp(min=torch.finfo(mean.dtype).tiny)
    return LogPartition(*(part.log() + most + first for part in (mean, low, mean + error)))


def _states(size: int, like: Tensor) -> Tensor:
    """All ``2^size`` states of binary units, ``[2^size, size]``."""
    numbers = torch.arange(2 ** at_least_one("size", size), device=like.device)
    return ((numbers[:, None] >> torch.arange(size, device=like.device)) & 1).to(like.dtype)
