"""Small known problems shared by the tests of what learns from episodes."""

import pytest
import torch

from trellis.rl.dynamic_programming import FiniteMDP
from trellis.rl.episodes import Episode, sample_episodes


@pytest.fixture(scope="session")
def ab_episodes() -> list[Episode]:
    """The course's eight: 0 then 1 without a reward, six times 1 with 1, once 1 with 0."""
    two, paid, bare = ([0, 1, 2], [0.0, 0.0]), ([1, 2], [1.0]), ([1, 2], [0.0])
    return [Episode(states, [], rewards) for states, rewards in (two, *[paid] * 6, bare)]


@pytest.fixture(scope="session")
def random_walk() -> FiniteMDP:
    """Five states between two ends; the right end pays 1. Actions: left, right.

    Their values under the random policy are 1/6 to 5/6 without discount.
    """
    transitions = torch.zeros(7, 2, 7, dtype=torch.float64)
    rewards = torch.zeros(7, 2, dtype=torch.float64)
    for state in range(1, 6):
        transitions[state, 0, state - 1] = transitions[state, 1, state + 1] = 1.0
    transitions[0, :, 0] = transitions[6, :, 6] = 1.0
    rewards[5, 1] = 1.0
    return FiniteMDP(transitions, rewards)


@pytest.fixture(scope="session")
def walks(random_walk: FiniteMDP) -> list[Episode]:
    """2000 episodes of the random policy."""
    pytest.importorskip("gymnasium")
    from trellis.rl.environments import TabularEnvironment

    environment = TabularEnvironment(random_walk)
    return list(sample_episodes(environment, random_walk.uniform_policy, 2000))
