"""Environments by name, and episodes played to their end."""

import environment_cases  # noqa: F401 - registers environments
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from trellis.rl.vector_environments import (
    clip_actions,
    environment_spec,
    make_environments,
    observation_dtype,
    play,
)
from trellis.spec import EnvironmentSpec


def test_specs() -> None:
    def spec(name: str) -> EnvironmentSpec:
        return environment_spec(name, make_environments(name, 1))

    assert spec("CartPole-v1") == EnvironmentSpec("CartPole-v1", (4,), num_actions=2)
    assert spec("Pendulum-v1") == EnvironmentSpec(
        "Pendulum-v1", (3,), action_low=(-2.0,), action_high=(2.0,)
    )
    assert spec("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3") == EnvironmentSpec(
        "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", (), 500, 6
    )


def test_own_vectorised_entry_point_else_one_by_one() -> None:
    own, few, others = (
        make_environments(name, count)
        for name, count in (("CartPole-v1", 9), ("CartPole-v1", 8), ("Acrobot-v1", 9))
    )
    assert not isinstance(own, SyncVectorEnv)
    assert isinstance(few, SyncVectorEnv)
    assert isinstance(others, SyncVectorEnv)
    for made in (own, few, others):
        assert made.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP


def test_types_of_observations() -> None:
    kinds = {"CartPole-v1": torch.float32, "CliffWalking-v1": torch.long}
    for name, kind in kinds.items():
        assert observation_dtype(make_environments(name, 1)) == kind


def test_real_actions_are_cut() -> None:
    spec = EnvironmentSpec("x", (1,), action_low=(-1.0, 0.0), action_high=(1.0, 3.0))
    given = clip_actions(np.array([[-5.0, -5.0], [0.5, 9.0]]), spec)
    assert given.tolist() == [[-1.0, 0.0], [0.5, 3.0]]


def test_episodes_are_played_once_and_whole() -> None:
    environments = make_environments("TestClock-v0", 3)
    environments.envs[1].unwrapped.length = 5
    spec = environment_spec("TestClock-v0", environments)
    # The first episode of length 3 + 1 returns 1 + 2 + 3 + 4, while that of 6 goes on.
    found = play(environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0)
    assert found.returns.tolist() == [10, 21, 10]
    assert found.lengths.tolist() == [4, 6, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CartPole-v7", "unknown to gymnasium: did you mean CartPole-v"),
        ("Cartpole", "CartPole"),
        ("qqqqqqqq", "see gymnasium.pprint_registry"),
        ("os:system", "import os yourself"),
        ("Blackjack-v1", "observations are a Tuple"),
    ],
)
def test_unfit_environments_are_named(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        environment_spec(name, make_environments(name, 1))


def test_an_episode_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.rl.vector_environments.MAX_EPISODE_STEPS", 20)
    environments = make_environments("TestClock-v0", 2, {"length": 30})
    spec = environment_spec("TestClock-v0", environments)
    with pytest.raises(
        ValueError, match="2 episodes have not ended after 20 steps.*max_episode_steps"
    ):
        play(environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0)
    environments = make_environments("TestClock-v0", 2, {"length": 30, "max_episode_steps": 5})
    assert play(
        environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0
    ).lengths.tolist() == [5, 5]
