"""Proximal policy optimisation: several epochs over each rollout, with a clipped objective."""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from trellis.checks import at_least_one, not_negative, positive
from trellis.lightning_modules.rl.on_policy import (
    ActorCriticFactory,
    ActorCriticObjective,
    Experience,
)
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.rl.policy_gradient import (
    clipped_surrogate_loss,
    clipped_value_loss,
    standardized,
)


class PPO(ActorCriticObjective):
    r"""A policy and its value learn from each rollout in several epochs of minibatches.

    .. math:: L = L_\text{clip}(\pi) + c_v L(V) - c_e H(\pi)

    Batch: a ``Rollout``, whose updates count as one step. Advantages are estimated by the network
    that acted and scaled to mean 0 and standard deviation 1 in each minibatch; where an episode
    is truncated by a time limit, or by the end of the rollout, the value of the next observation
    is bootstrapped. A ``Schedule`` with linear decay anneals the learning rate to 0 over the run.
    A ``RunningScale`` as the network's ``trunk`` normalises observations, a ``RewardScale`` as
    its ``reward_scale`` scales rewards.

    Logged and evaluated: as ``AgentObjective``, and the loss and its parts, ``train/kl`` of the
    last minibatch (of the old policy from the new, estimated as rho - 1 - log rho) and the share
    of ratios there that are ``train/clipped``.

    Args:
        num_epochs: passes over a rollout.
        num_minibatches: parts of a pass, shuffled for each.
        clip: epsilon, how far from 1 the ratio of probabilities is rewarded.
        value_clip: largest change of a value that is rewarded; ``None`` does not clip.
        value_coef: weight of the value's loss.
        entropy_coef: weight of the policy's entropy, in nats.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer.

    Source: Schulman et al. 2017; details as CleanRL (Huang et al. 2022, "The 37 implementation
    details of PPO", 1 to 11). Deviates: after a time limit the value is bootstrapped.
    """

    differentiated = ("_losses",)
    network: Any  # with policy and value, which nn.Module does not declare

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        num_epochs: int = 4,
        num_minibatches: int = 4,
        clip: float = 0.2,
        value_clip: float | None = 0.2,
        value_coef: float = 0.5,
        entropy_coef: float = 0.01,
        max_grad_norm: float | None = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(network, optimizer, max_grad_norm=max_grad_norm, **options)
        self.num_epochs = at_least_one("num_epochs", num_epochs)
        self.num_minibatches = at_least_one("num_minibatches", num_minibatches)
        self.value_coef = not_negative("value_coef", value_coef)
        self.entropy_coef = not_negative("entropy_coef", entropy_coef)
        self.clip, self.value_clip = positive("clip", clip), positive("value_clip", value_clip)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        rollout = self.scale_rewards(rollout)
        experience = self.evaluate_rollout(rollout)
        if len(experience.actions) == 0:  # all environments were only reset
            return
        parts = min(self.num_minibatches, len(experience.actions))
        with self.one_step() as optimizers:
            for _ in range(self.num_epochs):
                for minibatch in experience.shuffled(parts):
                    losses = self.descend(optimizers, self._losses, minibatch)
        change = self._policy_change(losses.pop("log_prob"), minibatch.log_prob)
        self.end_step(rollout, **losses, **change)

    def _losses(self, minibatch: Experience) -> dict[str, Tensor]:
        distribution, values = self.network(minibatch.observations)
        log_prob = distribution.log_prob(minibatch.actions)
        advantages = standardized(minibatch.advantages)
        policy_loss = clipped_surrogate_loss(log_prob, minibatch.log_prob, advantages, self.clip)
        limit = float("inf") if self.value_clip is None else self.value_clip
        value_loss = clipped_value_loss(values, minibatch.values, minibatch.returns, limit)
        entropy = distribution.entropy().mean()
        return {
            "loss": policy_loss + self.value_coef * value_loss - self.entropy_coef * entropy,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "log_prob": log_prob,
        }

    def _policy_change(self, log_prob: Tensor, old_log_prob: Tensor) -> dict[str, Tensor]:
        """How far the policy is from the one that acted."""
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        return {
            "kl": (ratio - 1 - log_ratio).mean(),
            "clipped": ((ratio - 1).abs() > self.clip).float().mean(),
        }
