"""Experience of an agent that learns from what it does now: rollouts of its own making."""

from collections.abc import Mapping
from typing import Any

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.rl.agents import (
    agent_of,
    collector_of,
    evaluate,
    go_on,
    numbers_of_episodes,
    spec_of,
)
from trellis.rl.collector import Rollout
from trellis.rl.vector_environments import Episodes
from trellis.spec import EnvironmentSpec


class EnvironmentRollouts(DataModule):
    """Rollouts of gymnasium's environments by the agent that is trained.

    Batch: a ``Rollout`` in training, one for each training step, made when it is asked for;
    ``Episodes`` in evaluation, one batch of ``num_val_episodes`` or ``num_test_episodes``, each of
    an environment of its own whose seed is the same in all runs, with deterministic actions.

    Environments are stepped by their own vectorised implementation where that is faster. A run
    ends with ``total_steps``, whatever ``max_epochs`` says; validate in between with the trainer's
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
            unknown environment, with the nearest names; in training an objective that does not
            act, or that learns from a memory.
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
        self.episodes = numbers_of_episodes(num_val_episodes, num_test_episodes)
        if total_steps < num_envs * num_steps:
            raise ValueError(
                f"total_steps={total_steps}: one rollout has num_envs * num_steps = "
                f"{num_envs * num_steps}"
            )
        self.num_rollouts = total_steps // (num_envs * num_steps)
        self.environment, self.options, self.seed = environment, dict(options or {}), seed
        self._collector: Any = None

    def setup(self, stage: str | None = None) -> None:
        self.spec = spec_of(self.environment, self.options)
        if stage in (None, "fit"):
            self._collector = collector_of(
                self, self.environment, self.num_envs, self.options, self.seed
            )

    def teardown(self, stage: str | None = None) -> None:
        if stage in (None, "fit") and self._collector is not None:
            self._collector.close()
            self._collector = None

    def loader(self, split: Split) -> Loader[Any]:
        if split == "train":
            return Loader(self.num_rollouts, lambda _: self._rollout(), pad=True)
        # The same episodes in each process: one without a batch would be an error to Lightning.
        return Loader(1, lambda _: self._evaluate(split), pad=True)

    def _evaluate(self, split: Split) -> Episodes:
        return evaluate(self, split, self.environment, self.options, self.episodes[split])

    def _rollout(self) -> Rollout:
        agent, collector = agent_of(self, "act"), self._collector
        if hasattr(agent, "explore"):
            raise ValueError(
                f"{type(agent).__name__} learns from a memory, which EnvironmentRollouts does not "
                f"keep: take EnvironmentReplay"
            )
        trainer: Any = self.trainer
        rollout = collector.collect(agent.act, self.num_steps, agent.device)
        if collector.steps * trainer.world_size >= self.num_rollouts * self.num_steps:
            trainer.should_stop = True
        return rollout

    def state_dict(self) -> dict[str, Any]:
        return {} if self._collector is None else self._collector.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if state_dict and self._collector is not None:
            go_on(self, self._collector, state_dict)
