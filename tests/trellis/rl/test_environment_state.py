"""An environment brought to a saved state goes on like the one it was saved from."""

import io
from typing import Any

import environment_cases  # noqa: F401 - registers environments
import numpy as np
import pytest
import torch

from trellis.rl.environment_state import load_state, save_state
from trellis.rl.vector_environments import make_environments

# A vectorised one, real actions, a renderer's leftovers, arrays of names, the house's own.
NAMES = [
    "CartPole-v1",
    "Pendulum-v1",
    "MountainCar-v0",
    "CliffWalking-v1",
    "TestClock-v0",
    "trellis.rl.environments:trellis/CornerGrid-v0",
]


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    one, other = make_environments(name, 3), make_environments(name, 3)
    one.reset(seed=1)
    one.action_space.seed(0)
    actions = [one.action_space.sample() for _ in range(600)]
    for action in actions[:250]:
        one.step(action)
    state = through_a_file(save_state(one))
    other.reset(seed=2)
    assert not same(one.step(actions[250]), other.step(actions[250]))
    load_state(other, state)
    one.reset(seed=3)
    load_state(one, state)  # nothing that came after is left in the state
    for action in actions[250:]:
        assert same(one.step(action), other.step(action))


def test_a_state_that_cannot_be_read_is_none() -> None:
    environments = make_environments("TestHidden-v0", 2)
    environments.reset(seed=0)
    assert save_state(environments) is None
