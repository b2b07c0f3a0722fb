"""Serial environments beside gymnasium's own, step for step."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from trellis.rl.gymnasium_private import SerialEnvironments


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"max_episode_steps": 7}),  # truncated, and terminated now and then
        ("Pendulum-v1", {"max_episode_steps": 30}),
        ("FrozenLake-v1", {}),  # observations are numbers
    ],
)
def test_steps_are_those_of_gymnasium(name: str, options: dict[str, int]) -> None:
    def one() -> gymnasium.Env:
        return gymnasium.make(name, **options)

    ours = SerialEnvironments([one] * 3, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
    reference = SyncVectorEnv([one] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    first, _ = ours.reset(seed=5)
    expected, _ = reference.reset(seed=5)
    assert np.array_equal(first, expected)
    reference.action_space.seed(0)
    ends = 0
    for _ in range(120):
        actions = reference.action_space.sample()
        found, wanted = ours.step(actions)[:4], reference.step(actions)[:4]
        for one_array, other in zip(found, wanted, strict=True):
            assert one_array.dtype == other.dtype
            assert np.array_equal(one_array, other)
        ends += int((wanted[2] | wanted[3]).sum())
    assert ends > 3
