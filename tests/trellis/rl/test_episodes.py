"""Episodes: what is in them, and what may not be."""

import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")

from trellis.rl.dynamic_programming import FiniteMDP  # noqa: E402
from trellis.rl.environments import TabularEnvironment, corner_grid  # noqa: E402
from trellis.rl.episodes import (  # noqa: E402
    Episode,
    check_episode,
    sample_episodes,
    table_sizes,
)


def test_returns_are_the_discounted_sums() -> None:
    rewards = [1.0, -2.0, 3.0, 0.5]
    expected = [
        sum(0.9 ** (k - t) * rewards[k] for k in range(t, 4)) + 0.9 ** (4 - t) * 7
        for t in range(4)
    ]
    assert Episode([0] * 5, [], rewards).returns(0.9, after=7.0) == pytest.approx(expected)


def test_only_the_last_step_of_a_terminated_episode_ends_it() -> None:
    for terminated in (True, False):
        steps = list(Episode([3, 4, 5], [], [1.0, 2.0], terminated).steps())
        assert [tuple(step) for step in steps] == [(3, 1, 4, False), (4, 2, 5, terminated)]


def test_sampled_episodes_follow_environment_and_policy() -> None:
    environment = corner_grid()
    policy = torch.tensor([0.5, 0.0, 0.0, 0.5]).repeat(16, 1)  # up and left
    episodes = list(sample_episodes(environment, policy, 200, seed=1))
    assert len(episodes) == 200
    for episode in episodes:
        assert episode.terminated
        assert episode.states[-1] == 0
        assert len(episode.states) == len(episode.actions) + 1 == len(episode.rewards) + 1
        for action, state, following in zip(
            episode.actions, episode.states, episode.states[1:], strict=False
        ):
            assert action in (0, 3)
            move = {0: -4 if state > 3 else 0, 3: -1 if state % 4 else 0}[action]
            assert following == state + move
    share = torch.tensor([a for e in episodes for a in e.actions]).eq(0).float().mean()
    assert share == pytest.approx(0.5, abs=0.06)
    assert episodes == list(sample_episodes(corner_grid(), policy, 200, seed=1))
    assert episodes != list(sample_episodes(corner_grid(), policy, 200, seed=2))


def test_a_time_limit_is_not_an_end(random_walk: FiniteMDP) -> None:
    environment = gymnasium.wrappers.TimeLimit(TabularEnvironment(random_walk), 1)
    policy = torch.full((7, 2), 0.5)
    episodes = list(sample_episodes(environment, policy, 50))
    assert {len(e.rewards) for e in episodes} == {1}
    assert all(e.terminated == (e.states[-1] in (0, 6)) for e in episodes)
    assert {e.terminated for e in episodes} == {True, False}


def test_bad_input() -> None:
    environment = corner_grid()
    with pytest.raises(ValueError, match=r"policy \[16, 3\]: the environment needs \[16, 4\]"):
        sample_episodes(environment, torch.ones(16, 3), 1)
    with pytest.raises(ValueError, match="num_episodes=0"):
        sample_episodes(environment, torch.ones(16, 4), 0)
    with pytest.raises(ValueError, match=r"observation_space Box.*a table needs Discrete"):
        table_sizes(gymnasium.make("CartPole-v1"))
    environment.action_space = gymnasium.spaces.Box(0, 1)
    with pytest.raises(ValueError, match=r"action_space Box"):
        table_sizes(environment)
    with pytest.raises(ValueError, match="of 1 states and 1 rewards: give one state more"):
        check_episode(Episode([0], [], [1.0]), 2)
    with pytest.raises(ValueError, match="state 2: num_states=2 leaves 0 to 1"):
        check_episode(Episode([0, 2], [], [1.0]), 2)
