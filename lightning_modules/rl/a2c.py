"""Advantage actor-critic: one step for each rollout, along advantages of a learnt value."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from trellis.checks import not_negative, positive, probability
from trellis.lightning_modules.engine.objective import Objective, build_network
from trellis.lightning_modules.rl.agent import (
    Agent,
    choose,
    end_step,
    one_step,
    scheduled,
    sizes,
    step,
)
from trellis.lightning_modules.rl.on_policy import ActorCriticFactory, scale_rewards
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.policy_gradient import policy_gradient_loss, standardized
from trellis.rl.returns import gae
from trellis.spec import EnvironmentSpec


class A2C(Agent, Objective):
    r"""A policy follows the advantages that its value sees; the value follows the returns.

    .. math:: L = -\frac1B \sum_i A_i \log \pi(a_i \mid s_i)
        + \frac{c_v}{2B} \sum_i (V(s_i) - G_i)^2 - c_e H(\pi)

    Batch: a ``Rollout``, short ones mostly; each is one step. A last step that was broken off by
    a time limit, or by the end of the rollout, counts with the value of what followed. A
    scheduler is stepped once a rollout.

    Logged: ``train/return``, the mean of the last 100 finished episodes; the loss and its parts.
    Evaluation: ``val/return`` and ``val/episode_length`` of whole episodes with deterministic
    actions.

    Args:
        network: from the sizes of an environment to a policy with a value.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once a rollout.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        lam: lambda of the advantages; 1 takes all rewards of the rollout.
        value_coef: weight of half the squared error of the value.
        entropy_coef: weight of the policy's entropy, in nats.
        max_grad_norm: gradients are scaled down to this norm; ``None`` leaves them.
        standardize: advantages have mean 0 and deviation 1 in each rollout.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer.

    Source: Mnih et al. 2016, algorithm S3, all environments in step.
    """

    network: Any  # with policy and value, which nn.Module does not declare

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.RMSprop,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        gamma: float = 0.99,
        lam: float = 1.0,
        value_coef: float = 0.5,
        entropy_coef: float = 0.01,
        max_grad_norm: float | None = 0.5,
        standardize: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.lam = probability("gamma", gamma), probability("lam", lam)
        self.value_coef = not_negative("value_coef", value_coef)
        self.entropy_coef = not_negative("entropy_coef", entropy_coef)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.network_factory, self.standardize = network, standardize

    def build(self, spec: EnvironmentSpec) -> None:
        self.network = build_network(
            self.network_factory, sizes(spec), "observation", objective=self
        )

    def configure_optimizers(self) -> Any:
        return scheduled(self, [self.optimizer(self.network.parameters())])

    def forward(self, observation: Tensor) -> Any:
        """The distribution over actions and the value of ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``, drawn or the most probable."""
        return choose(self.network.policy(observations), deterministic)

    def training_step(self, rollout: Any, batch_idx: int) -> None:
        if not bool(rollout.mask.any()):  # all environments began new episodes
            return
        losses = self._losses(scale_rewards(self.network, rollout))
        with one_step(self) as [optimizer]:
            step(self, optimizer, losses["loss"])
        end_step(self, rollout, **losses)

    def _losses(self, rollout: Any) -> dict[str, Tensor]:
        distribution, values = self.network(rollout.observations[:-1].flatten(0, 1))
        log_prob = distribution.log_prob(rollout.actions.flatten(0, 1))
        with torch.no_grad():
            last = self.network.value(rollout.observations[-1])
            now = values.detach().view(rollout.rewards.shape)
            advantages = gae(
                rollout.rewards,
                now,
                torch.cat([now[1:], last[None]]),
                rollout.terminated,
                rollout.truncated,
                self.gamma,
                self.lam,
            ).flatten()
        returns = advantages + values.detach()
        with torch.set_grad_enabled(self.entropy_coef > 0):
            entropies = distribution.entropy()
        steps = [log_prob, entropies, values, advantages, returns]
        if not bool(rollout.mask.all()):
            keep = rollout.mask.flatten().nonzero().squeeze(1)
            steps = [each.index_select(0, keep) for each in steps]
        log_prob, entropies, values, advantages, returns = steps
        if self.standardize:
            advantages = standardized(advantages)
        policy = policy_gradient_loss(log_prob, advantages)
        value = F.mse_loss(values, returns) / 2
        entropy = entropies.mean()
        return {
            "loss": policy + self.value_coef * value - self.entropy_coef * entropy,
            "policy_loss": policy,
            "value_loss": value,
            "entropy": entropy,
        }
