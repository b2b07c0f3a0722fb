"""What objectives share that learn from rollouts of their own policy, each used once."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trellis.rl.returns import gae
from trellis.rl.reward_scale import RewardScale


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


class Experience(NamedTuple):
    """The steps of a rollout that there is something to learn from, in one row.

    Args:
        observations: ``[B, *shape]``.
        actions: ``[B]`` or ``[B, A]``.
        advantages: ``[B]``.
        returns: targets of the values ``[B]``.
        values: when they were taken ``[B]``.
        log_prob: of the actions when they were taken ``[B]``; a sum over the entries of a real
            action.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    log_prob: Tensor

    def shuffled(self, parts: int) -> Iterator["Experience"]:
        """All steps in another order, in parts whose sizes differ by one at most."""
        order = torch.randperm(len(self.actions)).to(self.actions.device)
        fields = (field.index_select(0, order).tensor_split(parts) for field in self)
        return (Experience(*part) for part in zip(*fields, strict=True))


def flat(rollout: Any, *others: Tensor) -> Experience:
    """The steps of ``rollout`` and of tensors ``[T, N]`` beside it that are no steps of reset.

    Args:
        rollout: of the data module.
        others: advantages, returns, values and log_prob.
    """
    steps = [rollout.observations[:-1], rollout.actions, *others]
    keep = rollout.mask.flatten().nonzero().squeeze(1)
    if len(keep) == rollout.mask.numel():
        return Experience(*(field.flatten(0, 1) for field in steps))
    return Experience(*(field.flatten(0, 1).index_select(0, keep) for field in steps))


def judge(network: nn.Module, rollout: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What the network that acted says of the steps of a rollout, without gradients.

    Returns:
        values ``[T, N]``, values of what followed ``[T, N]``, log_prob of the actions ``[T, N]``.
    """
    steps, width = rollout.rewards.shape
    with torch.no_grad():
        distribution, values = network(rollout.observations[:-1].flatten(0, 1))
        log_prob = distribution.log_prob(rollout.actions.flatten(0, 1)).view(steps, width)
        values = values.view(steps, width)
        last = network.value(rollout.observations[-1])  # type: ignore[operator]
    return values, torch.cat([values[1:], last[None]]), log_prob


def scale_rewards(network: nn.Module, rollout: Any) -> Any:
    """The rollout with rewards as the network's ``RewardScale`` has them, if it has one.

    Called once a rollout, which it counts.
    """
    for part in network.modules():
        if isinstance(part, RewardScale):
            part.update(rollout.rewards, rollout.terminated | rollout.truncated, rollout.mask)
            rollout = rollout._replace(rewards=part(rollout.rewards))
    return rollout


def experience(network: nn.Module, rollout: Any, gamma: float, lam: float) -> Experience:
    """The steps of a rollout with their advantages, by the network that acted.

    Args:
        network: with a policy and a value.
        rollout: of the data module.
        gamma: discount per step, in [0, 1].
        lam: lambda of the advantages, in [0, 1].
    """
    values, next_values, log_prob = judge(network, rollout)
    advantages = gae(
        rollout.rewards, values, next_values, rollout.terminated, rollout.truncated, gamma, lam
    )
    return flat(rollout, advantages, advantages + values, values, log_prob)
