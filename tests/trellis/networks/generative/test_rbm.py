"""Machines: energies and samples by enumeration, exact partition functions, AIS, bad input."""

import itertools

import pytest
import torch
from torch import Tensor

from trellis.generative.partition import AnnealedImportance, Enumeration
from trellis.networks.generative import RBM, DeepBeliefNet, VisibleBoltzmann


def machine(visible: int, hidden: int, scale: float = 1.0) -> RBM:
    torch.manual_seed(0)
    made = RBM((visible,), hidden_units=hidden)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return made


def states(size: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)))


def joint(made: RBM) -> Tensor:
    """-E of all pairs of states, ``[2^D, 2^H]``, from the energy function."""
    v, h = states(made.weight.size(1)), states(made.weight.size(0))
    return (
        (v @ made.visible_bias)[:, None] + h @ made.hidden_bias + v @ made.weight.T @ h.T
    ).detach()


def test_a_free_energy_sums_over_all_hidden_states() -> None:
    made = machine(5, 4)
    torch.testing.assert_close(made(states(5)), -joint(made).logsumexp(1))


@pytest.mark.parametrize(("visible", "hidden"), [(5, 4), (4, 6), (16, 3)])
def test_the_exact_partition_function_is_the_sum_over_all_states(
    visible: int, hidden: int
) -> None:
    made = machine(visible, hidden)
    found = Enumeration()(made.units)
    assert float(found.value) == pytest.approx(float(joint(made).double().logsumexp((0, 1))))
    assert found.low == found.value == found.high


def test_gibbs_sampling_reaches_the_distribution() -> None:
    made = machine(3, 4)
    exact = joint(made).logsumexp(1).softmax(0)
    x = made.sample(40_000, 30, torch.Generator().manual_seed(0))
    numbers = (x * torch.tensor([4.0, 2.0, 1.0])).sum(1).long()
    found = numbers.bincount(minlength=8) / len(x)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.01)


def test_annealed_importance_sampling_finds_the_exact_value_within_its_error() -> None:
    made = machine(30, 20, scale=0.4)
    exact = Enumeration()(made.units).value
    found = AnnealedImportance(num_chains=200, betas=400)(made.units)
    assert found.low < exact < found.high
    assert float(found.high - found.low) < 0.5
    assert float(found.value) == pytest.approx(float(exact), abs=0.15)


def test_annealing_weighs_by_free_energies_and_draws_at_the_new_temperature() -> None:
    made, before, now = machine(3, 4), 0.25, 0.75
    v = states(3)

    def free_energy(beta: float) -> Tensor:
        hidden = torch.nn.functional.softplus(beta * (v @ made.weight.T + made.hidden_bias)).sum(1)
        return -(v @ made.visible_bias) - hidden

    _, gain = made.units.anneal(v, before, now)
    torch.testing.assert_close(gain, free_energy(before) - free_energy(now))
    torch.testing.assert_close(free_energy(1.0), made(v))
    independent = (-free_energy(0.0)).logsumexp(0)
    assert made.units.log_partition_independent().item() == pytest.approx(float(independent))
    torch.manual_seed(1)
    x = made.units.independent(40_000)
    for beta, steps in ((0.0, 0), (now, 30)):
        for _ in range(steps):
            x, _ = made.units.anneal(x, now, now)
        found = (x @ torch.tensor([4.0, 2.0, 1.0])).long().bincount(minlength=8) / len(x)
        exact = (-free_energy(beta)).softmax(0)
        torch.testing.assert_close(found, exact, rtol=0, atol=0.01)


def test_temperatures_are_spaced_between_those_that_are_named() -> None:
    made = AnnealedImportance(betas={0.5: 2, 1: 4})
    assert made.betas == [0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0]
    assert AnnealedImportance(betas=5).betas == AnnealedImportance(betas={1: 4}).betas


def belief_net(hidden_units: tuple[int, ...] = (3, 5)) -> DeepBeliefNet:
    torch.manual_seed(0)
    made = DeepBeliefNet((2, 2), hidden_units=hidden_units)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def exact(made: DeepBeliefNet) -> Tensor:
    """ln p of all 16 examples of a net of two layers, but for ln Z of the top."""
    below, top = (layer.units for layer in made.layers)
    h, v = states(3), states(4)
    visible = torch.distributions.Bernoulli(logits=below.visible_logits(h)[:, None])
    return (visible.log_prob(v).sum(2) - top.free_energy(h)[:, None]).logsumexp(0).detach()


def test_free_energies_of_a_belief_net_are_importance_weights_and_a_bound() -> None:
    made, right = belief_net(), exact(belief_net())
    found = made.free_energy(states(4).repeat(50_000, 1).view(-1, 2, 2)).view(50_000, 16)
    torch.testing.assert_close((-found).exp().mean(0).log(), right, rtol=0, atol=0.05)
    assert (found.mean(0) > -right).all()
    x = made.sample(40_000, 50, torch.Generator().manual_seed(0)).flatten(1)
    shares = (x @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long().bincount(minlength=16) / len(x)
    torch.testing.assert_close(shares, right.softmax(0), rtol=0, atol=0.01)


def test_a_belief_net_whose_top_is_turned_around_is_the_machine_below() -> None:
    # Hinton, Osindero and Teh 2006, section 4: where the bound begins, and is no bound but equal.
    made = belief_net((3, 4))
    below, top = made.layers
    with torch.no_grad():
        top.weight.copy_(below.weight.T)
        top.visible_bias.copy_(below.hidden_bias)
        top.hidden_bias.copy_(below.visible_bias)
    x = states(4).view(-1, 2, 2)
    torch.testing.assert_close(made.free_energy(x), below(x))


def test_a_belief_net_trains_its_top_alone_on_states_below_it() -> None:
    made = belief_net((3, 5, 2))
    trained = [name for name, each in made.named_parameters() if each.requires_grad]
    assert {name.partition(".weight")[0] for name in trained if "weight" in name} == {"layers.2"}
    found = made.states(torch.ones(20_000, 2, 2))
    first = made.layers[0].units.hidden_logits(torch.ones(1, 4)).sigmoid()
    h = states(3)
    share = (h * first + (1 - h) * (1 - first)).prod(1)
    expected = share @ made.layers[1].units.hidden_logits(h).sigmoid()
    torch.testing.assert_close(found.mean(0), expected, rtol=0, atol=0.02)
    assert made(torch.ones(6, 2, 2)).shape == (6, 2)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\^23 states.*AnnealedImportance"):
        Enumeration()(machine(30, 23).units)
    with pytest.raises(ValueError, match="betas"):
        AnnealedImportance(betas=[0.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="betas"):
        AnnealedImportance(betas=[0.1, 1.0])
    with pytest.raises(ValueError, match=r"betas\[0.5\]=0"):
        AnnealedImportance(betas={0.5: 0, 1.0: 3})
    with pytest.raises(ValueError, match="increase from 0 to 1"):
        AnnealedImportance(betas={0.5: 3, 0.9: 3})
    with pytest.raises(ValueError, match="hidden_units=0"):
        RBM((3,), hidden_units=0)
    with pytest.raises(ValueError, match="number of hidden_units=1.*RBM"):
        DeepBeliefNet((3,), hidden_units=(2,))
    with pytest.raises(ValueError, match=r"rule='glauber'.*metropolis"):
        VisibleBoltzmann((3,), rule="glauber")
    with pytest.raises(ValueError, match="x"):
        machine(3, 2)(torch.zeros(2, 4))
