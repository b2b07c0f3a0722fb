"""Units of Boltzmann machines by enumeration: partition functions, chains, annealing, lattices."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from trellis.generative import AnnealedImportance, Enumeration, GaussianUnits, PairwiseUnits


def states(size: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)))


def gaussian(hidden: int = 4) -> GaussianUnits:
    torch.manual_seed(0)
    return GaussianUnits(
        torch.randn(hidden, 2), torch.randn(2), torch.randn(hidden), 0.3 * torch.randn(2)
    )


def pairwise(size: int, rule: str = "gibbs") -> PairwiseUnits:
    torch.manual_seed(0)
    above = torch.randn(size, size).triu(1)
    return PairwiseUnits(above + above.T, torch.randn(size), rule)


def mixture(units: GaussianUnits) -> MixtureSameFamily:
    """The visible units: a Gaussian for each state of the hidden ones."""
    h = states(len(units.hidden_bias))
    sigma = units.log_scale.exp()
    means = units.visible_bias + sigma * (h @ units.weight)
    inner = (means.square() - units.visible_bias.square()) / (2 * sigma.square())
    weights = Categorical(logits=h @ units.hidden_bias + inner.sum(1))
    return MixtureSameFamily(weights, Independent(Normal(means, sigma.expand_as(means)), 1))


def test_gaussian_units_are_a_mixture_of_gaussians() -> None:
    units, v = gaussian(), torch.randn(6, 2)
    log_z = Enumeration()(units).value
    torch.testing.assert_close(
        (-units.free_energy(v) - log_z).float(), mixture(units).log_prob(v), atol=1e-5, rtol=1e-5
    )


def test_chains_of_gaussian_units_reach_the_mixture() -> None:
    units = gaussian()
    generator = torch.Generator().manual_seed(0)
    v = units.gibbs(units.independent(40_000, generator), 50, generator)
    expected = mixture(units)
    torch.testing.assert_close(v.mean(0), expected.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(v.var(0), expected.variance, rtol=0.05, atol=0)


def test_annealing_finds_the_partition_functions() -> None:
    for units in (gaussian(), pairwise(6)):
        exact = Enumeration()(units).value
        torch.manual_seed(0)
        found = AnnealedImportance(num_chains=400, betas=100)(units)
        assert found.low < exact < found.high
        assert float(found.high - found.low) < 0.5


@pytest.mark.parametrize("rule", ["gibbs", "metropolis"])
def test_changes_of_a_unit_are_in_detailed_balance(rule: str) -> None:
    units, v = pairwise(4, rule), states(4)
    p = (-units.free_energy(v)).double().softmax(0)
    uniform = (torch.arange(10_000) + 0.5) / 10_000  # all of them: exact probabilities
    flow = torch.zeros(4, 16, 16, dtype=torch.double)
    for i, (number, state) in itertools.product(range(4), enumerate(v)):
        logit = (state @ units.weight[i] + units.visible_bias[i]).expand(10_000)
        after = units._changed(state[i].expand(10_000), logit, uniform)
        other = number ^ (8 >> i)
        moved = float((after != state[i]).double().mean())
        flow[i, number, other] += p[number] * moved
    torch.testing.assert_close(flow, flow.transpose(1, 2), rtol=0, atol=1e-4)
    assert (flow.sum((1, 2)) > 0.05).all()


@pytest.mark.parametrize("rule", ["gibbs", "metropolis"])
def test_sweeps_reach_the_distribution(rule: str) -> None:
    units, generator = pairwise(4, rule), torch.Generator().manual_seed(0)
    start = units.independent(40_000, generator)
    before = start.clone()
    v = units.gibbs(start, 30, generator)
    assert torch.equal(start, before)
    found = (v @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long().bincount(minlength=16) / len(v)
    exact = (-units.free_energy(states(4))).softmax(0)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.01)


def ising(side: int, coupling: float) -> tuple[PairwiseUnits, float]:
    """Spins s = 2 v - 1 on a torus, and what the energy in s has beyond that in v."""
    weight = torch.zeros(side**2, side**2)
    for row, column in itertools.product(range(side), repeat=2):
        for other in ((row + 1) % side, column), (row, (column + 1) % side):
            i, j = side * row + column, side * other[0] + other[1]
            weight[i, j] = weight[j, i] = 4 * coupling
    return PairwiseUnits(weight, -weight.sum(1) / 2), 2 * coupling * side**2


def kaufman(side: int, coupling: float) -> float:
    """ln Z of the Ising model on a torus (Kaufman 1949, eq. 54 to 57)."""
    double = 2 * coupling
    total = []
    gamma = [2 * coupling + math.log(math.tanh(coupling))]
    for k in range(1, 2 * side):
        cosh = math.cosh(double) / math.tanh(double) - math.cos(math.pi * k / side)
        gamma.append(math.acosh(cosh))
    odd, even = gamma[1::2], gamma[0::2]
    for part, hyperbolic in ((odd, math.cosh), (odd, math.sinh), (even, math.cosh)):
        total.append(math.prod(2 * hyperbolic(side * g / 2) for g in part))
    total.append(math.prod(2 * math.sinh(side * g / 2) for g in even))
    volume = side**2
    return math.log(sum(total) / 2) + volume / 2 * math.log(2 * math.sinh(double))


@pytest.mark.parametrize("coupling", [0.2, 0.44068679])
def test_lattices_of_spins_have_their_exact_partition_function(coupling: float) -> None:
    units, shift = ising(4, coupling)
    exact = float(Enumeration()(units).value) + shift
    assert exact == pytest.approx(kaufman(4, coupling), abs=1e-4)
    larger, shift = ising(6, coupling)
    torch.manual_seed(0)
    found = AnnealedImportance(num_chains=100, betas=150)(larger)
    assert float(found.low) + shift < kaufman(6, coupling) < float(found.high) + shift


def test_machines_that_are_too_large_are_refused() -> None:
    for units in (gaussian(23), pairwise(23)):
        with pytest.raises(ValueError, match=r"2\^23 states of 23 units.*AnnealedImportance"):
            Enumeration()(units)
