"""Advantage actor-critic: one step for each rollout, along advantages from a learned value."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from trellis.checks import not_negative
from trellis.lightning_modules.rl.on_policy import (
    ActorCriticFactory,
    ActorCriticObjective,
    flatten_steps,
    steps_to_learn_from,
)
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.collector import Rollout
from trellis.rl.policy_gradient import policy_gradient_loss, standardized


class A2C(ActorCriticObjective):
    r"""The policy gradient with advantages from a value that is learned beside the policy.

    .. math:: L = -\frac1B \sum_i A_i \log \pi(a_i \mid s_i)
        + \frac{c_v}{2B} \sum_i (V(s_i) - G_i)^2 - c_e H(\pi)

    Batch: a ``Rollout``, mostly a short one; each is one step. Where an episode is truncated by a
    time limit, or by the end of the rollout, the value of the next observation is bootstrapped.

    Logged and evaluated: as ``AgentObjective``, and the loss and its parts.

    Args:
        lam: lambda of the advantages; 1 takes all rewards of the rollout.
        value_coef: weight of half the squared error of the value.
        entropy_coef: weight of the policy's entropy, in nats.
        standardize: scale the advantages of each rollout to mean 0 and standard deviation 1.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer.

    Source: Mnih et al. 2016, algorithm S3, with synchronous environments.
    """

    differentiated = ("_losses",)

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.RMSprop,
        *,
        lam: float = 1.0,
        value_coef: float = 0.5,
        entropy_coef: float = 0.01,
        max_grad_norm: float | None = 0.5,
        standardize: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(network, optimizer, lam=lam, max_grad_norm=max_grad_norm, **options)
        self.value_coef = not_negative("value_coef", value_coef)
        self.entropy_coef = not_negative("entropy_coef", entropy_coef)
        # A flag: of two coefficients torch.compile makes a symbol, which cannot switch gradients.
        self.learns_entropy = entropy_coef > 0
        self.standardize = standardize

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        if not bool(rollout.mask.any()):  # all environments were only reset
            return
        rollout, rows = self.scale_rewards(rollout), steps_to_learn_from(rollout)
        with self.one_step() as optimizers:
            losses = self.descend(optimizers, self._losses, rollout, rows)
        self.end_step(rollout, **losses)

    def _losses(self, rollout: Rollout, rows: Tensor | None) -> dict[str, Tensor]:
        shape = rollout.rewards.shape
        distribution, values = self.network(rollout.observations[:-1].flatten(0, 1))
        log_prob = distribution.log_prob(rollout.actions.flatten(0, 1))
        with torch.set_grad_enabled(self.learns_entropy):
            entropy = distribution.entropy()
        old_values, advantages = self.values_and_advantages(rollout, values)
        log_prob, entropy, values, advantages, returns = flatten_steps(
            rows,
            log_prob.view(shape),
            entropy.view(shape),
            values.view(shape),
            advantages,
            advantages + old_values,
        )
        if self.standardize:
            advantages = standardized(advantages)
        policy_loss = policy_gradient_loss(log_prob, advantages)
        value_loss = F.mse_loss(values, returns) / 2
        mean_entropy = entropy.mean()
        return {
            "loss": policy_loss + self.value_coef * value_loss - self.entropy_coef * mean_entropy,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": mean_entropy,
        }
