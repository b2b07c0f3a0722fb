"""Collects rollouts: environments continue from one to the next, with their own random stream.

T counts steps, N environments side by side.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.rl.environment_state import load_state, save_state
from trellis.rl.spaces import bytes_to_float, fitting_actions
from trellis.rl.vector_environments import (
    Wrap,
    environment_spec,
    first_observations,
    make_environments,
    observation_dtype,
)

RECENT = 100  # finished episodes whose returns are reported


class Rollout(NamedTuple):
    """T steps of N environments under one policy.

    Args:
        observations: ``[T + 1, N, *shape]``; step t leads from t to t + 1. After the last step of
            an episode comes its final observation.
        actions: ``[T, N]``, or real ones ``[T, N, A]`` as the agent gave them, before they were
            clipped to the environment's bounds.
        rewards: ``[T, N]``.
        terminated: bool ``[T, N]``, whether the episode reached a terminal state.
        truncated: bool ``[T, N]``, whether it was truncated, mostly by a time limit.
        mask: bool ``[T, N]``, false where the step only reset the environment: there is nothing
            to learn from it.
        recent_returns: of the last 100 finished episodes ``[E]``, undiscounted; fewer at first.
        env_steps: that all environments have made so far, these included.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    mask: Tensor
    recent_returns: Tensor
    env_steps: Tensor


class Collector:
    """Collects rollouts, each of which begins where the one before ended.

    Environments are stepped by their own vectorised implementation where that is faster. Actions
    are sampled from a random stream of the collector's own, which is part of its state.

    Args:
        environment: gymnasium's id.
        num_envs: N.
        options: arguments of the environment, such as ``max_episode_steps``.
        seed: of the environments and of the actions: numbers that differ between runs, processes
            and all else that is not to act alike.
        wrappers: each from an environment to a wrapped one; the first is the innermost.
    Attributes:
        spec: sizes of observations and actions.
        observation_dtype: of the tensors that observations come in.
        steps: that each environment has made.
    Raises:
        ImportError: gymnasium is missing.
        RuntimeError: an environment breaks the space that it declares, or raised an error.
        ValueError: an unknown environment, with the nearest names; no environments.

    >>> collector = Collector("CartPole-v1", num_envs=2)
    >>> collector.collect(lambda observations: torch.zeros(2, dtype=torch.long), 5).rewards
    tensor([[1., 1.],
            [1., 1.],
            [1., 1.],
            [1., 1.],
            [1., 1.]])
    """

    def __init__(
        self,
        environment: str,
        num_envs: int,
        options: Mapping[str, Any] | None = None,
        seed: Sequence[int] = (0, 0),
        wrappers: Sequence[Wrap] = (),
    ) -> None:
        self.environment, self.num_envs = environment, at_least_one("num_envs", num_envs)
        self.seed = tuple(seed)
        self._environments: Any = make_environments(environment, num_envs, options, wrappers)
        self.spec = environment_spec(environment, self._environments)
        self.observation_dtype = observation_dtype(self._environments)
        self._begin(0)

    def close(self) -> None:
        """Close the environments."""
        self._environments.close()

    def _begin(self, start: int) -> None:
        """Reset the environments, which have made ``start`` steps each."""
        seeds = np.random.SeedSequence((*self.seed, start)).generate_state(2) >> 1
        self._observation = first_observations(self.environment, self._environments, int(seeds[0]))
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._return = np.zeros(self.num_envs)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._recent_tensor: Tensor | None = None  # made anew after an episode has ended
        self.steps, self._incomplete = start, False
        stream = torch.Generator().manual_seed(int(seeds[1]))
        self._random: dict[str, Tensor] = {"cpu": stream.get_state()}

    def collect(
        self,
        act: Callable[[Tensor], Tensor],
        num_steps: int,
        device: torch.device | str = "cpu",
    ) -> Rollout:
        """The next ``num_steps`` steps of each environment.

        Args:
            act: from observations ``[N, *shape]``, bytes as floats (see ``bytes_to_float``), to
                actions ``[N]`` or ``[N, A]``.
            num_steps: T.
            device: of the observations that ``act`` is given; rollouts are on the CPU.
        Raises:
            RuntimeError: an environment raised an error; says which, and after how many steps.
            ValueError: a reward or an observation that is not finite, or not in its space.
        """
        steps, width, device = (
            at_least_one("num_steps", num_steps),
            self.num_envs,
            torch.device(device),
        )
        observations = torch.empty(
            steps + 1, width, *self.spec.observation_shape, dtype=self.observation_dtype
        )
        shape = () if self.spec.num_actions else (len(self.spec.action_low),)
        actions = torch.empty(
            steps, width, *shape, dtype=torch.long if self.spec.num_actions else torch.float
        )
        rewards, flags = np.empty((steps, width)), np.empty((2, steps, width), dtype=bool)
        # Until the last step the states of environments and random numbers do not fit together.
        self._incomplete = True
        with torch.inference_mode(), self._own_random_stream(device):
            self._fill(act, device, observations, actions, rewards, flags)
        self._incomplete = False
        self._check(observations, rewards)
        # The environments may overwrite the arrays that they returned.
        self._observation = observations[-1].numpy().copy()
        mask = np.concatenate([self._ended[None], (flags[0] | flags[1])[:-1]])
        self._count(rewards, flags[0] | flags[1])
        return Rollout(
            observations,
            actions,
            torch.from_numpy(rewards).float(),
            torch.from_numpy(flags[0]),
            torch.from_numpy(flags[1]),
            torch.from_numpy(~mask),
            self._recent_returns(),
            torch.tensor(self.steps * width),
        )

    def _fill(
        self,
        act: Callable[[Tensor], Tensor],
        device: torch.device,
        observations: Tensor,
        actions: Tensor,
        rewards: np.ndarray,
        flags: np.ndarray,
    ) -> None:
        """Write the steps of a rollout into these arrays: where a run spends its time."""
        observation_array, action_array = observations.numpy(), actions.numpy()
        on_cpu, space = device.type == "cpu", self._environments.single_action_space
        step, discrete = self._environments.step, self.spec.num_actions > 0
        shape = self.spec.observation_shape
        observation_array[0] = self._observation
        for t, (observation, action) in enumerate(zip(observations, actions, strict=False)):
            seen = observation if on_cpu else observation.to(device)
            action.copy_(act(bytes_to_float(seen, shape)))
            given = action_array[t] if discrete else fitting_actions(action_array[t], space)
            try:
                observation_array[t + 1], rewards[t], flags[0, t], flags[1, t], _ = step(given)
            except Exception as error:
                raise RuntimeError(
                    f"{self.environment}: {type(error).__name__} in step {self.steps + t + 1} "
                    f"of each environment: {error}"
                ) from error

    def _check(self, observations: Tensor, rewards: np.ndarray) -> None:
        if states := self.spec.num_observations:
            lowest, highest = (int(end) for end in observations.aminmax())
            if lowest < 0 or highest >= states:
                wrong = lowest if lowest < 0 else highest
                declared = f"its observation_space declares Discrete({states})"
                raise self._broken(f"it returned the observation {wrong}, but {declared}")
        for name, values in (("reward", rewards), ("observation", observations.numpy()[1:])):
            if not np.isfinite(values.sum()) and not np.isfinite(values).all():
                step, number = np.argwhere(~np.isfinite(values))[0][:2]
                place = f"environment {number} in its step {self.steps + step + 1}"
                raise self._broken(f"the {name} of {place} is not finite")

    def _broken(self, problem: str) -> ValueError:
        """The error about an environment whose steps cannot be used, or gone on from."""
        self._incomplete = True
        return ValueError(f"{self.environment}: {problem}")

    def _count(self, rewards: np.ndarray, ends: np.ndarray) -> None:
        """Add the rewards to the returns of their episodes; that of a reset is 0."""
        begin = 0
        for step in np.flatnonzero(ends.any(axis=1)).tolist():
            self._return += rewards[begin : step + 1].sum(axis=0)
            self._recent.extend(self._return[ends[step]].tolist())
            self._return[ends[step]] = 0.0
            begin = step + 1
            self._recent_tensor = None
        self._return += rewards[begin:].sum(axis=0)
        self._ended = ends[-1].copy()
        self.steps += len(rewards)

    def _recent_returns(self) -> Tensor:
        if self._recent_tensor is None:
            self._recent_tensor = torch.tensor(list(self._recent))
        return self._recent_tensor

    @contextmanager
    def _own_random_stream(self, device: torch.device) -> Iterator[None]:
        """Sample from the collector's stream, and leave the one of training as it was."""
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.set_rng_state(self._random["cpu"])
            for each in cuda:
                if "cuda" in self._random:
                    torch.cuda.set_rng_state(self._random["cuda"], each)
            yield
            self._random["cpu"] = torch.get_rng_state()
            for each in cuda:
                self._random["cuda"] = torch.cuda.get_rng_state(each)

    def state_dict(self) -> dict[str, Any]:
        """For ``load_state_dict``: plain types and tensors."""
        return {
            "environment": self.environment,
            "environments": None if self._incomplete else save_state(self._environments),
            "observation": torch.from_numpy(np.array(self._observation)),
            "ended": self._ended.tolist(),
            "return": self._return.tolist(),
            "recent": list(self._recent),
            "steps": self.steps,
            "random": dict(self._random),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Continue where another collector stopped.

        Environments whose state could not be read (simulators written in C, one that raised an
        error) begin new episodes instead, with other random numbers than those of the start.

        Args:
            state: of a collector in the same environment.
        Returns:
            whether the episodes continue.

        Raises:
            ValueError: it is the state of another environment.
        """
        if state["environment"] != self.environment:
            raise ValueError(
                f"the checkpoint was made in {state['environment']}, this run is in "
                f"{self.environment}"
            )
        self._begin(state["steps"])
        self._recent.extend(state["recent"])
        if state["environments"] is None or len(state["ended"]) != self.num_envs:
            return False
        load_state(self._environments, state["environments"])
        self._observation = state["observation"].numpy()
        self._ended, self._return = np.array(state["ended"]), np.array(state["return"])
        self._random = dict(state["random"])
        return True
