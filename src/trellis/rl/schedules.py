"""Schedules of numbers that change as an agent learns, such as its share of random actions."""

import math

from trellis.checks import at_least_one


def linear(step: int, *, start: float, end: float, num_steps: int) -> float:
    r"""Linear from start to end, then constant.

    .. math:: e_t = a + (b - a) \min(t / n, 1)

    Args:
        step: t, from 0.
        start: a, at step 0.
        end: b, from ``num_steps`` on.
        num_steps: n.
    Raises:
        ValueError: step below 0, ``num_steps`` below 1.

    Source: Mnih et al. 2015, from 1 to 0.1 in a million frames.

    >>> [linear(step, start=1.0, end=0.5, num_steps=10) for step in (0, 5, 10, 99)]
    [1.0, 0.75, 0.5, 0.5]
    """
    _check(step, num_steps)
    share = min(step / num_steps, 1.0)
    return (1 - share) * start + share * end


def exponential(step: int, *, start: float, end: float, num_steps: int) -> float:
    r"""Exponential decay from start towards end.

    .. math:: e_t = b + (a - b) e^{-t / n}

    Args:
        step: t, from 0.
        start: a, at step 0.
        end: b.
        num_steps: n, after which 37 % of the difference is left.
    Raises:
        ValueError: step below 0, ``num_steps`` below 1.

    >>> round(exponential(100, start=1.0, end=0.0, num_steps=100), 4)
    0.3679
    """
    _check(step, num_steps)
    return end + (start - end) * math.exp(-step / num_steps)


def _check(step: int, num_steps: int) -> None:
    if step < 0:
        raise ValueError(f"step={step}: steps count from 0")
    at_least_one("num_steps", num_steps)
