"""Bandits against updates by hand, the gradient's definition, and a seeded testbed."""

import math

import pytest
import torch

from trellis.rl.bandits import (
    EpsilonGreedy,
    GaussianTestbed,
    GradientBandit,
    UpperConfidenceBound,
    play,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tell(agent, pulls: list[tuple[int, float]]) -> None:
    for arm, reward in pulls:
        agent.update(torch.tensor([arm]), torch.tensor([reward]))


def test_sample_means_by_hand() -> None:
    agent = EpsilonGreedy(3, initial_value=9.0)
    tell(agent, [(0, 1.0), (0, 4.0), (2, -1.0), (0, 1.0)])
    torch.testing.assert_close(agent.values, torch.tensor([[2.0, 9.0, -1.0]]))
    assert agent.counts.tolist() == [[3, 0, 1]]


def test_constant_step_by_hand() -> None:
    agent = EpsilonGreedy(2, step_size=0.5, initial_value=4.0)
    tell(agent, [(1, 0.0), (1, 8.0)])
    torch.testing.assert_close(agent.values, torch.tensor([[4.0, 5.0]]))


def test_games_do_not_mix() -> None:
    agent = EpsilonGreedy(2, 3)
    agent.update(torch.tensor([0, 1, 1]), torch.tensor([1.0, 2.0, 3.0]))
    assert agent.values.tolist() == [[1, 0], [0, 2], [0, 3]]


def test_epsilon_is_the_share_of_exploration() -> None:
    agent = EpsilonGreedy(4, 20_000, epsilon=0.4, generator=generator())
    agent.values[:, 2] = 1.0
    share = (agent.select() == 2).float().mean().item()
    assert share == pytest.approx(0.6 + 0.1, abs=0.015)


def test_confidence_bounds_by_hand() -> None:
    agent = UpperConfidenceBound(3, confidence=2.0)
    tell(agent, [(0, 1.0), (0, 3.0), (1, 1.5)])
    expected = [2 + 2 * math.sqrt(math.log(4) / 2), 1.5 + 2 * math.sqrt(math.log(4)), math.inf]
    assert agent.bounds()[0].tolist() == pytest.approx(expected)
    assert agent.select().item() == 2  # the untried arm first
    tell(agent, [(2, -9.0)])
    assert agent.select().item() == 1  # then the arm of fewer pulls


def test_no_confidence_is_greedy() -> None:
    agent = UpperConfidenceBound(2, confidence=0.0)
    tell(agent, [(0, 1.0), (1, 2.0)])
    assert {agent.select().item() for _ in range(20)} == {1}


def test_gradient_bandit_by_hand() -> None:
    agent = GradientBandit(2, step_size=0.5)
    tell(agent, [(0, 1.0)])  # the first reward is its own mean: nothing moves
    assert agent.preferences.tolist() == [[0.0, 0.0]]
    tell(agent, [(1, 2.0)])  # 0.5 * (2 - 1.5) * (1 - 1/2)
    torch.testing.assert_close(agent.preferences, torch.tensor([[-0.125, 0.125]]))
    plain = GradientBandit(2, step_size=0.5, baseline=False)
    tell(plain, [(0, 1.0)])
    torch.testing.assert_close(plain.preferences, torch.tensor([[0.25, -0.25]]))


def test_gradient_bandit_climbs_the_expected_reward() -> None:
    """Averaged over the arms its step is the gradient of the sum of pi(a) q(a)."""
    means = torch.tensor([1.0, 0.0, -2.0])
    start = torch.tensor([0.3, -0.1, 0.2], requires_grad=True)
    (start.softmax(0) @ means).backward()
    step = torch.zeros(3)
    for arm, share in enumerate(start.softmax(0).tolist()):
        agent = GradientBandit(3, step_size=1.0, baseline=False)
        agent.preferences = start.detach().clone().unsqueeze(0)
        tell(agent, [(arm, means[arm].item())])
        step += share * (agent.preferences[0] - start.detach())
    torch.testing.assert_close(step, start.grad)


AGENTS = {
    "epsilon": lambda: EpsilonGreedy(10, 300, epsilon=0.1, generator=generator(1)),
    "ucb": lambda: UpperConfidenceBound(10, 300, confidence=2.0, generator=generator(1)),
    "gradient": lambda: GradientBandit(10, 300, step_size=0.1, generator=generator(1)),
}


@pytest.mark.parametrize("name", AGENTS)
def test_finds_the_best_arm_and_regret_shrinks(name: str) -> None:
    testbed = GaussianTestbed(10, 300, generator=generator())
    pulls = play(AGENTS[name](), testbed, 1000)
    best = (pulls.arms == testbed.means.argmax(1)).float()
    assert best[-100:].mean() > 0.65  # chance is 0.1
    early, middle, late = (
        pulls.regrets[part].mean().item()
        for part in (slice(20), slice(100, 300), slice(800, 1000))
    )
    assert early > 1.3 * middle > 1.3 * late
    assert pulls.regrets.min() == 0
    error = (pulls.rewards - (testbed.means.amax(1) - pulls.regrets)).mean()
    assert abs(error) < 0.01  # rewards are the arms' means on average


def test_greedy_stays_behind() -> None:
    """The control: without exploration the best arm is found in a third of the games."""
    testbed = GaussianTestbed(10, 300, generator=generator())
    pulls = play(EpsilonGreedy(10, 300, epsilon=0.0, generator=generator(1)), testbed, 1000)
    assert (pulls.arms[-100:] == testbed.means.argmax(1)).float().mean() < 0.5


def test_the_baseline_matters_far_from_zero() -> None:
    shares = []
    for baseline in (True, False):
        testbed = GaussianTestbed(10, 300, mean=4.0, generator=generator())
        agent = GradientBandit(10, 300, baseline=baseline, generator=generator(1))
        arms = play(agent, testbed, 500).arms[-100:]
        shares.append((arms == testbed.means.argmax(1)).float().mean().item())
    assert shares[0] > shares[1] + 0.15


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EpsilonGreedy(0), "num_arms=0: give at least 1"),
        (lambda: EpsilonGreedy(2, epsilon=-0.1), "epsilon=-0.1"),
        (lambda: EpsilonGreedy(2, step_size=0.0), r"step_size=0.0: give a number in \(0, 1\]"),
        (lambda: UpperConfidenceBound(2, confidence=-1.0), "confidence=-1.0"),
        (lambda: GradientBandit(2, step_size=0.0), "step_size=0.0"),
        (lambda: play(EpsilonGreedy(10), GaussianTestbed(10, 1), 0), "steps=0"),
    ],
)
def test_bad_input(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
