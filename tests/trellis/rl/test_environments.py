"""The courses' tables by dynamic programming, and environments that step as their tables say."""

import runpy
import sys

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from trellis.rl.bandits import EpsilonGreedy  # noqa: E402
from trellis.rl.dynamic_programming import (  # noqa: E402
    FiniteMDP,
    evaluate_policy,
    greedy_policy,
    policy_iteration,
    value_iteration,
)
from trellis.rl.environments import (  # noqa: E402
    RedBlueDoors,
    TabularEnvironment,
    corner_grid,
    finite_mdp,
    jump_grid,
    recycling_robot,
)

RANDOM_JUMPS = """3.3 8.8 4.4 5.3 1.5  1.5 3.0 2.3 1.9 0.5  0.1 0.7 0.7 0.4 -0.4
    -1.0 -0.4 -0.4 -0.6 -1.2  -1.9 -1.3 -1.2 -1.4 -2.0"""
BEST_JUMPS = """22.0 24.4 22.0 19.4 17.5  19.8 22.0 19.8 17.8 16.0  17.8 19.8 17.8 16.0 14.4
    16.0 17.8 16.0 14.4 13.0  14.4 16.0 14.4 13.0 11.7"""
CORNERS = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
NAMES = ["JumpGrid", "CornerGrid", "RecyclingRobot", "RedBlueDoors"]


def table(text: str) -> torch.Tensor:
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


@pytest.mark.parametrize("in_place", [False, True])
def test_jump_grid_has_the_courses_values(in_place: bool) -> None:
    mdp = finite_mdp(jump_grid())
    random = evaluate_policy(mdp, mdp.uniform_policy, 0.9, in_place=in_place).values
    torch.testing.assert_close(random, table(RANDOM_JUMPS), atol=0.0501, rtol=0)
    assert random[1] < 10  # A leads to the edge
    assert random[3] > 5  # B does not
    best = value_iteration(mdp, 0.9, in_place=in_place)
    torch.testing.assert_close(best.values, table(BEST_JUMPS), atol=0.0501, rtol=0)
    assert best.policy[0].tolist() == [0, 1, 0, 0]  # from the corner right, to A


def test_jump_grid_satisfies_the_bellman_equation() -> None:
    mdp = finite_mdp(jump_grid())
    step, rewards = mdp.transitions.mean(1), mdp.rewards.mean(1)
    exact = torch.linalg.solve(torch.eye(25).double() - 0.9 * step, rewards)
    found = evaluate_policy(mdp, mdp.uniform_policy, 0.9).values
    torch.testing.assert_close(found, exact, atol=1e-8, rtol=0)
    iterated = policy_iteration(mdp, 0.9).values
    torch.testing.assert_close(iterated, value_iteration(mdp, 0.9).values, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("sweeps", "row"),
    [
        (1, [0, -1, -1, -1]),
        (2, [0, -1.75, -2, -2]),
        (3, [0, -2.4375, -2.9375, -3]),
        (10, [0, -6.14, -8.35, -8.97]),
    ],
)
def test_corner_grid_after_some_sweeps(sweeps: int, row: list[float]) -> None:
    mdp = finite_mdp(corner_grid())
    values = evaluate_policy(mdp, mdp.uniform_policy, 1.0, sweeps=sweeps).values
    assert values[:4].tolist() == pytest.approx(row, abs=0.005)
    torch.testing.assert_close(values, values.flip(0))  # the grid is symmetric


@pytest.mark.parametrize("in_place", [False, True])
def test_corner_grid_in_the_limit(in_place: bool) -> None:
    mdp = finite_mdp(corner_grid())
    assert mdp.transitions[5, 1].argmax() == 6  # p(6 | 5, right) = 1
    found = evaluate_policy(mdp, mdp.uniform_policy, 1.0, in_place=in_place)
    torch.testing.assert_close(found.values, torch.tensor(CORNERS).double(), atol=1e-7, rtol=0)


def test_corner_grid_is_solved_by_three_sweeps() -> None:
    """Greedy in the values of three sweeps of the random policy is already the best."""
    mdp = finite_mdp(corner_grid())
    distance = [min(r + c, 6 - r - c) for r in range(4) for c in range(4)]
    for solution in (value_iteration(mdp, 1.0), policy_iteration(mdp, 1.0)):
        assert solution.values.tolist() == [-d for d in distance]
    early = evaluate_policy(mdp, mdp.uniform_policy, 1.0, sweeps=3).values
    greedy = greedy_policy(mdp, early, 1.0)
    assert evaluate_policy(mdp, greedy, 1.0).values.tolist() == [-d for d in distance]


@pytest.mark.parametrize(("alpha", "beta"), [(0.9, 0.4), (0.5, 0.9), (0.2, 0.1)])
def test_recycling_robot(alpha: float, beta: float) -> None:
    mdp = finite_mdp(recycling_robot(alpha, beta, search_reward=5.0, wait_reward=1.0))
    assert mdp.expected_rewards[1, 0].item() == pytest.approx(-3 * (1 - beta) + 5 * beta)
    high, low = value_iteration(mdp, 0.8).values.tolist()
    # Bellman's two equations of the best values, as the course writes them.
    assert high == pytest.approx(
        max(5 + 0.8 * (alpha * high + (1 - alpha) * low), 1 + 0.8 * high), abs=1e-8
    )
    assert low == pytest.approx(
        max(
            beta * 5 - 3 * (1 - beta) + 0.8 * ((1 - beta) * high + beta * low),
            1 + 0.8 * low,
            0.8 * high,
        ),
        abs=1e-8,
    )
    assert policy_iteration(mdp, 0.8).values.tolist() == pytest.approx([high, low], abs=1e-8)


def test_cliff_walking_is_gymnasiums() -> None:
    mdp = finite_mdp(gymnasium.make("CliffWalking-v1"))
    best = value_iteration(mdp, 1.0)
    assert best.values[36] == -13
    assert best.policy[36].tolist() == [1, 0, 0, 0]  # up, then along the edge
    assert best.policy[25:35].tolist() == [[0, 1, 0, 0]] * 10
    assert mdp.terminal.nonzero().flatten().tolist() == [47]
    assert mdp.rewards[36, 1] == -100
    assert mdp.transitions[36, 1, 36] == 1


def test_an_end_of_a_slippery_lake() -> None:
    mdp = finite_mdp(gymnasium.make("FrozenLake-v1"))
    assert mdp.terminal.nonzero().flatten().tolist() == [5, 7, 11, 12, 15]
    # 0.8235: the known probability that the optimal policy reaches the goal of this map.
    assert value_iteration(mdp, 1.0).values[0].item() == pytest.approx(0.8235, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_checker(name: str) -> None:
    environment = gymnasium.make(f"trellis.rl.environments:trellis/{name}-v0")
    check_env(environment.unwrapped, skip_render_check=True)
    environment.reset(seed=0)
    steps = 1
    while not any(environment.step(1 if name == "CornerGrid" else 0)[2:4]):
        steps += 1
    assert steps <= 200


ENVIRONMENTS = {
    "jump": jump_grid,
    "corner": corner_grid,
    "robot": recycling_robot,
    "cliff": lambda: gymnasium.make("CliffWalking-v1"),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_steps_are_those_of_the_table(name: str) -> None:
    environment = ENVIRONMENTS[name]()
    mdp = finite_mdp(environment)
    counts, rewards = torch.zeros_like(mdp.transitions), torch.zeros_like(mdp.expected_rewards)
    choices = torch.Generator().manual_seed(0)
    num_actions = mdp.transitions.size(1)
    state, _ = environment.reset(seed=0)
    for action in torch.randint(num_actions, (4000,), generator=choices).tolist():
        following, reward, terminated, _, _ = environment.step(action)
        counts[state, action, following] += 1
        rewards[state, action] += reward
        assert terminated == mdp.terminal[following]
        state = environment.reset()[0] if terminated else following
    visits = counts.sum(-1)
    seen = visits > 0
    assert seen.sum() > (10 if name != "robot" else 5)
    shares = counts[seen] / visits[seen].unsqueeze(-1)
    if name == "robot":
        torch.testing.assert_close(shares, mdp.transitions[seen], atol=0.05, rtol=0)
        means = rewards[seen] / visits[seen]
        torch.testing.assert_close(means, mdp.expected_rewards[seen], atol=0.25, rtol=0)
    else:
        assert torch.equal(shares, mdp.transitions[seen])
        torch.testing.assert_close(rewards[seen] / visits[seen], mdp.expected_rewards[seen])


def test_starts() -> None:
    environment = corner_grid()
    firsts = [environment.reset(seed=0)[0], *(environment.reset()[0] for _ in range(300))]
    assert set(firsts) == set(range(1, 15))
    assert environment.reset(options={"state": 7})[0] == 7
    assert recycling_robot().reset(seed=3)[0] == 0
    with pytest.raises(ValueError, match="no episode can start in state 15"):
        environment.reset(options={"state": 15})
    with pytest.raises(ValueError, match="no episode can start in state 16"):
        environment.reset(options={"state": 16})


def test_an_end_asks_for_a_reset() -> None:
    environment = corner_grid()
    environment.reset(options={"state": 1})
    assert environment.step(3) == (0, -1.0, True, False, {})
    with pytest.raises(RuntimeError, match="call reset first"):
        environment.step(3)


def test_doors() -> None:
    environment = RedBlueDoors(red=1.0, blue=0.5)
    environment.reset(seed=0)
    assert [environment.step(0)[1] for _ in range(4)] == [0, 1, 1, 1]
    assert sum(environment.step(1)[1] for _ in range(2000)) == pytest.approx(1000, abs=80)
    environment.reset()
    assert environment.step(0)[1] == 0
    with pytest.raises(ValueError, match="blue=2"):
        RedBlueDoors(blue=2)


@pytest.mark.parametrize(("epsilon", "red"), [(0.0, False), (0.1, True)])
def test_first_impressions(epsilon: float, red: bool) -> None:
    """A greedy agent keeps opening the blue door once it tried both; exploration finds red."""
    environment = RedBlueDoors()
    environment.reset(seed=0)
    agent = EpsilonGreedy(2, epsilon=epsilon, generator=torch.Generator().manual_seed(0))
    opened = []
    for step in range(1000):
        arm = agent.select() if step >= 4 else torch.tensor([min(step, 1)])
        reward = torch.tensor([environment.step(int(arm))[1]])
        agent.update(arm, reward)
        opened.append(int(arm))
    share = opened[-200:].count(0) / 200
    assert share > 0.8 if red else share == 0


def test_bad_input() -> None:
    mdp = finite_mdp(corner_grid())
    with pytest.raises(ValueError, match=r"start \[4\] with sum 4"):
        TabularEnvironment(mdp, torch.ones(4))
    with pytest.raises(ValueError, match="may not start in a terminal state"):
        TabularEnvironment(mdp, torch.eye(16)[0])
    with pytest.raises(ValueError, match=r"no table P of transitions"):
        finite_mdp(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match="alpha=2"):
        recycling_robot(alpha=2)


def test_rewards_of_transitions_are_paid() -> None:
    rewards = torch.tensor([[[1.0, 5.0]], [[0.0, 0.0]]])
    transitions = torch.tensor([[[0.5, 0.5]], [[0.0, 1.0]]])
    environment = TabularEnvironment(FiniteMDP(transitions, rewards))
    environment.reset(seed=0)
    paid = [environment.step(0)]
    while not paid[-1][2]:
        paid.append(environment.step(0))
    assert [(s, r) for s, r, *_ in paid] == [(0, 1.0)] * (len(paid) - 1) + [(1, 5.0)]


def test_without_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sys.modules[jump_grid.__module__].__file__
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"pip install .torch-trellis\[rl\]"):
        runpy.run_path(str(source))
