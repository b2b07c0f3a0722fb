"""What the commands that use a checkpoint share: their models, what they say."""

import sys
from typing import Any, TypeVar

import torch

from trellis.lightning_modules.engine.checkpoint import load
from trellis.lightning_modules.engine.objective import Objective

Kind = TypeVar("Kind", bound=Objective)


def load_on(path: str, device: str) -> Objective:
    """The objective of a checkpoint, ready for use.

    Args:
        path: a file written by a trellis run.
        device: to put it on, such as ``cpu`` or ``cuda``.
    Raises:
        FileNotFoundError, OSError: see ``load``.
        ValueError: see ``load``; no such device.
    """
    try:  # torch has an error for each: an unknown name, a build without it, one without memory
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={device}: {str(error).splitlines()[0]}") from None
    return load(path).to(device)


def load_as(path: str, kind: type[Kind], device: str) -> Kind:
    """The objective of a checkpoint, which must be of one kind.

    Args:
        path: see ``load_on``.
        kind: the objective it must be.
        device: see ``load_on``.
    Raises:
        FileNotFoundError, OSError: see ``load``.
        ValueError: see ``load_on``; another objective, named.
    """
    objective = load_on(path, device)
    if not isinstance(objective, kind):
        raise ValueError(f"{path} holds a {type(objective).__name__}, not a {kind.__name__}")
    return objective


def say(command: str, *words: Any) -> None:
    """A line about the work on stderr."""
    print(f"trellis {command}:", *words, file=sys.stderr, flush=True)
