"""Experience of an agent that learns from what it does now: rollouts of its own making."""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from trellis.datamodules.base import DataModule, Split
from trellis.datamodules.loader import Loader
from trellis.nn.checks import at_least_one
from trellis.rl.environment_state import load_state, save_state
from trellis.rl.vector_environments import (
    EVALUATION_SEEDS,
    Episodes,
    as_given,
    environment_spec,
    make_environments,
    observation_dtype,
    play,
)
from trellis.spec import EnvironmentSpec, differences

REMEMBERED = 100  # finished episodes whose returns are reported


class Agent(Protocol):
    """What ``EnvironmentRollouts`` asks of the objective it works for."""

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions ``[N]`` or ``[N, A]`` for observations ``[N, *shape]``, drawn or the best."""
        ...


class Rollout(NamedTuple):
    """T steps of N environments, all under one policy.

    Args:
        observations: ``[T + 1, N, *shape]``; step t leads from t to t + 1, the last entry is what
            the rollout ends with. After the last step of an episode comes its final observation.
        actions: ``[T, N]``, or real ones ``[T, N, A]`` as the agent drew them, before they were
            cut to the environment's bounds.
        rewards: ``[T, N]``.
        terminated: bool ``[T, N]``, the episode came to an end by itself.
        truncated: bool ``[T, N]``, it was broken off, by a time limit mostly.
        mask: bool ``[T, N]``, false where the step did nothing but begin a new episode: there is
            nothing to learn from it.
        recent_returns: of the last 100 finished episodes ``[E]``, not discounted; fewer at first.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    mask: Tensor
    recent_returns: Tensor


class EnvironmentRollouts(DataModule):
    """Rollouts of gymnasium's environments by the agent that is trained.

    Batch: a ``Rollout`` in training, one for each training step, made when it is asked for;
    ``Episodes`` in evaluation, one batch of ``num_val_episodes`` or ``num_test_episodes``, each of
    an environment of its own whose seed is the same in all runs, with deterministic actions.

    Environments are stepped by their own vectorised implementation where there is one. A run ends
    with ``total_steps``, whatever ``max_epochs`` says; validate in between with the trainer's
    ``val_check_interval``. Steps that only reset an environment count as steps.

    The random numbers that actions are drawn with are a stream of its own. It goes into the
    checkpoint, as do the states of the environments, the observation they are at and the returns
    so far: a run on the CPU that was stopped between two steps goes on bit-equal. Environments
    whose state cannot be read (simulators written in C), the one that raised an error, and those
    of other processes than the first begin new episodes instead.

    Args:
        environment: gymnasium's id.
        num_envs: N, environments side by side.
        num_steps: T, steps of each in a rollout.
        total_steps: steps of all environments together, in all rollouts.
        seed: of environments and actions; ``None`` takes the one of ``seed_everything``.
        num_val_episodes: to validate on.
        num_test_episodes: to test on.
        options: arguments of the environment, such as ``max_episode_steps``.
    Raises:
        ImportError: gymnasium is missing.
        ValueError: a size below 1; fewer ``total_steps`` than one rollout has; in ``setup`` an
            unknown environment, with the nearest names.
    """

    spec: EnvironmentSpec

    def __init__(
        self,
        environment: str = "CartPole-v1",
        num_envs: int = 4,
        num_steps: int = 128,
        total_steps: int = 500_000,
        seed: int | None = None,
        num_val_episodes: int = 10,
        num_test_episodes: int = 100,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.num_envs = at_least_one("num_envs", num_envs)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.episodes = {
            "val": at_least_one("num_val_episodes", num_val_episodes),
            "test": at_least_one("num_test_episodes", num_test_episodes),
        }
        if total_steps < num_envs * num_steps:
            raise ValueError(
                f"total_steps={total_steps}: one rollout has num_envs * num_steps = "
                f"{num_envs * num_steps}"
            )
        self.num_rollouts = total_steps // (num_envs * num_steps)
        self.environment, self.options, self.seed = environment, dict(options or {}), seed
        self._environments: Any = None

    def setup(self, stage: str | None = None) -> None:
        probe = make_environments(self.environment, 1, self.options)
        self.spec = environment_spec(self.environment, probe)
        probe.close()
        if stage in (None, "fit"):
            self._begin()

    def teardown(self, stage: str | None = None) -> None:
        if stage in (None, "fit") and self._environments is not None:
            self._environments.close()
            self._environments = None

    def loader(self, split: Split) -> Loader[Any]:
        if split == "train":
            return Loader(self.num_rollouts, lambda _: self._rollout(), pad=True)
        # Evaluated by the first process alone.
        return Loader(1, lambda _: self._evaluate(split))

    def _agent(self) -> Any:
        module = self.trainer.lightning_module if self.trainer else None
        if not hasattr(module, "act"):
            raise ValueError(
                f"EnvironmentRollouts needs an objective that acts, such as PPO; "
                f"{type(module).__name__} has no act(observations)"
            )
        theirs = getattr(module, "spec", None)
        if theirs is not None and (wrong := differences(theirs, self.spec)):
            raise ValueError(
                f"{type(module).__name__} was made for another environment: {'; '.join(wrong)}"
            )
        return module

    def _evaluate(self, split: Split) -> Episodes:
        agent = self._agent()
        environments = make_environments(self.environment, self.episodes[split], self.options)
        try:
            return play(
                environments,
                self.spec,
                lambda observations: agent.act(observations.to(agent.device), deterministic=True),
                EVALUATION_SEEDS[split],
            )
        finally:
            environments.close()

    def _begin(self, start: int = 0) -> None:
        """Environments at the beginning of episodes, in a run that has made ``start`` steps."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        rank = self.trainer.global_rank if self.trainer else 0
        seeds = np.random.SeedSequence((seed, rank, start)).generate_state(2) >> 1
        if self._environments is None:
            self._environments = make_environments(self.environment, self.num_envs, self.options)
        self._observation, _ = self._environments.reset(seed=int(seeds[0]))
        self._dtype = observation_dtype(self._environments)
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._return = np.zeros(self.num_envs)
        self._recent: deque[float] = deque(maxlen=REMEMBERED)
        self._steps, self._inside = start, False
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seeds[1]))
            self._random: dict[str, Tensor] = {"cpu": torch.get_rng_state()}

    def _rollout(self) -> Rollout:
        agent, steps, width = self._agent(), self.num_steps, self.num_envs
        observations = torch.empty(
            steps + 1, width, *self.spec.observation_shape, dtype=self._dtype
        )
        shape = () if self.spec.num_actions else (len(self.spec.action_low),)
        actions = torch.empty(
            steps, width, *shape, dtype=torch.long if self.spec.num_actions else torch.float
        )
        rewards, flags = np.empty((steps, width)), np.empty((2, steps, width), dtype=bool)
        self._inside = True  # until the last step, environments and numbers do not fit together
        with torch.inference_mode(), self._own_randomness(agent.device):
            self._fill(agent, observations, actions, rewards, flags)
        self._inside = False
        self._check(observations, rewards)
        # The environments may go on in the memory of what they returned.
        self._observation = observations[-1].numpy().copy()
        mask = np.concatenate([self._ended[None], (flags[0] | flags[1])[:-1]])
        self._count(rewards, flags[0] | flags[1])
        trainer: Any = self.trainer
        if self._steps * trainer.world_size >= self.num_rollouts * steps:
            trainer.should_stop = True
        return Rollout(
            observations,
            actions,
            torch.from_numpy(rewards).float(),
            torch.from_numpy(flags[0]),
            torch.from_numpy(flags[1]),
            torch.from_numpy(~mask),
            torch.tensor(list(self._recent)),
        )

    def _fill(
        self,
        agent: Any,
        observations: Tensor,
        actions: Tensor,
        rewards: np.ndarray,
        flags: np.ndarray,
    ) -> None:
        """The steps of a rollout, into memory that is there: where a run spends its time."""
        seen, done = observations.numpy(), actions.numpy()
        elsewhere = agent.device.type != "cpu"
        discrete, step = self.spec.num_actions > 0, self._environments.step
        seen[0] = self._observation
        for t, (now, action) in enumerate(zip(observations, actions, strict=False)):
            action.copy_(agent.act(now.to(agent.device) if elsewhere else now))
            given = done[t] if discrete else as_given(done[t], self.spec)
            try:
                seen[t + 1], rewards[t], flags[0, t], flags[1, t], _ = step(given)
            except Exception as error:
                raise RuntimeError(
                    f"{self.environment}: {type(error).__name__} in step {self._steps + t + 1} "
                    f"of each environment: {error}"
                ) from error

    def _check(self, observations: Tensor, rewards: np.ndarray) -> None:
        for name, values in (("reward", rewards), ("observation", observations.numpy()[1:])):
            if not np.isfinite(values.sum()) and not np.isfinite(values).all():
                step, number = np.argwhere(~np.isfinite(values))[0][:2]
                self._inside = True
                raise ValueError(
                    f"{self.environment}: the {name} of environment {number} in its step "
                    f"{self._steps + step + 1} is not finite"
                )

    def _count(self, rewards: np.ndarray, ends: np.ndarray) -> None:
        """Add the rewards to the episodes they belong to; those of a step of reset are 0."""
        begin = 0
        for step in np.flatnonzero(ends.any(axis=1)).tolist():
            self._return += rewards[begin : step + 1].sum(axis=0)
            self._recent.extend(self._return[ends[step]].tolist())
            self._return[ends[step]] = 0.0
            begin = step + 1
        self._return += rewards[begin:].sum(axis=0)
        self._ended = ends[-1].copy()
        self._steps += self.num_steps

    @contextmanager
    def _own_randomness(self, device: torch.device) -> Iterator[None]:
        """Draw from this stream; leave the one that training draws from as it was."""
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
        if self._environments is None:
            return {}
        return {
            "environment": self.environment,
            "environments": None if self._inside else save_state(self._environments),
            "observation": torch.from_numpy(np.array(self._observation)),
            "ended": self._ended.tolist(),
            "return": self._return.tolist(),
            "recent": list(self._recent),
            "steps": self._steps,
            "random": dict(self._random),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if not state_dict or self._environments is None:
            return
        state = dict(state_dict)
        if state["environment"] != self.environment:
            raise ValueError(
                f"the checkpoint was made in {state['environment']}, this run is in "
                f"{self.environment}"
            )
        self._begin(start=state["steps"])
        self._recent.extend(state["recent"])
        first = self.trainer is None or self.trainer.global_rank == 0
        if state["environments"] is None or len(state["ended"]) != self.num_envs or not first:
            rank_zero_warn(
                f"{self.environment}: the checkpoint lacks the state of these environments; "
                f"the run goes on with new episodes"
            )
            return
        load_state(self._environments, state["environments"])
        self._observation = state["observation"].numpy()
        self._ended, self._return = np.array(state["ended"]), np.array(state["return"])
        self._random = dict(state["random"])
