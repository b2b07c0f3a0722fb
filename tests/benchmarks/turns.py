"""Sides of a comparison that run in turns: the machine's good and bad minutes are those of all."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from threading import Condition
from typing import TypeVar

import lightning as L

Result = TypeVar("Result")


class Turns:
    """One side at a time."""

    def __init__(self, sides: Iterable[str]) -> None:
        self.order, self.changed = deque(sides), Condition()

    def take(self, side: str) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.order[0] == side)

    def give(self, *, last: bool = False) -> None:
        with self.changed:
            side = self.order.popleft()
            if not last:
                self.order.append(side)
            self.changed.notify_all()


class Ticks(L.Callback):
    """Seconds of each step; every few of them it is the turn of the next side.

    Args:
        turns: of all sides.
        side: whose steps these are.
        size: what a step is worth: images, or steps of environments.
        every: steps of a turn.
    """

    def __init__(self, turns: Turns, side: str, size: int, every: int = 20) -> None:
        self.turns, self.side, self.size, self.every = turns, side, size, every
        self.steps: list[float] = []

    def on_train_start(self, *args: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *args: object) -> None:
        self.steps.append(time.perf_counter() - self.start)
        if len(self.steps) % self.every == 0:
            self.turns.give()
            self.turns.take(self.side)
        self.start = time.perf_counter()

    def per_second(self) -> float:
        """By the median step."""
        return self.size / median(self.steps)

    def per_second_of_turns(self) -> float:
        """By the median turn, which has its share of what is not done in each step."""
        ends = range(self.every, len(self.steps) + 1, self.every)
        return self.size * self.every / median(sum(self.steps[n - self.every : n]) for n in ends)

    def turn_rates(self) -> list[float]:
        """Of each turn."""
        ends = range(self.every, len(self.steps) + 1, self.every)
        return [self.size * self.every / sum(self.steps[n - self.every : n]) for n in ends]

    def overall(self) -> float:
        """By the whole time, but for the first step, which prepares others."""
        return self.size * len(self.steps[1:]) / sum(self.steps[1:])


def in_turns(sides: Iterable[str], take_part: Callable[[str, Turns], Result]) -> dict[str, Result]:
    """What each side returns, each in a thread of its own.

    Args:
        sides: names, that of ``Trainer.fit`` first: signals are the main thread's.
        take_part: gives turns and takes them, by way of ``Ticks``.
    """
    first, *others = sides
    turns = Turns([first, *others])

    def alone(side: str) -> Result:
        turns.take(side)
        try:
            return take_part(side, turns)
        finally:
            turns.give(last=True)

    with ThreadPoolExecutor(len(others)) as pool:
        waiting = {side: pool.submit(alone, side) for side in others}
        results = {first: alone(first)}
        results |= {side: result.result() for side, result in waiting.items()}
    return results
