"""The base of data that an agent makes itself, by acting in environments as it is trained."""

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.files import TYPED_ONLY
from trellis.processes import of_all_processes, rank_and_world
from trellis.rl.collector import Collector
from trellis.rl.vector_environments import (
    EVALUATION_SEEDS,
    Episodes,
    environment_spec,
    make_environments,
    play,
)
from trellis.spec import EnvironmentSpec, differences

try:
    from gymnasium import Env
except ImportError:  # making environments says what to install
    Env = Any  # type: ignore[assignment,misc]

# What an objective learns from -> the data that provide it.
SOURCES = {"rollouts": "EnvironmentRollouts", "replay": "EnvironmentReplay"}


@runtime_checkable
class Agent(Protocol):
    """The objective that is trained, as far as these data know it.

    ``trellis.lightning_modules.rl.agent.AgentObjective`` documents what each of these means. A
    ``LightningModule`` of your own that has them all is an agent, too.
    """

    learns_from: ClassVar[Literal["rollouts", "replay"]]
    gamma: float
    n_step: int
    spec: EnvironmentSpec | None

    @property
    def device(self) -> torch.device:
        """Where it wants its observations."""
        ...

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions ``[N]`` or ``[N, A]`` for observations ``[N, *shape]``."""
        ...

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions to fill a replay buffer with; progress is the share of the run so far."""
        ...


class EnvironmentData(DataModule):
    """Base of the data that come from environments and the agent that is trained.

    A subclass says what it ``provides``, sets ``num_batches``, and makes a batch in
    ``next_batch``. Evaluation is one batch of ``Episodes``, each of an environment of its own
    with the same seed in all runs, with deterministic actions.

    **What makes a batch fresh.** ``next_batch`` is called by the loader's iterator, so the agent
    acts with the weights that it has when the trainer asks for the batch. That is after the
    update on the batch before, because Lightning fetches nothing in advance from a loader that
    has a length, and ``Loader`` has no workers. A loader without a length, or one with workers,
    would hand an on-policy agent rollouts of an older policy.

    Args:
        environment: gymnasium's id.
        num_envs: N, environments side by side.
        num_steps: T, steps of each in a batch.
        seed: of environments, actions and samples; ``None`` takes the one of ``seed_everything``.
        num_val_episodes: to validate on.
        num_test_episodes: to test on.
        options: arguments of the environment, such as ``max_episode_steps``.
        wrappers: gymnasium's or your own, each from an environment to a wrapped one; the first is
            the innermost. What one learns, such as a mean, it learns anew in each environment.
    Raises:
        ImportError: gymnasium is missing.
        ValueError: a size below 1; in ``setup`` an unknown environment, with the nearest names,
            an objective that is no agent, learns from something else or was made for another
            environment.
    """

    provides: ClassVar[Literal["rollouts", "replay"]]
    spec: EnvironmentSpec
    num_batches: int

    def __init__(
        self,
        environment: str,
        num_envs: int,
        num_steps: int,
        *,
        seed: int | None = None,
        num_val_episodes: int = 10,
        num_test_episodes: int = 100,
        options: Annotated[dict[str, Any] | None, TYPED_ONLY] = None,
        wrappers: list[Callable[[Env], Env]] | None = None,
    ) -> None:
        super().__init__()
        self.wrappers: Sequence[Callable[[Any], Any]] = tuple(wrappers or ())
        self.environment, self.seed, self.options = environment, seed, dict(options or {})
        self.num_envs = at_least_one("num_envs", num_envs)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.episodes: dict[Split, int] = {
            "val": at_least_one("num_val_episodes", num_val_episodes),
            "test": at_least_one("num_test_episodes", num_test_episodes),
        }
        self._collector: Collector | None = None

    @abstractmethod
    def next_batch(self) -> Any:
        """Let the agent act, and return what it learns from next."""

    @property
    def agent(self) -> Agent:
        """The objective that is trained or evaluated.

        Raises:
            ValueError: there is none.
        """
        if self.trainer is None:
            raise ValueError(
                f"{type(self).__name__}: an agent makes these data as it is trained, so they need "
                f"a Trainer; with a policy of your own use trellis.rl.Collector"
            )
        agent: Any = self.trainer.lightning_module
        return agent

    @property
    def collector(self) -> Collector:
        """The environments to train in; they exist between ``setup("fit")`` and ``teardown``."""
        if self._collector is None:
            raise ValueError(f"{type(self).__name__}: call setup('fit') before training")
        return self._collector

    def setup(self, stage: str | None = None) -> None:
        if stage in (None, "fit"):
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
            rank = self.trainer.global_rank if self.trainer else 0
            self._collector = Collector(
                self.environment, self.num_envs, self.options, (seed, rank), self.wrappers
            )
            self.spec = self._collector.spec
        else:
            environments = self._environments(1)
            self.spec = environment_spec(self.environment, environments)
            environments.close()
        if self.trainer is not None:
            self._check_agent(self.agent, training=stage == "fit")

    def _environments(self, number: int) -> Any:
        return make_environments(self.environment, number, self.options, self.wrappers)

    def _check_agent(self, agent: object, training: bool) -> None:
        name, data = type(agent).__name__, type(self).__name__
        if not isinstance(agent, Agent):
            raise ValueError(
                f"{data} needs an objective that acts, an AgentObjective, and {name} is none: "
                f"take PPO with EnvironmentRollouts, or DQN with EnvironmentReplay"
            )
        if training and agent.learns_from != self.provides:
            source = SOURCES.get(agent.learns_from, "others")
            raise ValueError(
                f"{name} learns from {agent.learns_from}, but {data} provides {self.provides}: "
                f"take {source} as data"
            )
        if agent.spec is not None and (wrong := differences(agent.spec, self.spec)):
            raise ValueError(f"{name} was made for another environment: {'; '.join(wrong)}")

    def teardown(self, stage: str | None = None) -> None:
        if stage in (None, "fit") and self._collector is not None:
            self._collector.close()
            self._collector = None

    def loader(self, split: Split) -> Loader[Any]:
        if split == "train":
            return Loader(self.num_batches, lambda _: self.next_batch())
        return Loader(1, lambda _: self._play(split))

    def _play(self, split: Split) -> Episodes:
        agent = self.agent
        environments = self._environments(self.episodes[split])
        try:
            return play(
                environments,
                self.spec,
                lambda observations: agent.act(self.as_seen(observations), deterministic=True),
                EVALUATION_SEEDS[split],
            )
        finally:
            environments.close()

    def as_seen(self, observations: Tensor) -> Tensor:
        """Observations on the device and, real numbers, in the type of the agent's parameters."""
        observations = observations.to(self.agent.device)
        dtype = getattr(self.agent, "dtype", observations.dtype)
        return observations.to(dtype) if observations.is_floating_point() else observations

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """State of this process's experience, for a checkpoint; empty before ``setup``."""

    @abstractmethod
    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``own_state`` of the same process has returned."""

    def state_dict(self) -> dict[str, Any]:
        """The states of all processes: each has environments of its own."""
        states = of_all_processes(self.own_state())
        return states[0] if len(states) == 1 or not states[0] else {"processes": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if state_dict and self._collector is not None:
            states = state_dict.get("processes", [state_dict])
            rank, _ = rank_and_world()
            # ``ExactResume`` refuses another number of processes.
            self.load_own_state(states[min(rank, len(states) - 1)])

    def restore(self, state: Mapping[str, Any]) -> bool:
        """Restore the environments of a checkpoint; warns where they begin new episodes.

        Args:
            state: of the collector.
        Returns:
            whether the episodes continue.

        Raises:
            ValueError: the state is that of another environment.
        """
        if self.collector.load_state_dict(state):
            return True
        rank_zero_warn(
            f"{self.environment}: the checkpoint lacks the state of these environments; the run "
            f"goes on with new episodes"
        )
        return False
