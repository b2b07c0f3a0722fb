"""Temporal differences against hand, Monte Carlo, linear algebra, and the cliff."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.spaces import Discrete  # noqa: E402

from trellis.rl.dynamic_programming import (  # noqa: E402
    FiniteMDP,
    action_values,
    evaluate_policy,
    value_iteration,
)
from trellis.rl.environments import corner_grid, finite_mdp  # noqa: E402
from trellis.rl.episodes import Episode, sample_episodes  # noqa: E402
from trellis.rl.monte_carlo import Control, mc_prediction  # noqa: E402
from trellis.rl.policies import epsilon_greedy  # noqa: E402
from trellis.rl.temporal_difference import (  # noqa: E402
    batch_td,
    expected_sarsa,
    q_learning,
    sarsa,
    td_lambda,
    td_prediction,
)

CONTROLS = {"sarsa": sarsa, "expected": expected_sarsa, "q": q_learning}


def test_the_courses_episodes(ab_episodes: list[Episode]) -> None:
    """TD knows that A leads to B; Monte Carlo only saw A's one return."""
    assert batch_td(ab_episodes, 3, 1.0).tolist() == pytest.approx([3 / 4, 3 / 4, 0])
    assert mc_prediction(ab_episodes, 3, 1.0).values.tolist() == pytest.approx([0, 3 / 4, 0])
    # Small steps over the same set again and again come to the same.
    repeated = td_prediction(ab_episodes * 2000, 3, 1.0, step_size=0.005)
    assert repeated.tolist() == pytest.approx([3 / 4, 3 / 4, 0], abs=0.01)


def test_td_by_hand() -> None:
    episode = Episode([0, 1, 2], [], [1.0, 2.0])
    start = torch.tensor([0.0, 4.0, 100.0])
    found = td_prediction([episode], 3, 0.5, step_size=0.1, values=start)
    # 0 + .1 (1 + .5 * 4 - 0) and 4 + .1 (2 + 0 - 4): nothing follows an end.
    assert found.tolist() == pytest.approx([0.3, 3.8, 100.0])
    assert start.tolist() == [0, 4, 100]


def test_a_time_limit_keeps_the_estimate_of_what_follows() -> None:
    episode = Episode([0, 1], [], [1.0], terminated=False)
    start = torch.tensor([0.0, 4.0])
    for learn in (td_prediction, partial(td_lambda, lam=0.7)):
        cut = learn([episode], 2, 0.5, step_size=1.0, values=start)
        assert cut.tolist() == [3, 4]
        ended = learn([episode._replace(terminated=True)], 2, 0.5, step_size=1.0, values=start)
        assert ended.tolist() == [1, 4]
    both = [episode, Episode([1, 2], [], [8.0])]
    assert batch_td(both, 3, 0.5).tolist() == pytest.approx([5, 8, 0])
    both[0] = episode._replace(terminated=True)
    assert batch_td(both, 3, 0.5).tolist() == pytest.approx([1, 8, 0])


@pytest.mark.long
@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize(
    "learn",
    [
        partial(td_prediction, step_size=0.01),
        partial(td_lambda, lam=0.8, step_size=0.005),
        partial(td_lambda, lam=0.8, step_size=0.005, traces="replacing"),
        partial(td_lambda, lam=0.8, step_size=0.005, offline=True),
        batch_td,
    ],
)
def test_converges_to_the_values_of_the_policy(
    learn, gamma: float, random_walk: FiniteMDP, walks: list[Episode]
) -> None:
    exact = evaluate_policy(random_walk, random_walk.uniform_policy, gamma).values
    found = learn(walks, num_states=7, gamma=gamma)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)


@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
def test_lambda_zero_is_td(traces: Any, walks: list[Episode]) -> None:
    episodes = walks[:50]
    expected = td_prediction(episodes, 7, 0.9, step_size=0.1)
    found = td_lambda(episodes, 7, 0.9, 0.0, step_size=0.1, traces=traces)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_one_offline_is_monte_carlo(gamma: float, walks: list[Episode]) -> None:
    """Constant step size, every visit; each visit of an episode errs from the same values."""
    values = torch.zeros(7, dtype=torch.float64)
    episodes = [*walks[:30], Episode([3, 4, 3], [], [0.0, 0.0], terminated=False)]
    for episode in episodes:
        after = 0.0 if episode.terminated else values[episode.states[-1]].item()
        change = torch.zeros_like(values)
        for state, total in zip(episode.states, episode.returns(gamma, after), strict=False):
            change[state] += 0.1 * (total - values[state])
        values += change
    found = td_lambda(episodes, 7, gamma, 1.0, step_size=0.1, offline=True)
    torch.testing.assert_close(found, values)


def test_offline_is_the_lambda_return(walks: list[Episode]) -> None:
    """The forward view: errors against the mixture of n-step returns, written out."""
    episode, lam, gamma = walks[1], 0.6, 0.9
    start = torch.linspace(-1, 1, 7).double()
    length = len(episode.rewards)
    values = [*(start[s].item() for s in episode.states[:-1]), 0.0]
    expected = start.clone()
    for t in range(length):
        n_step = []
        for n in range(1, length - t + 1):
            paid = sum(gamma**k * episode.rewards[t + k] for k in range(n))
            n_step.append(paid + gamma**n * values[t + n])
        target = sum((1 - lam) * lam**n * g for n, g in enumerate(n_step[:-1]))
        target += lam ** (len(n_step) - 1) * n_step[-1]
        expected[episode.states[t]] += 0.1 * (target - values[t])
    found = td_lambda([episode], 7, gamma, lam, step_size=0.1, offline=True, values=start)
    torch.testing.assert_close(found, expected)


def test_traces_by_hand() -> None:
    """State 0 twice, then an end that pays 1: traces 1 + .5 and 1."""
    episode = Episode([0, 0, 1], [], [0.0, 1.0])
    accumulating = td_lambda([episode], 2, 1.0, 0.5, step_size=0.1)
    replacing = td_lambda([episode], 2, 1.0, 0.5, step_size=0.1, traces="replacing")
    assert accumulating[0] == pytest.approx(0.15)
    assert replacing[0] == pytest.approx(0.1)


def test_batch_td_is_certainty_equivalence(walks: list[Episode]) -> None:
    """Its limit solves the process that was counted from the same episodes."""
    episodes, gamma = walks[:40], 0.9
    counts, rewards = torch.zeros(7, 7).double(), torch.zeros(7).double()
    for episode in episodes:
        for step in episode.steps():
            counts[step.state, step.next_state] += 1
            rewards[step.state] += step.reward
    visits = counts.sum(1).clamp(min=1)
    model = counts / visits.unsqueeze(1)
    exact = torch.linalg.solve(torch.eye(7).double() - gamma * model, rewards / visits)
    torch.testing.assert_close(batch_td(episodes, 7, gamma), exact, atol=1e-8, rtol=0)


class OneWay(gymnasium.Env):
    """0, 1, end: rewards 1 and 2, whatever is done."""

    observation_space, action_space = Discrete(3), Discrete(2)
    state = 0

    def __init__(self, cut: bool = False) -> None:
        self.cut = cut

    def reset(self, *, seed=None, options=None):
        self.state = 0
        return 0, {}

    def step(self, action):
        self.state += 1
        last = self.state == 2
        return self.state, float(self.state), last and not self.cut, last and self.cut, {}


def taken(before: Tensor, after: Tensor) -> list[int]:
    return [int(row.nonzero()) for row in (before != after)[:2]]


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("cut", [False, True])
def test_one_episode_by_hand(name: str, cut: bool) -> None:
    start = torch.tensor([[0.0, 0.0], [4.0, 6.0], [10.0, 20.0]], dtype=torch.float64)
    futures = set()
    for seed in range(30):
        learnt = CONTROLS[name](
            OneWay(cut), 1, 0.5, step_size=0.1, epsilon=0.5, values=start, seed=seed
        )
        first, second = taken(start, learnt.values)
        following = {"sarsa": start[1, second], "expected": 0.25 * 4 + 0.75 * 6, "q": 6.0}[name]
        assert learnt.values[0, first].item() == pytest.approx(0.1 * (1 + 0.5 * following))
        old = start[1, second].item()
        future = (learnt.values[1, second].item() - old) / 0.1 + old - 2
        futures.add(round(future, 6))
        assert learnt.returns.tolist() == [3]
    expected = {"sarsa": {5.0, 10.0}, "expected": {0.5 * 17.5}, "q": {10.0}}[name]
    assert futures == (expected if cut else {0.0})


def test_q_learning_finds_the_values_of_the_best_policy() -> None:
    """A step size of 1 is right where nothing is random; half of the steps explore."""
    environment = corner_grid()
    mdp = finite_mdp(environment)
    found = q_learning(environment, 600, 0.9, step_size=1.0, epsilon=0.5).values
    exact = action_values(mdp, value_iteration(mdp, 0.9).values, 0.9)
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=0)


def test_expected_sarsa_finds_the_values_of_its_own_policy() -> None:
    environment = corner_grid()
    mdp = finite_mdp(environment)
    found = expected_sarsa(environment, 1500, 0.9, step_size=1.0, epsilon=0.5).values
    own = evaluate_policy(mdp, epsilon_greedy(found, 0.5, ties=1e-6), 0.9).values
    torch.testing.assert_close(found, action_values(mdp, own, 0.9), atol=0.02, rtol=0)


def cliff() -> Any:
    return gymnasium.make("CliffWalking-v1", max_episode_steps=500)


def greedy_walk(values: Tensor) -> Episode:
    return next(sample_episodes(cliff(), epsilon_greedy(values), 1))


EDGE = set(range(25, 35))  # above the cliff


@pytest.fixture(scope="module")
def edge_walker() -> Control:
    return q_learning(cliff(), 300, 1.0, step_size=0.5, epsilon=0.1)


def test_q_learning_walks_the_edge(edge_walker: Control) -> None:
    walk = greedy_walk(edge_walker.values)
    assert sum(walk.rewards) == -13
    assert set(walk.states) > EDGE


@pytest.mark.long
def test_sarsa_walks_the_safe_path() -> None:
    learnt = sarsa(cliff(), 500, 1.0, step_size=0.3, epsilon=0.1)
    walk = greedy_walk(learnt.values)
    assert walk.terminated
    assert sum(walk.rewards) in (-17, -15)
    assert not EDGE.intersection(walk.states)


@pytest.mark.long
def test_expected_sarsa_walks_the_best_path_of_those_who_stumble(edge_walker: Control) -> None:
    """Dynamic programming over policies that explore in a tenth of their steps gives the path."""
    mdp = finite_mdp(cliff())
    values = value_iteration(mdp, 1.0).values
    for _ in range(20):
        policy = epsilon_greedy(action_values(mdp, values, 1.0), 0.1, ties=1e-9)
        values = evaluate_policy(mdp, policy, 1.0).values
    learnt = expected_sarsa(cliff(), 500, 1.0, step_size=0.5, epsilon=0.1)
    walk = greedy_walk(learnt.values)
    assert walk.states == greedy_walk(action_values(mdp, values, 1.0)).states
    assert sum(walk.rewards) == -15
    own = epsilon_greedy(learnt.values, 0.1)[36] @ learnt.values[36]
    assert own.item() == pytest.approx(values[36].item(), abs=2.0)
    assert learnt.returns[-100:].mean() > edge_walker.returns[-100:].mean() + 10


@pytest.mark.long
@pytest.mark.parametrize("name", CONTROLS)
def test_without_exploration_all_walk_the_edge(name: str) -> None:
    """Zeros are optimistic here, so every action is tried all the same."""
    learnt = CONTROLS[name](cliff(), 200, 1.0, step_size=1.0, epsilon=0.0)
    assert sum(greedy_walk(learnt.values).rewards) == -13


def test_epsilon_may_be_a_schedule() -> None:
    asked = []

    def schedule(number: int) -> float:
        asked.append(number)
        return 1.0 / (1 + number)

    learnt = q_learning(corner_grid(), 5, 0.9, epsilon=schedule)
    assert asked == [0, 1, 2, 3, 4]
    assert len(learnt.returns) == 5


@pytest.mark.parametrize("name", CONTROLS)
def test_a_seed_decides(name: str) -> None:
    runs = [CONTROLS[name](corner_grid(), 10, 0.9, seed=seed).values for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_values_that_never_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.rl.temporal_difference.MAX_PASSES", 50)
    episode = Episode([0, 0], [], [1.0], terminated=False)
    with pytest.raises(ValueError, match="after 50 passes with gamma=1.0: give a gamma"):
        batch_td([episode], 1, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: td_prediction([], 2, -0.1), "gamma=-0.1"),
        (lambda: td_prediction([], 2, 0.9, step_size=2.0), "step_size=2.0"),
        (lambda: td_prediction([], 2, 0.9, values=torch.zeros(3)), r"values \[3\]: give \[2\]"),
        (lambda: td_lambda([], 2, 0.9, 1.1), "lam=1.1"),
        (lambda: td_lambda([], 2, 0.9, 1.0, traces="dutch"), "traces='dutch'"),  # type: ignore
        (lambda: batch_td([], 2, 0.9), "give at least one"),
        (lambda: sarsa(corner_grid(), 0, 0.9), "num_episodes=0"),
        (lambda: q_learning(corner_grid(), 1, 0.9, epsilon=2.0), "epsilon=2.0"),
        (lambda: sarsa(corner_grid(), 1, 0.9, values=torch.zeros(2, 2)), r"needs \[16, 4\]"),
        (lambda: sarsa(gymnasium.make("CartPole-v1"), 1, 0.9), "observation_space Box"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
