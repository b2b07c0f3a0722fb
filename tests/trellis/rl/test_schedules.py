"""Schedules at their ends, between them, and as the equation they solve."""

import math

import pytest

from trellis.rl.schedules import exponential, linear


def test_linear_is_straight_and_stops() -> None:
    values = [linear(step, start=1.0, end=0.1, num_steps=9) for step in range(15)]
    assert values[0] == 1.0
    assert values[9:] == [0.1] * 6
    changes = [b - a for a, b in zip(values[:9], values[1:10], strict=True)]
    assert changes == pytest.approx([-0.1] * 9)


def test_exponential_loses_the_same_share_each_step() -> None:
    values = [exponential(step, start=0.9, end=0.2, num_steps=5) for step in range(30)]
    assert values[0] == pytest.approx(0.9)
    shares = [(b - 0.2) / (a - 0.2) for a, b in zip(values, values[1:], strict=False)]
    assert shares == pytest.approx([math.e ** (-1 / 5)] * 29)
    assert exponential(10_000, start=0.9, end=0.2, num_steps=5) == pytest.approx(0.2)


@pytest.mark.parametrize("schedule", [linear, exponential])
def test_bad_input(schedule) -> None:
    with pytest.raises(ValueError, match="step=-1: steps count from 0"):
        schedule(-1, start=1.0, end=0.0, num_steps=5)
    with pytest.raises(ValueError, match="num_steps=0: give at least 1"):
        schedule(1, start=1.0, end=0.0, num_steps=0)
