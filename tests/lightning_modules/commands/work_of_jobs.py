"""What the workers of ``test_jobs.py`` do: they import this file, and could not import a test."""

import os
from collections.abc import Callable


def squared(task: int, report: Callable[[str], None]) -> int:
    """The square; five fails, and seven ends the process."""
    report(f"squaring {task}")
    if task == 5:
        raise ValueError("five is right out")
    if task == 7:
        os._exit(1)
    return task * task
