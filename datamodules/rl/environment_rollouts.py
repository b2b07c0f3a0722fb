"""Experience for agents that learn from what they do now: rollouts of the current policy."""

from collections.abc import Mapping
from typing import Any

from trellis.checks import at_least
from trellis.datamodules.rl.environment_data import EnvironmentData
from trellis.rl.collector import Rollout
from trellis.rl.spaces import bytes_to_float


class EnvironmentRollouts(EnvironmentData):
    """Rollouts of gymnasium's environments by the agent that is trained.

    Batch: a ``Rollout`` in training, collected when the trainer asks for it, with the agent's
    ``act``; ``Episodes`` in evaluation, one batch of ``num_val_episodes`` or
    ``num_test_episodes``, each of an environment of its own with the same seed in all runs, with
    deterministic actions. Of observations of bytes, batches and the agent that acts get the floats
    that they stand for.

    Environments are stepped by their own vectorised implementation where that is faster. A run
    ends with ``total_steps``, whatever ``max_epochs`` is; validate in between with the trainer's
    ``val_check_interval``. Steps that only reset an environment count as steps.

    Actions are sampled from a random stream of their own. It is saved in the checkpoint, as are
    the states of the environments, their current observations and the returns so far: a run on
    the CPU that was stopped between two batches continues bit-equal. Environments whose state
    cannot be read (simulators written in C), one that raised an error, and those of other
    processes than the first begin new episodes instead.

    Args:
        total_steps: steps of all environments together, in all rollouts.
        common: of ``EnvironmentData``.
    Raises:
        ValueError: a size below 1; fewer ``total_steps`` than one rollout has; in ``setup`` an
            unknown environment, with the nearest names, or an objective that does not learn from
            rollouts.
    """

    provides = "rollouts"

    def __init__(
        self,
        environment: str = "CartPole-v1",
        num_envs: int = 4,
        num_steps: int = 128,
        total_steps: int = 500_000,
        **common: Any,
    ) -> None:
        super().__init__(environment, num_envs, num_steps, **common)
        rollout = num_envs * num_steps
        at_least(rollout, "total_steps", total_steps, ", num_envs * num_steps of one rollout")
        self.num_batches = total_steps // rollout

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not isinstance(batch, Rollout):
            return batch
        seen = bytes_to_float(batch.observations, self.spec.observation_shape)
        return batch._replace(observations=seen)

    def next_batch(self) -> Rollout:
        agent = self.agent
        return self.collector.collect(
            lambda observations: agent.act(self.as_seen(observations)),
            self.num_steps,
            agent.device,
        )

    def own_state(self) -> dict[str, Any]:
        return {} if self._collector is None else self._collector.state_dict()

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self.restore(state)
