r"""Partition functions of Boltzmann machines: exact, or by annealed sampling.

Legend: N chains, S temperatures.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least, at_least_one
from trellis.generative.boltzmann import Units

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
    def __call__(self, machine: Units) -> LogPartition:
        """The logarithm of the partition function of a machine."""


class Enumeration(Partition):
    """All states of binary units, where the sums over the others have a closed form.

    Raises:
        ValueError: more than 22 units.
    """

    @torch.no_grad()
    def __call__(self, machine: Units) -> LogPartition:
        size = machine.num_enumerated
        if size > LARGEST:
            raise ValueError(
                f"2^{size} states of {size} units are too many to enumerate: choose "
                f"AnnealedImportance, or at most {LARGEST} units in the smaller layer"
            )
        like = machine.visible_bias
        blocks = torch.arange(2**size, device=like.device).split(BLOCK)
        parts = [machine.log_weights(_states(block, size).to(like)) for block in blocks]
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
        betas: inverse temperatures from 0 to 1, increasing; or their number S, evenly spaced; or
            how many steps lead to each of some: ``{0.5: 500, 0.9: 4000, 1: 10000}`` in the paper.
    Raises:
        ValueError: fewer than 2 chains or temperatures, or betas that do not increase from 0
            to 1.

    Source: Neal 2001; Salakhutdinov and Murray 2008, sections 3, 4.1 and 5.
    """

    def __init__(
        self,
        num_chains: int = 100,
        betas: int | Mapping[float, int] | Sequence[float] = 1000,
    ) -> None:
        self.num_chains = at_least(2, "num_chains", num_chains)
        if isinstance(betas, int):
            betas = {1.0: at_least(2, "betas", betas) - 1}
        self.betas = _spaced(betas) if isinstance(betas, Mapping) else [float(b) for b in betas]
        rising = all(before < now for before, now in pairwise(self.betas))
        if len(self.betas) < 2 or not rising or (self.betas[0], self.betas[-1]) != (0, 1):
            raise ValueError(
                f"betas={self.betas[:3]}...{self.betas[-1:]}: give a number, or inverse "
                f"temperatures that increase from 0 to 1"
            )

    @torch.no_grad()
    def __call__(self, machine: Units) -> LogPartition:
        visible = machine.independent(self.num_chains)
        log_weights = visible.new_zeros(self.num_chains, dtype=torch.double)
        for before, now in pairwise(self.betas):
            visible, gain = machine.anneal(visible, before, now)
            log_weights += gain
        return _mean_of(log_weights, machine.log_partition_independent())


def _spaced(numbers: Mapping[float, int]) -> list[float]:
    """Inverse temperatures from 0 on, with so many steps to each key."""
    betas = [0.0]
    for end, steps in numbers.items():
        at_least_one(f"betas[{end}]", steps)
        betas += torch.linspace(betas[-1], float(end), steps + 1, dtype=torch.double)[1:].tolist()
    return betas


def _mean_of(log_weights: Tensor, first: Tensor) -> LogPartition:
    """The logarithm of the mean of weights, and of the mean 3 standard errors off."""
    most = log_weights.max()
    weights = (log_weights - most).exp()
    error = 3 * weights.std() / math.sqrt(len(weights))
    mean = weights.mean()
    low = (mean - error).clamp(min=torch.finfo(mean.dtype).tiny)
    return LogPartition(*(part.log() + most + first for part in (mean, low, mean + error)))


def _states(numbers: Tensor, size: int) -> Tensor:
    """States of so many binary units by their numbers, ``[N]`` -> ``[N, size]``."""
    return (numbers[:, None] >> torch.arange(size, device=numbers.device)) & 1
