"""Gymnasium's environments side by side: made by name, described, played to the end.

An environment whose episode ended is reset by the next step (gymnasium's NEXT_STEP autoreset):
that step's action is ignored, its reward is 0, and the observation that it returns is the first of
a new episode. So each observation is followed by the one that the action led to, except where a
step only resets.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.index import did_you_mean
from trellis.own_code import (
    IMPORT,
    import_first,
    import_own_module,
    registers_environments,
)
from trellis.rl.spaces import bytes_to_float, check_observation, fitting_actions
from trellis.spec import EnvironmentSpec

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

# Seeds of the episodes to validate and to test on: the same in all runs, other than training's.
EVALUATION_SEEDS = {"val": 1_000_000, "test": 2_000_000}
# Up to so many are stepped one by one: a vectorised step costs as much for one as for many, and
# more yet between two steps of a network, which displace it from the processor's caches.
MAX_SERIAL = 8
# From an environment to a wrapped one.
Wrap = Callable[[Any], Any]
MAX_EPISODE_STEPS = 100_000  # in evaluation; longer episodes are taken for endless and truncated


class Episodes(NamedTuple):
    """Whole episodes of E environments.

    Args:
        returns: undiscounted ``[E]``.
        lengths: steps ``[E]``.
    """

    returns: Tensor
    lengths: Tensor


def make_environments(
    environment: str,
    num_envs: int,
    options: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrap] = (),
) -> "VectorEnv":
    """Environments side by side: by their own vectorised entry point where that is faster.

    Args:
        environment: gymnasium's id.
        num_envs: how many.
        options: arguments of the environment, such as ``max_episode_steps``.
        wrappers: each from an environment to a wrapped one; the first is the innermost.
    Raises:
        ImportError: gymnasium is missing; says how to get it.
        ValueError: an unknown id; names the nearest; a wrapper that cannot wrap.
    """
    gymnasium = _gymnasium()
    from gymnasium.vector import AutoresetMode

    options = dict(options or {})
    known = _known(gymnasium, environment)
    if num_envs > MAX_SERIAL and known.vector_entry_point is not None and not wrappers:
        made = gymnasium.make_vec(environment, num_envs, "vector_entry_point", **options)
        if made.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP:
            return made
        made.close()
    from trellis.rl.gymnasium_private import SerialEnvironments

    make = partial(gymnasium.make, environment, disable_env_checker=True, **options)
    one = partial(_wrapped, make, wrappers)
    return SerialEnvironments([one] * num_envs, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)


def _wrapped(make: Callable[[], Any], wrappers: Sequence[Wrap]) -> Any:
    environment = make()
    for number, wrap in enumerate(wrappers):
        try:
            environment = wrap(environment)
        except Exception as error:  # whatever a constructor says to wrong arguments
            raise ValueError(
                f"wrappers[{number}] cannot wrap {environment}: {type(error).__name__}: {error}"
            ) from error
    return environment


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ImportError:
        raise ImportError(
            'environments need gymnasium: pip install "torch-trellis[rl]"', name="gymnasium"
        ) from None
    return gymnasium


def _known(gymnasium: Any, environment: str) -> Any:
    import_first()  # in a process of its own, too
    module, _, name = environment.rpartition(":")
    if module.startswith("trellis."):
        import_module(module)
    elif module and (module in sys.modules or registers_environments(module)):
        import_own_module(module, f"environment={environment!r}")
    elif module:  # a checkpoint names it, too, and must not import other modules
        raise ValueError(
            f"environment={environment!r}: import {module} first, or set {IMPORT}={module}"
        )
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    near = did_you_mean(name, gymnasium.registry, cutoff=0.4)
    hint = near or "; see gymnasium.pprint_registry()"
    own = "" if module else "; its module may be yours to import, as in trellis --import MODULE"
    raise ValueError(f"environment={environment!r} is unknown to gymnasium{hint}{own}")


def environment_spec(environment: str, environments: "VectorEnv") -> EnvironmentSpec:
    """Sizes of the observations and actions.

    Args:
        environment: their id.
        environments: from ``make_environments``.
    Raises:
        ValueError: observations or actions of a kind that the agents here do not support.
    """
    from gymnasium.spaces import Box, Discrete

    def unsupported(problem: str, supported: str) -> ValueError:
        advice = f"agents support {supported}, wrap it"
        return ValueError(f"environment={environment!r}: {problem}; {advice}")

    observations = environments.single_observation_space
    actions = environments.single_action_space
    for what, space in (("observations", observations), ("actions", actions)):
        if not isinstance(space, Box | Discrete):
            raise unsupported(f"its {what} are a {type(space).__name__}", "Box or Discrete spaces")
        if isinstance(space, Discrete) and space.start != 0:
            raise unsupported(f"its {what} begin at {space.start}", "numbers from 0")
    sizes: dict[str, Any] = {}
    if isinstance(observations, Discrete):
        sizes["num_observations"] = int(observations.n)
    if isinstance(actions, Discrete):
        sizes["num_actions"] = int(actions.n)
    elif isinstance(actions, Box):
        if len(actions.shape) != 1:
            raise unsupported(f"its actions have the shape {list(actions.shape)}", "vectors")
        sizes["action_low"] = tuple(float(bound) for bound in actions.low)
        sizes["action_high"] = tuple(float(bound) for bound in actions.high)
    return EnvironmentSpec(environment, tuple(observations.shape or ()), **sizes)


def observation_dtype(environments: "VectorEnv") -> torch.dtype:
    """Type of the observations as tensors: bytes stay bytes, states are long, else float32."""
    dtype = np.dtype(environments.single_observation_space.dtype)
    if dtype == np.uint8:
        return torch.uint8
    discrete = environments.single_observation_space.shape == ()
    return torch.long if discrete and dtype.kind in "iu" else torch.float32


def first_observations(environment: str, environments: "VectorEnv", seed: int) -> np.ndarray:
    """Reset the environments: what they return, once it is known to fit their space.

    Args:
        environment: their id.
        environments: from ``make_environments``.
        seed: of the first one; each other has the next.
    Raises:
        RuntimeError: an environment raised an error, or breaks the space that it declares.
    """
    try:
        observations, _ = environments.reset(seed=seed)
        if np.shape(observations)[:1] != (environments.num_envs,):
            raise ValueError(
                f"{environments.num_envs} environments returned observations of shape "
                f"{list(np.shape(observations))}"
            )
        for each in observations:
            check_observation(each, environments.single_observation_space)
    except Exception as error:
        raise RuntimeError(f"{environment}: {type(error).__name__} in reset: {error}") from error
    return observations


@torch.inference_mode()
def play(
    environments: "VectorEnv",
    spec: EnvironmentSpec,
    act: Callable[[Tensor], Tensor],
    seed: int,
    watch: Callable[[], object] | None = None,
) -> Episodes:
    """One episode of each environment, from its first observation to its end.

    An episode that has not ended after 100,000 steps is truncated there, with a warning.

    Args:
        environments: from ``make_environments``; they are reset first.
        spec: their sizes.
        act: from observations ``[N, *shape]``, bytes as floats (see ``bytes_to_float``), to
            actions ``[N]`` or ``[N, A]``.
        seed: of the environments.
        watch: called before each step and at the end.
    Raises:
        RuntimeError: an environment raised an error, or breaks the space that it declares.
    """
    dtype = observation_dtype(environments)
    observations = first_observations(spec.environment, environments, seed)
    running = np.ones(environments.num_envs, dtype=bool)
    returns, lengths = np.zeros(len(running)), np.zeros(len(running), dtype=np.int64)
    watch = watch or (lambda: None)
    watch()
    for number in range(MAX_EPISODE_STEPS):
        seen = bytes_to_float(torch.as_tensor(observations, dtype=dtype), spec.observation_shape)
        actions = act(seen).cpu().numpy()
        given = fitting_actions(actions, environments.single_action_space)
        try:
            observations, rewards, terminated, truncated, _ = environments.step(given)
        except Exception as error:
            raise RuntimeError(
                f"{spec.environment}: {type(error).__name__} in step {number + 1}: {error}"
            ) from error
        returns += np.where(running, rewards, 0.0)
        lengths += running
        running &= ~(terminated | truncated)
        watch()
        if not running.any():
            break
    else:
        warnings.warn(
            f"{spec.environment}: {running.sum()} of {len(running)} episodes have not ended after "
            f"{MAX_EPISODE_STEPS} steps and count as they are; give its options "
            f"max_episode_steps",
            stacklevel=2,
        )
    return Episodes(torch.from_numpy(returns).float(), torch.from_numpy(lengths))
