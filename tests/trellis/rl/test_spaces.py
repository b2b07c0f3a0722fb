"""Actions as the space of an environment declares them; observations: test_vector_environments."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from trellis.rl.spaces import fitting_actions


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Box(np.array([-1, 0], np.float32), np.array([1, 3], np.float32)), [-1.0, 3.0]),
        (Box(np.array([-0.1, 0]), np.array([1, 0.1]), dtype=np.float64), [-0.1, 0.1]),
        (Box(-np.inf, np.inf, (2,)), [-5.25, 9.75]),
        (Box(-7, 8, (2,), np.int32), [-5, 8]),
        (Box(0, 255, (2,), np.uint8), [0, 10]),
    ],
)
def test_real_actions_are_clipped_and_have_the_type_of_the_space(
    space: Any, expected: Any
) -> None:
    found = fitting_actions(np.array([[-5.25, 9.75]], np.float32), space)
    assert found.tolist() == [expected]
    assert found.dtype == space.dtype
    assert space.contains(found[0])


def test_discrete_actions_stay_as_they_are() -> None:
    actions = np.array([0, 2])
    assert fitting_actions(actions, Discrete(3)) is actions
