"""State of running environments as plain numbers, so that a stopped run goes on as if it had not.

Gymnasium has no interface for this. What is kept are the attributes of the environments and of
the objects they hold: numbers, texts, arrays, random generators and containers of these. Spaces,
functions and the like are those of the environment that the state is put into. What holds its
state elsewhere, such as a simulator written in C, has none that can be read.
"""

import types
from collections import deque
from enum import Enum
from typing import Any

import numpy as np
import torch

_CONSTANT = (
    type(None), Enum, type, np.dtype, types.ModuleType, types.FunctionType, types.MethodType,
    types.BuiltinFunctionType,
)  # fmt: skip
_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "deque": deque, "set": set}


def save_state(environments: Any) -> dict[str, Any] | None:
    """All that changes in ``environments``, in plain types and tensors.

    Args:
        environments: an environment, wrapped or vectorised.
    Returns:
        for ``load_state``; ``None`` if some of it cannot be read.
    """
    try:
        return _save(environments, set())
    except _Hidden:
        return None


def load_state(environments: Any, state: dict[str, Any]) -> None:
    """Bring ``environments`` to a state that was saved, in place.

    Args:
        environments: made like those it was saved from.
        state: from ``save_state``.
    """
    _load(state, environments)


class _Hidden(Exception):
    """An object whose state cannot be read."""


def _save(value: Any, seen: set[int]) -> Any:
    # NumPy's float64 is a float, too.
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind in "SU":  # the names of the squares of a map
            return {}
        if value.dtype.kind not in "biuf":
            raise _Hidden
        array = np.asarray(value)
        return {"array": torch.from_numpy(array.copy()), "scalar": isinstance(value, np.generic)}
    if isinstance(value, bool | int | float | str) and not isinstance(value, Enum):
        return {"plain": value}
    if isinstance(value, np.random.Generator):
        return {"generator": _save(value.bit_generator.state, seen)}
    if isinstance(value, dict):
        if not all(type(key) in (str, int, bool, float) for key in value):
            raise _Hidden
        return {"dict": [[key, _save(item, seen)] for key, item in value.items()]}
    for name, kind in _SEQUENCES.items():
        if type(value) is kind:
            saved = [_save(item, seen) for item in value]
            return {name: saved, "maxlen": getattr(value, "maxlen", None)}
    if value is None:
        return {"none": True}
    if _is_constant(value) or id(value) in seen:
        return {}
    if not hasattr(value, "__dict__"):
        raise _Hidden
    seen.add(id(value))
    return {"object": {name: _save(item, seen) for name, item in vars(value).items()}}


def _is_constant(value: Any) -> bool:
    from gymnasium import Space
    from gymnasium.envs.registration import EnvSpec

    return isinstance(value, (*_CONSTANT, Space, EnvSpec))


def _load(state: dict[str, Any], current: Any) -> Any:
    """The value of ``state``; objects and constants are the current ones."""
    if "none" in state:
        return None
    if "plain" in state:
        return state["plain"]
    if "array" in state:
        array = state["array"].numpy().copy()
        return array[()] if state["scalar"] else array
    if "generator" in state:
        current.bit_generator.state = _load(state["generator"], None)
        return current
    if "dict" in state:
        # In place: what refers to it elsewhere goes on doing so.
        known = current if isinstance(current, dict) else {}
        known.update({key: _load(item, known.get(key)) for key, item in state["dict"]})
        return known
    for name, kind in _SEQUENCES.items():
        if name in state:
            old = list(current) if isinstance(current, tuple | list | deque) else []
            old += [None] * (len(state[name]) - len(old))
            items = [_load(item, was) for item, was in zip(state[name], old, strict=False)]
            return deque(items, state["maxlen"]) if kind is deque else kind(items)
    for name, item in state.get("object", {}).items():
        vars(current)[name] = _load(item, vars(current).get(name))
    return current
