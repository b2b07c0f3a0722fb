"""Experience for agents that learn from all they did: a replay buffer, filled as they act."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative, probability
from trellis.datamodules.rl.environment_data import EnvironmentData
from trellis.rl.collector import Rollout
from trellis.rl.n_step import NStepTransitions
from trellis.rl.prioritized_replay import PrioritizedReplay
from trellis.rl.replay import ReplayBatch, ReplayBuffer, Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.schedules import linear
from trellis.rl.spaces import bytes_to_float

BETA = 0.4  # how far importance weights correct the sampling at first; fully at the end


class EnvironmentReplay(EnvironmentData):
    """Samples from a replay buffer of steps in gymnasium's environments, by the trained agent.

    Batch: a ``ReplayBlock`` in training: ``num_updates`` batches, sampled one after the other from
    the buffer, and ``num_steps`` steps of each environment, spread evenly between them. With ten
    times as many of both the agent does the same and the trainer a tenth. ``Episodes`` in
    evaluation, one batch of ``num_val_episodes`` or ``num_test_episodes``, each of an environment
    of its own with the same seed in all runs, with deterministic actions. Observations of bytes
    are kept as bytes; batches, and the agent that acts, get the floats that they stand for.

    The agent acts by its ``explore(observations, progress)``; progress is the share of
    ``total_steps`` that is made. Transitions span ``agent.n_step`` rewards, discounted by
    ``agent.gamma``. With priorities the agent reports its TD errors to the block.

    Environments are stepped by their own vectorised implementation where that is faster. A run
    ends with ``total_steps``, whatever ``max_epochs`` is; validate in between with the trainer's
    ``val_check_interval``. Steps that only reset an environment count as steps.

    All of it is saved in the checkpoint: the buffer, the random states of actions and of samples,
    the states of the environments. A run on the CPU that was stopped between two blocks continues
    bit-equal; only environments whose state cannot be read (simulators written in C), and one
    that raised an error, begin new episodes instead.

    Args:
        num_updates: U, batches of a block; the first is sampled after T / U steps.
        total_steps: steps of all environments together, the first random ones among them.
        learning_starts: steps with random actions before the first block.
        capacity: transitions that the buffer holds.
        batch_size: B.
        priority: power of the TD errors that transitions are sampled in proportion to, in [0, 1];
            ``None`` samples uniformly.
        common: of ``EnvironmentData``.
    Raises:
        ValueError: a size below 1; ``total_steps`` that leave no block; in ``setup`` an unknown
            environment, with the nearest names, or an objective that does not learn from replay.

    Source: Mnih et al. 2015; Schaul et al. 2016 (priorities).
    """

    provides = "replay"

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
        **common: Any,
    ) -> None:
        super().__init__(environment, num_envs, num_steps, **common)
        self.num_updates = at_least_one("num_updates", num_updates)
        self.capacity = at_least_one("capacity", capacity)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.priority = None if priority is None else probability("priority", priority)
        not_negative("learning_starts", learning_starts)
        # Of each environment, before the first block.
        self.random_steps = -(-learning_starts // num_envs)
        self.num_batches = (total_steps // num_envs - self.random_steps) // num_steps
        if self.num_batches < 1:
            raise ValueError(
                f"total_steps={total_steps}: learning_starts={learning_starts} and the "
                f"num_envs * num_steps = {num_envs * num_steps} of one block are more"
            )
        self._ones = torch.ones(batch_size)

    @property
    def steps_each(self) -> int:
        """Steps that each environment makes in the whole run."""
        return self.random_steps + self.num_batches * self.num_steps

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if stage not in (None, "fit"):
            return
        buffer = ReplayBuffer(
            self.capacity,
            self.spec.observation_shape,
            () if self.spec.num_actions else (len(self.spec.action_low),),
            observation_dtype=self.collector.observation_dtype,
        )
        self._buffer: Any = buffer
        if self.priority is not None:
            self._buffer = PrioritizedReplay(buffer, self.priority)
        self._n_step: NStepTransitions | None = None
        seeds = np.random.SeedSequence(self.collector.seed).spawn(1)[0].generate_state(1)
        self._generator = torch.Generator().manual_seed(int(seeds[0]))

    def next_batch(self) -> ReplayBlock:
        return ReplayBlock(self.num_updates, self._collect, self._sample, self._update_priorities)

    def _collect(self, number: int) -> Rollout | None:
        """Make the steps that come before one batch of a block, and store them."""
        agent, collector = self.agent, self.collector
        if missing := max(0, self.random_steps - collector.steps):
            self._store(collector.collect(self._random_actions, missing))
        # Rounded up: where several updates share a step, it comes before the first of them.
        start, end = (-(-n * self.num_steps // self.num_updates) for n in (number, number + 1))
        if start == end:
            return None
        progress = collector.steps / self.steps_each
        rollout = collector.collect(
            lambda observations: agent.explore(self.as_seen(observations), progress=progress),
            end - start,
            agent.device,
        )
        self._store(rollout)
        return rollout

    def _random_actions(self, observations: Tensor) -> Tensor:
        count = len(observations)
        if self.spec.num_actions:
            return torch.randint(self.spec.num_actions, (count,))
        low, high = torch.tensor(self.spec.action_low), torch.tensor(self.spec.action_high)
        return low + (high - low) * torch.rand(count, len(low))

    def _n_step_transitions(self) -> NStepTransitions:
        """Made when first needed: outside of a run, ``setup`` knows no agent."""
        if self._n_step is None:
            self._n_step = NStepTransitions(self.agent.n_step, self.agent.gamma)
        return self._n_step

    def _store(self, rollout: Rollout) -> None:
        fields = (
            rollout.observations[:-1],
            rollout.actions,
            rollout.rewards,
            rollout.observations[1:],
            rollout.terminated,
            rollout.truncated,
            rollout.mask,
        )
        transitions = self._n_step_transitions()
        if transitions.n == 1:
            new = transitions.push(*(field.flatten(0, 1) for field in fields))
        else:
            complete = [transitions.push(*step) for step in zip(*fields, strict=True)]
            new = Transitions(*(torch.cat(parts) for parts in zip(*complete, strict=True)))
        self._buffer.add(Transitions(*(field[-self.capacity :] for field in new)))

    def _sample(self) -> ReplayBatch:
        buffer, size, device = self._buffer, self.batch_size, self.agent.device
        if not len(buffer):
            raise ValueError(
                f"learning_starts={self.random_steps * self.num_envs}: no transition is complete "
                f"by then, give more"
            )
        if self.priority is None:
            batch = ReplayBatch(buffer.sample(size, self._generator), self._ones)
        else:
            beta = linear(self.collector.steps, start=BETA, end=1.0, num_steps=self.steps_each)
            batch = buffer.sample(size, beta, self._generator)
        transitions, weights = batch.transitions, batch.weights
        if device.type != "cpu":
            transitions = Transitions(*(field.to(device) for field in transitions))
            weights = weights.to(device)
        if transitions.observations.dtype == torch.uint8:  # as they are kept
            seen, shape = transitions, self.spec.observation_shape
            transitions = transitions._replace(
                observations=bytes_to_float(seen.observations, shape),
                next_observations=bytes_to_float(seen.next_observations, shape),
            )
        return batch._replace(transitions=transitions, weights=weights)

    def _update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        self._buffer.update(indices, errors)

    def own_state(self) -> dict[str, Any]:
        if self._collector is None:
            return {}
        return {
            "collector": self._collector.state_dict(),
            "memory": self._buffer.state_dict(),
            "unfinished": None if self._n_step is None else self._n_step.state_dict(),
            "draws": self._generator.get_state(),
        }

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        continues = self.restore(state["collector"])
        self._buffer.load_state_dict(state["memory"])
        self._generator.set_state(state["draws"])
        # Transitions that wait for more rewards are dropped where the episodes do not continue.
        if continues and state["unfinished"] is not None:
            self._n_step_transitions().load_state_dict(state["unfinished"])
