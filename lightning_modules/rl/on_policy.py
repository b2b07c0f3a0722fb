"""What agents share that learn from rollouts of their own policy with a learned value.

T counts steps, N environments, B steps that there is something to learn from.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Distribution

from trellis.checks import probability
from trellis.lightning_modules.rl.agent import AgentObjective, choose, observation_sizes
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.rl.returns import gae
from trellis.rl.reward_scale import RewardScale
from trellis.spec import EnvironmentSpec


class ActorCriticFactory(Protocol):
    """Builds a policy with a value from the sizes of an environment; called by keyword.

    The network has ``forward(observation) -> (distribution, value)``, ``policy(observation)`` and
    ``value(observation)``; a distribution has ``sample``, ``mode``, ``log_prob`` and
    ``entropy``. Either ``num_actions`` or ``action_dim`` is 0.
    """

    def __call__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int = 0,
        action_dim: int = 0,
        *,
        num_observations: int = 0,
    ) -> nn.Module: ...


class ActorCriticObjective(AgentObjective):
    """Base of the agents that learn a policy and a value from each rollout.

    A subclass defines ``training_step``. It reads, once a rollout, which steps only reset an
    environment: those are left out.

    Args:
        network: from the sizes of an environment to a policy with a value.
        lam: lambda of the advantages, in [0, 1].
    """

    learns_from = "rollouts"

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        lam: float = 0.95,
        **options: Any,
    ) -> None:
        super().__init__(optimizer, **options)
        self.network_factory, self.lam = network, probability("lam", lam)

    def build(self, spec: EnvironmentSpec) -> None:
        actions = {"num_actions": spec.num_actions, "action_dim": len(spec.action_low)}
        sizes = {**observation_sizes(spec), **actions}
        self.build_network(sizes, "observation")

    def forward(self, observation: Tensor) -> tuple[Distribution, Tensor]:
        """The distribution over actions and the value of ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: sampled, or the most probable."""
        return choose(self.network.policy(observations), deterministic)

    @abstractmethod
    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Learn from one rollout."""

    def values_and_advantages(self, rollout: Rollout, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the steps of a rollout and their generalised advantages, without gradients.

        Args:
            rollout: T steps of N environments.
            values: of the observations that the steps began with, ``[T * N]``.
        Returns:
            ``[T, N]`` each; their sum are the returns that the value learns from.
        """
        with torch.no_grad():
            values = values.detach().view(rollout.rewards.shape)
            last = self.network.value(rollout.observations[-1])
            advantages = gae(
                rollout.rewards,
                values,
                torch.cat([values[1:], last[None]]),
                rollout.terminated,
                rollout.truncated,
                self.gamma,
                self.lam,
            )
        return values, advantages

    def evaluate_rollout(self, rollout: Rollout) -> "Experience":
        """The steps of a rollout as the network that acted sees them, without gradients."""
        with torch.no_grad():
            distribution, values = self.network(rollout.observations[:-1].flatten(0, 1))
            log_prob = distribution.log_prob(rollout.actions.flatten(0, 1))
        values, advantages = self.values_and_advantages(rollout, values)
        fields = (advantages, advantages + values, values, log_prob.view_as(values))
        rows = steps_to_learn_from(rollout)
        steps = flatten_steps(rows, rollout.observations[:-1], rollout.actions, *fields)
        return Experience(*steps)

    def scale_rewards(self, rollout: Rollout) -> Rollout:
        """The rollout with rewards scaled by the network's ``RewardScale``, if it has one.

        Call it once a rollout: it updates the scale.
        """
        for part in self.network.modules():
            if isinstance(part, RewardScale):
                part.update(rollout.rewards, rollout.terminated | rollout.truncated, rollout.mask)
                rollout = rollout._replace(rewards=part(rollout.rewards))
        return rollout


class Experience(NamedTuple):
    """The steps of a rollout without those that only reset an environment.

    Args:
        observations: ``[B, *shape]``.
        actions: ``[B]`` or ``[B, A]``.
        advantages: ``[B]``.
        returns: targets of the values ``[B]``.
        values: by the network that acted ``[B]``.
        log_prob: of the actions, under the policy that acted ``[B]``; a sum over the entries of a
            real action.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    log_prob: Tensor

    def shuffled(self, parts: int) -> Iterator["Experience"]:
        """All steps in random order, in parts whose sizes differ by one at most."""
        order = torch.randperm(len(self.actions)).to(self.actions.device)
        fields = (field.index_select(0, order).tensor_split(parts) for field in self)
        return (Experience(*part) for part in zip(*fields, strict=True))


def steps_to_learn_from(rollout: Rollout) -> Tensor | None:
    """Their numbers ``[B]`` among all ``T * N``; ``None`` if those are all."""
    if bool(rollout.mask.all()):
        return None
    return rollout.mask.flatten().nonzero().squeeze(1)


def flatten_steps(rows: Tensor | None, *fields: Tensor) -> list[Tensor]:
    """The steps of a rollout in one dimension, without those that are not to be learned from.

    Shape:
        rows ``[B]``, fields ``[T, N, ...]`` -> ``[B, ...]`` each
    """
    flat = [field.flatten(0, 1) for field in fields]
    return flat if rows is None else [field.index_select(0, rows) for field in flat]
