"""What an environment declares of its observations and actions, in both directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def check_observation(observation: Any, space: Any) -> None:
    """Check that an observation has the shape and type of its space.

    Real numbers outside the bounds of a ``Box`` pass: nothing here relies on them.

    Args:
        observation: of one environment.
        space: its ``observation_space``, a ``Box`` or ``Discrete``.
    Raises:
        ValueError: it has not; names both.
    """
    try:
        array = np.asarray(observation)
    except ValueError:  # ragged lists
        array = np.asarray(None)
    low, high = _bounds(space)
    whole = space.dtype.kind in "iu"
    problem = None
    if array.dtype.kind not in "biuf":
        problem = f"a {type(observation).__name__} as observation"
    elif array.shape != tuple(space.shape or ()):
        problem = f"an observation of shape {list(array.shape)}"
    elif whole and array.dtype.kind == "f":
        problem = f"an observation of {array.dtype}"
    elif whole and array.size and bool(((array < low) | (array > high)).any()):
        problem = f"an observation from {array.min()} to {array.max()}"
    if problem is not None:
        declared = f"its observation_space declares {_described(space)}"
        raise ValueError(f"it returned {problem}, but {declared}")


def bytes_to_float(observations: Tensor, shape: Sequence[int]) -> Tensor:
    """Observations as networks take them: bytes as floats, those of images divided by 255.

    What is not of bytes stays as it is, and so do the numbers of states.

    Args:
        observations: with any dimensions before those of one.
        shape: of one; ``()`` is the number of a state, three sizes are an image.
    Shape:
        observations ``[..., *shape]`` -> the same

    >>> bytes_to_float(torch.tensor([[3, 255]], dtype=torch.uint8), (2,))
    tensor([[  3., 255.]])
    >>> bytes_to_float(torch.full((1, 1, 1, 2), 255, dtype=torch.uint8), (1, 1, 2))
    tensor([[[[1., 1.]]]])
    """
    if observations.dtype != torch.uint8 or not shape:
        return observations
    return observations.float() / 255 if len(shape) == 3 else observations.float()


def fitting_actions(actions: np.ndarray, space: Any) -> np.ndarray:
    """``actions`` as environments take them.

    Discrete ones stay as they are; real ones are clipped to the bounds, rounded where the space
    has whole numbers, and converted to its type.

    Args:
        actions: ``[N]`` or ``[N, A]``.
        space: ``single_action_space``, a ``Discrete`` or ``Box``.
    """
    if not hasattr(space, "low"):
        return actions
    clipped = np.clip(actions, space.low, space.high)
    return (np.rint(clipped) if space.dtype.kind in "iu" else clipped).astype(space.dtype)


def _bounds(space: Any) -> tuple[Any, Any]:
    if hasattr(space, "low"):
        return space.low, space.high
    return space.start, space.start + space.n - 1


def _described(space: Any) -> str:
    if not hasattr(space, "low"):
        return f"Discrete({space.n})"
    # The bounds of a Box may be arrays of thousands of numbers.
    return (
        f"a Box of shape {list(space.shape)} and {space.dtype} from {space.low.min()} to "
        f"{space.high.max()}"
    )
