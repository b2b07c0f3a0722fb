"""Monte Carlo against means by hand, dynamic programming, and the courses' episodes."""

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.wrappers import TimeLimit  # noqa: E402

from trellis.rl.dynamic_programming import (  # noqa: E402
    FiniteMDP,
    evaluate_policy,
    value_iteration,
)
from trellis.rl.environments import TabularEnvironment, corner_grid, finite_mdp  # noqa: E402
from trellis.rl.episodes import Episode  # noqa: E402
from trellis.rl.monte_carlo import mc_control, mc_prediction  # noqa: E402
from trellis.rl.policies import epsilon_greedy  # noqa: E402


@pytest.mark.parametrize("every_visit", [False, True])
def test_the_courses_episodes(every_visit: bool, ab_episodes: list[Episode]) -> None:
    values, visits = mc_prediction(ab_episodes, 3, 1.0, every_visit=every_visit)
    assert values.tolist() == pytest.approx([0, 3 / 4, 0])
    assert visits.tolist() == [1, 8, 0]


def test_first_and_every_visit_by_hand() -> None:
    """A state that is left with probability 1/2 a step and pays 1: Sutton and Barto, exercise 5.5.

    Ten steps once: from the first visit 10, over all visits the mean of 1 to 10.
    """
    episode = Episode([0] * 10 + [1], [], [1.0] * 10)
    assert mc_prediction([episode], 2, 1.0).values[0] == 10
    values, visits = mc_prediction([episode], 2, 1.0, every_visit=True)
    assert values[0] == pytest.approx(5.5)
    assert visits[0] == 10


def test_constant_step_by_hand() -> None:
    episodes = [Episode([0, 1], [], [4.0]), Episode([0, 1], [], [0.0])]
    assert mc_prediction(episodes, 2, 1.0, step_size=0.5).values[0] == 1.0


@pytest.mark.long
@pytest.mark.parametrize("every_visit", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_converges_to_the_values_of_the_policy(
    every_visit: bool, gamma: float, random_walk: FiniteMDP, walks: list[Episode]
) -> None:
    found = mc_prediction(walks, 7, gamma, every_visit=every_visit).values
    exact = evaluate_policy(random_walk, random_walk.uniform_policy, gamma).values
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)


def test_a_time_limit_continues_by_the_estimate() -> None:
    """What was cut is worth the estimate of its last state; as an end it would be worth 0."""
    whole = Episode([1, 2], [], [8.0])
    cut = Episode([0, 1], [], [1.0], terminated=False)
    assert mc_prediction([whole, cut], 3, 0.5).values.tolist() == [5, 8, 0]
    assert mc_prediction([whole, cut._replace(terminated=True)], 3, 0.5).values[0] == 1


def test_control_solves_the_corner_grid() -> None:
    environment = TimeLimit(corner_grid(), 50)
    found = mc_control(environment, range(1, 15), 1500, 1.0, step_size=0.2)
    mdp = finite_mdp(environment)
    policy = epsilon_greedy(found.values)
    best = value_iteration(mdp, 1.0).values
    assert evaluate_policy(mdp, policy, 1.0).values.tolist() == best.tolist()
    assert found.returns[-300:].mean() > found.returns[:100].mean()
    again = mc_control(TimeLimit(corner_grid(), 50), range(1, 15), 20, 1.0, step_size=0.2)
    torch.testing.assert_close(again.returns, found.returns[:20], atol=0, rtol=0)


def test_control_averages_first_visits(random_walk: FiniteMDP) -> None:
    """The first episode by hand: each pair gets what followed its first visit."""
    environment = TabularEnvironment(random_walk)
    seen = []
    inner = environment.step

    def step(action: int) -> tuple:
        result = inner(action)
        seen.append((action, *result[:2]))
        return result

    environment.step = step  # type: ignore[method-assign]
    found = mc_control(environment, [3], 1, 0.5, seed=4).values
    assert len(seen) > 5  # it comes by some states again
    states = [3, *(following for _, following, _ in seen)]
    expected = torch.zeros(7, 2, dtype=torch.float64)
    for t in reversed(range(len(seen))):  # earlier visits overwrite later ones
        expected[states[t], seen[t][0]] = sum(0.5**k * r for k, (_, _, r) in enumerate(seen[t:]))
    torch.testing.assert_close(found, expected)


def test_control_continues_by_the_best_estimate_after_a_time_limit(
    random_walk: FiniteMDP,
) -> None:
    """One step at a time: from 4 to the right is worth half of the best in 5, which is 1."""
    environment = TimeLimit(TabularEnvironment(random_walk), 1)
    found = mc_control(environment, [4, 5], 60, 0.5, step_size=1.0).values
    assert found[5].tolist() == [0.25, 1.0]
    assert found[4, 1] == 0.5


def test_exploring_starts_try_every_action() -> None:
    """The greedy policy alone would never learn what its other actions are worth."""
    found = mc_control(TimeLimit(corner_grid(), 50), [1], 60, 1.0).values
    assert (found[1] < 0).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"gamma=1\.5"):
        mc_prediction([], 2, 1.5)
    with pytest.raises(ValueError, match=r"step_size=0\.0: give a number"):
        mc_prediction([], 2, 1.0, step_size=0.0)
    with pytest.raises(ValueError, match="num_states=0"):
        mc_prediction([], 0, 1.0)
    with pytest.raises(ValueError, match="state 7: num_states=2"):
        mc_prediction([Episode([7, 0], [], [0.0])], 2, 1.0)
    with pytest.raises(ValueError, match=r"starts=\[16\]: give states from 0 to 15"):
        mc_control(corner_grid(), [16], 1, 1.0)
    with pytest.raises(ValueError, match=r"starts in state 36 .* exploring starts need"):
        mc_control(gymnasium.make("CliffWalking-v1"), [0], 1, 1.0)
    with pytest.raises(ValueError, match="num_episodes=0"):
        mc_control(corner_grid(), [1], 0, 1.0)
