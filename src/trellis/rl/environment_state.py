"""State of running environments in plain types, so that a stopped run continues exactly.

Gymnasium has no interface for this. Saved are the attributes of the environments and of the
objects they hold: numbers, strings, arrays, random generators and containers of these. Spaces,
functions and the like are taken from the environment that the state is loaded into. State that is
kept elsewhere, as in a simulator written in C, cannot be read.
"""

import types
from collections import deque
from enum import Enum
from typing import Any

import numpy as np
import torch

_CONSTANT = (
    Enum, type, np.dtype, types.ModuleType, types.FunctionType, types.MethodType,
    types.BuiltinFunctionType,
)  # fmt: skip
_SEQUENCES: dict[str, type] = {"list": list, "tuple": tuple, "deque": deque, "set": set}


def save_state(environments: Any) -> dict[str, Any] | None:
    """The state of ``environments`` in plain types and tensors.

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
    """Restore a saved state, in place.

    Args:
        environments: made like those that it was saved from.
        state: from ``save_state``.
    """
    _load(state, environments)


class _Hidden(Exception):
    """An object whose state cannot be read."""


def _save(value: Any, seen: set[int]) -> Any:
    for save in (_save_number, _save_container):
        if (saved := save(value, seen)) is not None:
            return saved
    if _is_constant(value) or id(value) in seen:
        return {}
    if not hasattr(value, "__dict__"):
        raise _Hidden
    seen.add(id(value))
    return {"object": {name: _save(item, seen) for name, item in vars(value).items()}}


def _save_number(value: Any, seen: set[int]) -> dict[str, Any] | None:
    # Before Python's numbers: NumPy's float64 is a float, too.
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind in "SU":  # the names of the squares of a map
            return {}
        if value.dtype.kind not in "biuf":
            raise _Hidden
        array = np.asarray(value)
        return {"array": torch.from_numpy(array.copy()), "scalar": isinstance(value, np.generic)}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().clone()}
    if value is None or (
        isinstance(value, bool | int | float | str) and not isinstance(value, Enum)
    ):
        return {"plain": value}
    if isinstance(value, np.random.Generator):
        return {"generator": _save(value.bit_generator.state, seen)}
    return None


def _save_container(value: Any, seen: set[int]) -> dict[str, Any] | None:
    if isinstance(value, dict):
        if not all(type(key) in (str, int, bool, float) for key in value):
            raise _Hidden
        return {"dict": [[key, _save(item, seen)] for key, item in value.items()]}
    name, content = type(value).__name__, value
    if type(value) is not _SEQUENCES.get(name):
        return None
    items = [_save(item, seen) for item in content]
    return {name: items, "maxlen": getattr(value, "maxlen", None)}


def _is_constant(value: Any) -> bool:
    from gymnasium import Space
    from gymnasium.envs.registration import EnvSpec

    return isinstance(value, (*_CONSTANT, Space, EnvSpec))


def _load(state: dict[str, Any], current: Any) -> Any:
    """The value of ``state``; objects and constants are the current ones, updated in place."""
    if "plain" in state:
        return state["plain"]
    if "tensor" in state:
        return state["tensor"].clone()
    if "array" in state:
        array = state["array"].numpy().copy()
        return array[()] if state["scalar"] else array
    if "generator" in state:
        current.bit_generator.state = _load(state["generator"], None)
    elif "dict" in state:
        # In place, so that other references to it stay valid.
        current = current if isinstance(current, dict) else {}
        current.update({key: _load(item, current.get(key)) for key, item in state["dict"]})
    for name, item in state.get("object", {}).items():
        vars(current)[name] = _load(item, vars(current).get(name))
    for name, kind in _SEQUENCES.items():
        if name in state:
            return _load_items(state[name], current, kind, state["maxlen"])
    return current


def _load_items(saved: list[Any], current: Any, kind: type, maxlen: int | None) -> Any:
    now = list(current) if isinstance(current, tuple | list | deque) else []
    now += [None] * (len(saved) - len(now))
    items = [_load(item, was) for item, was in zip(saved, now, strict=False)]
    return deque(items, maxlen) if kind is deque else kind(items)
