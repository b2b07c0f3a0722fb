"""Experience of an agent that learns from all it ever did: a memory that grows as it acts."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative, probability
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
from trellis.rl.n_step import NStepTransitions
from trellis.rl.replay import PrioritizedReplay, ReplayBuffer, Transitions
from trellis.rl.schedules import linear
from trellis.rl.vector_environments import Episodes
from trellis.spec import EnvironmentSpec

BETA = 0.4  # how much of the bias of priorities is taken back at first; all of it at the end


class ReplayBatch(NamedTuple):
    """What one update learns from.

    Args:
        transitions: fields ``[B, ...]``.
        weights: of their losses ``[B]``; 1 without priorities.
        where: of the transitions in the memory ``[B]``, to report their errors by; ``None``
            without priorities.
    """

    transitions: Transitions
    weights: Tensor
    where: Tensor | None = None

    def mean(self, losses: Tensor) -> Tensor:
        """Mean over the transitions by their weights: ``[..., B]`` -> ``[...]``."""
        return (losses if self.where is None else self.weights * losses).mean(-1)


class ReplayBlock:
    """Some updates and the steps that are made between them: an iterable of ``ReplayBatch``.

    Before each batch it lets the agent act, as it is by then. What came of that can be read
    afterwards.

    Args:
        num_updates: batches.
        act: makes the steps that come before a batch, given its number.
        draw: one batch.
        report: told errors of transitions, where there are priorities.
    """

    def __init__(
        self,
        num_updates: int,
        act: Callable[[int], Rollout | None],
        draw: Callable[[], ReplayBatch],
        report: Callable[[Tensor, Tensor], None],
    ) -> None:
        self.num_updates, self._act, self._draw, self._report = num_updates, act, draw, report
        self.rollouts: list[Rollout] = []

    def __len__(self) -> int:
        return self.num_updates

    def __iter__(self) -> Iterator[ReplayBatch]:
        for number in range(self.num_updates):
            if (rollout := self._act(number)) is not None:
                self.rollouts.append(rollout)
            yield self._draw()

    def report(self, batch: ReplayBatch, errors: Tensor) -> None:
        """Tell the memory how wrong the values of a batch were; for naught without priorities.

        Args:
            batch: the last one.
            errors: TD errors of either sign, ``[B]``; of K critics ``[K, B]``, whose mean counts.
        """
        if batch.where is not None:
            sizes = errors.detach().abs()
            self._report(batch.where, sizes.mean(0) if sizes.dim() == 2 else sizes)

    @property
    def observations(self) -> Tensor:
        """Of the steps that were made, ``[T + 1, N, *shape]``."""
        parts = [rollout.observations[:-1] for rollout in self.rollouts]
        return torch.cat([*parts, self.rollouts[-1].observations[-1:]])

    @property
    def recent_returns(self) -> Tensor:
        """Of the last 100 finished episodes ``[E]``, not discounted; fewer at first."""
        return self.rollouts[-1].recent_returns

    @property
    def env_steps(self) -> Tensor:
        """That all environments have made so far."""
        return self.rollouts[-1].env_steps


class EnvironmentReplay(DataModule):
    """Steps of gymnasium's environments by the agent that is trained, remembered and drawn again.

    Batch: a ``ReplayBlock`` in training: ``num_updates`` batches, drawn one after the other from
    what is remembered, and ``num_steps`` steps of each environment, spread evenly between them.
    With ten times as many of both the agent does the same and the trainer a tenth. ``Episodes`` in
    evaluation, one batch of ``num_val_episodes`` or ``num_test_episodes``, each of an environment
    of its own whose seed is the same in all runs, with deterministic actions.

    The agent acts by its ``explore(observations, progress)``; progress is the share of
    ``total_steps`` that is made. Transitions span ``agent.n_step`` rewards, discounted by
    ``agent.gamma``. With priorities the agent reports its errors to the block.

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
        num_steps: T, steps of each in a block.
        num_updates: U, batches of a block; the first is drawn after T / U steps.
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
        self._ones = torch.ones(batch_size)

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

    def _block(self) -> ReplayBlock:
        agent, collector, steps = agent_of(self, "act", "explore"), self._collector, self.num_steps
        trainer: Any = self.trainer
        before = max(0, collector.steps - self.random_steps)
        if (before + steps) * trainer.world_size >= self.num_blocks * steps:
            trainer.should_stop = True

        def act(number: int) -> Rollout | None:
            if missing := max(0, self.random_steps - collector.steps):
                self._remember(collector.collect(self._random_actions, missing))
            # At the latest with the first of several updates that share a step.
            done, until = (-(-n * steps // self.num_updates) for n in (number, number + 1))
            if done == until:
                return None
            explore = partial(agent.explore, progress=collector.steps / self.steps_each)
            rollout = collector.collect(explore, until - done, agent.device)
            self._remember(rollout)
            return rollout

        return ReplayBlock(
            self.num_updates, act, lambda: self._draw(agent.device), self._update_priorities
        )

    def _update_priorities(self, where: Tensor, errors: Tensor) -> None:
        self._memory.update(where, errors)

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

    def _draw(self, device: torch.device) -> ReplayBatch:
        memory, size = self._memory, self.batch_size
        if not len(memory):
            raise ValueError(
                f"learning_starts={self.random_steps * self.num_envs}: no transition is complete "
                f"by then, give more"
            )
        if self.priority is None:
            batch = ReplayBatch(memory.sample(size, self._generator), self._ones)
        else:
            beta = linear(self._collector.steps, start=BETA, end=1.0, num_steps=self.steps_each)
            drawn = memory.sample(size, beta, self._generator)
            batch = ReplayBatch(drawn.transitions, drawn.weights, drawn.where)
        if device.type == "cpu":
            return batch
        transitions = Transitions(*(field.to(device) for field in batch.transitions))
        return ReplayBatch(transitions, batch.weights.to(device), batch.where)

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
