"""Experience of an agent that learns from all it ever did: a memory that grows as it acts."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.datamodules.agents import (
    agent_of,
    collector_of,
    evaluate,
    go_on,
    numbers_of_episodes,
    spec_of,
)
from trellis.datamodules.base import DataModule, Split
from trellis.datamodules.loader import Loader
from trellis.nn.checks import at_least_one, not_negative, probability
from trellis.rl.collector import Rollout
from trellis.rl.n_step import NStepTransitions
from trellis.rl.replay import PrioritizedReplay, ReplayBuffer, Transitions
from trellis.rl.schedules import linear
from trellis.rl.vector_environments import Episodes
from trellis.spec import EnvironmentSpec

BETA = 0.4  # how much of the bias of priorities is taken back at first; all of it at the end


class ReplayBlock(NamedTuple):
    """What U updates learn from: a batch of B transitions each.

    Args:
        transitions: fields ``[U, B, ...]``.
        observations: of the T steps that were made for this block, ``[T + 1, N, *shape]``.
        recent_returns: of the last 100 finished episodes ``[E]``, not discounted; fewer at first.
        env_steps: that all environments have made so far.
        weights: to multiply losses by ``[U, B]``; 1 without priorities.
        where: of the transitions in the memory ``[U, B]``, to report their errors by; ``None``
            without priorities.
    """

    transitions: Transitions
    observations: Tensor
    recent_returns: Tensor
    env_steps: Tensor
    weights: Tensor
    where: Tensor | None = None

    def batches(self) -> Iterator[tuple[Transitions, Tensor]]:
        """Transitions and their weights ``[B]``, for one update after the other."""
        fields = (field.unbind() for field in (*self.transitions, self.weights))
        for *transitions, weights in zip(*fields, strict=True):
            yield Transitions(*transitions), weights


class EnvironmentReplay(DataModule):
    """Steps of gymnasium's environments by the agent that is trained, remembered and drawn again.

    Batch: a ``ReplayBlock`` in training: the agent makes ``num_steps`` steps of each environment,
    then ``num_updates`` batches are drawn at once from what is remembered. Many of both pay for
    the trainer once; one of each is what papers describe. ``Episodes`` in evaluation, one batch of
    ``num_val_episodes`` or ``num_test_episodes``, each of an environment of its own whose seed is
    the same in all runs, with deterministic actions.

    The agent acts by its ``explore(observations, progress)``; progress is the share of
    ``total_steps`` that is made. Transitions span ``agent.n_step`` rewards, discounted by
    ``agent.gamma``. With priorities the agent reports its errors with ``update_priorities``; all
    batches of a block are drawn by those from before.

    Environments are stepped by their own vectorised implementation where that is faster. A run
    ends with ``total_steps``, whatever ``max_epochs`` says; validate in between with the trainer's
    ``val_check_interval``. Steps that only reset an environment count as steps.

    All of it goes into the checkpoint: the memory, the random numbers of actions and of draws, the
    states of the environments. A run on the CPU that was stopped between two blocks goes on
    bit-equal, but for environments whose state cannot be read (simulators written in C), which
    begin new episodes, as the one that raised an error does.

    Args:
        environment: gymnasium's id.
        num_envs: N, environments side by side.
        num_steps: T, steps of each for a block.
        num_updates: U, batches of a block.
        total_steps: steps of all environments together, the first random ones among them.
        learning_starts: steps with random actions before the first block.
        capacity: transitions that are remembered.
        batch_size: B.
        priority: power of the errors that transitions are drawn in proportion to, in [0, 1];
            ``None`` draws evenly.
        seed: of environments, actions and draws; ``None`` takes the one of ``seed_everything``.
        num_val_episodes: to validate on.
        num_test_episodes: to test on.
        options: arguments of the environment, such as ``max_episode_steps``.
    Raises:
        ImportError: gymnasium is missing.
        ValueError: a size below 1; ``total_steps`` that leave no block; in ``setup`` an unknown
            environment, with the nearest names.

    Source: Mnih et al. 2015; Schaul et al. 2016 (priorities).
    """

    spec: EnvironmentSpec

    def __init__(
        self,
        environment: str = "CartPole-v1",
        num_envs: int = 1,
        num_steps: int = 1,
        num_updates: int = 1,
        total_steps: int = 500_000,
        learning_starts: int = 1_000,
        capacity: int = 100_000,
        batch_size: int = 128,
        priority: float | None = None,
        seed: int | None = None,
        num_val_episodes: int = 10,
        num_test_episodes: int = 100,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.num_envs = at_least_one("num_envs", num_envs)
        self.num_steps = at_least_one("num_steps", num_steps)
        self.num_updates = at_least_one("num_updates", num_updates)
        self.capacity = at_least_one("capacity", capacity)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.priority = None if priority is None else probability("priority", priority)
        self.episodes = numbers_of_episodes(num_val_episodes, num_test_episodes)
        not_negative("learning_starts", learning_starts)
        # Of each environment, before the first block.
        self.random_steps = -(-learning_starts // num_envs)
        self.num_blocks = (total_steps // num_envs - self.random_steps) // num_steps
        if self.num_blocks < 1:
            raise ValueError(
                f"total_steps={total_steps}: learning_starts={learning_starts} and the "
                f"num_envs * num_steps = {num_envs * num_steps} of one block are more"
            )
        self.environment, self.options, self.seed = environment, dict(options or {}), seed
        self._collector: Any = None

    @property
    def steps_each(self) -> int:
        """Steps that each environment makes in the whole run."""
        return self.random_steps + self.num_blocks * self.num_steps

    def setup(self, stage: str | None = None) -> None:
        self.spec = spec_of(self.environment, self.options)
        if stage not in (None, "fit"):
            return
        self._collector = collector_of(
            self, self.environment, self.num_envs, self.options, self.seed
        )
        memory = ReplayBuffer(
            self.capacity,
            self.spec.observation_shape,
            () if self.spec.num_actions else (len(self.spec.action_low),),
            observation_dtype=self._collector.observation_dtype,
        )
        self._memory: Any = memory
        if self.priority is not None:
            self._memory = PrioritizedReplay(memory, self.priority)
        self._unfinished: NStepTransitions | None = None
        seeds = np.random.SeedSequence(self._collector.seed).spawn(1)[0].generate_state(1)
        self._generator = torch.Generator().manual_seed(int(seeds[0]))

    def teardown(self, stage: str | None = None) -> None:
        if stage in (None, "fit") and self._collector is not None:
            self._collector.close()
            self._collector = None

    def loader(self, split: Split) -> Loader[Any]:
        if split == "train":
            return Loader(self.num_blocks, lambda _: self._block(), pad=True)
        # The same episodes in each process: one without a batch would be an error to Lightning.
        return Loader(1, lambda _: self._evaluate(split), pad=True)

    def _evaluate(self, split: Split) -> Episodes:
        return evaluate(self, split, self.environment, self.options, self.episodes[split])

    def update_priorities(self, where: Tensor, errors: Tensor) -> None:
        """Tell what the errors of a block's transitions were.

        Args:
            where: of the block, ``[U, B]``.
            errors: TD errors of either sign, ``[U, B]``.
        """
        self._memory.update(where.flatten().cpu(), errors.flatten())

    def _block(self) -> ReplayBlock:
        agent, collector = agent_of(self, "act", "explore"), self._collector
        trainer: Any = self.trainer
        if missing := max(0, self.random_steps - collector.steps):
            self._remember(collector.collect(self._random_actions, missing))
        progress = collector.steps / self.steps_each
        rollout = collector.collect(
            partial(agent.explore, progress=progress), self.num_steps, agent.device
        )
        self._remember(rollout)
        made = (collector.steps - self.random_steps) * trainer.world_size
        if made >= self.num_blocks * self.num_steps:
            trainer.should_stop = True
        transitions, weights, where = self._draw()
        return ReplayBlock(
            transitions,
            rollout.observations,
            rollout.recent_returns,
            rollout.env_steps,
            weights,
            where,
        )

    def _random_actions(self, observations: Tensor) -> Tensor:
        count = len(observations)
        if self.spec.num_actions:
            return torch.randint(self.spec.num_actions, (count,))
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        return low + (high - low) * torch.rand(count, len(low))

    def _steps(self) -> NStepTransitions:
        """Of what n the transitions are is up to the agent, who is not known in ``setup``."""
        if self._unfinished is None:
            agent = agent_of(self, "gamma", "n_step")
            self._unfinished = NStepTransitions(agent.n_step, agent.gamma)
        return self._unfinished

    def _remember(self, rollout: Rollout) -> None:
        before, after = rollout.observations[:-1], rollout.observations[1:]
        parts = (before, rollout.actions, rollout.rewards, after, rollout.terminated,
                 rollout.truncated, rollout.mask)  # fmt: skip
        steps = self._steps()
        if steps.n == 1:
            new = steps.push(*(part.flatten(0, 1) for part in parts))
        else:
            ready = [steps.push(*each) for each in zip(*parts, strict=True)]
            new = Transitions(*(torch.cat(fields) for fields in zip(*ready, strict=True)))
        self._memory.add(Transitions(*(field[-self.capacity :] for field in new)))

    def _draw(self) -> tuple[Transitions, Tensor, Tensor | None]:
        shape, memory = (self.num_updates, self.batch_size), self._memory
        if not len(memory):
            raise ValueError(
                f"learning_starts={self.random_steps * self.num_envs}: no transition is complete "
                f"by then, give more"
            )
        if self.priority is None:
            drawn = memory.sample(shape[0] * shape[1], self._generator)
            weights, where = torch.ones(()).expand(shape), None
        else:
            beta = linear(self._collector.steps, start=BETA, end=1.0, num_steps=self.steps_each)
            # A batch after the other: of each, the largest weight is 1.
            samples = [memory.sample(shape[1], beta, self._generator) for _ in range(shape[0])]
            drawn = Transitions(
                *(torch.cat(f) for f in zip(*(s.transitions for s in samples), strict=True))
            )
            weights = torch.stack([sample.weights for sample in samples])
            where = torch.stack([sample.where for sample in samples])
        return Transitions(*(field.unflatten(0, shape) for field in drawn)), weights, where

    def state_dict(self) -> dict[str, Any]:
        if self._collector is None:
            return {}
        return {
            "collector": self._collector.state_dict(),
            "memory": self._memory.state_dict(),
            "unfinished": None if self._unfinished is None else self._unfinished.state_dict(),
            "draws": self._generator.get_state(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if not state_dict or self._collector is None:
            return
        goes_on = go_on(self, self._collector, state_dict["collector"])
        self._memory.load_state_dict(state_dict["memory"])
        self._generator.set_state(state_dict["draws"])
        # What waits for the next rewards waits in vain where episodes do not go on.
        if goes_on and state_dict["unfinished"] is not None:
            self._steps().load_state_dict(state_dict["unfinished"])
