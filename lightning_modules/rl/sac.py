"""Soft actor-critic: return and entropy together, the price of chance learnt beside."""

import math
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least_one, positive, probability
from trellis.lightning_modules.engine.objective import Objective, frozen
from trellis.lightning_modules.rl.agent import Agent, end_step, one_step, scheduled, step
from trellis.lightning_modules.rl.off_policy import (
    BoundedPolicyFactory,
    StateActionValueFactory,
    build_critic,
    build_policy,
    critic_loss,
    least_value,
)
from trellis.networks.rl.policy import SquashedGaussianPolicy
from trellis.networks.rl.value import StateActionValue
from trellis.rl.replay import Transitions
from trellis.rl.target import frozen_copy, polyak_update_
from trellis.spec import EnvironmentSpec


class SAC(Agent, Objective):
    r"""Two critics learn the return with the entropy to come, a policy that draws climbs both.

    .. math:: L_Q = \sum_{k=1}^2 \frac1B \sum_i w_i (Q_k(s, a) - y)^2, \quad
        y = r + \gamma^n (\min_k Q'_k(s', a') - \alpha \ln \pi(a' \mid s'))

    .. math:: L_\pi = \frac1B \sum_i \alpha \ln \pi(\tilde a \mid s) - \min_k Q_k(s, \tilde a),
        \quad L_\alpha = -\ln \alpha \, (\ln \pi(\tilde a \mid s) + H)

    with a' and :math:`\tilde a` drawn from the policy. The temperature alpha falls while the
    entropy is above H and rises while it is below. Q' follows Q from behind. Where an episode
    terminated, y is r alone; a time limit keeps what would have followed.

    Densities are those of actions scaled to [-1, 1], whatever the environment's units are, in
    which the critics see them: so H means the same everywhere.

    Batch: a ``ReplayBlock``; all its updates are counted as one: ``global_step``, ``max_steps``
    and schedules count blocks. With priorities in the data the weights w are those of its draws,
    and each transition's error is reported.

    Logged: ``train/return``, the mean of the last 100 finished episodes, and of the last update
    the losses of critics and policy, the entropy and alpha. Evaluation: ``val/return`` and
    ``val/episode_length`` of whole episodes with the middle of the policy's actions.

    Args:
        policy: from the sizes of an environment to distributions over actions.
        critic: from the sizes of an environment to the value of an action; called twice.
        optimizer: from the policy's parameters to an optimiser.
        critic_optimizer: from the critics' parameters to an optimiser.
        alpha_optimizer: from the logarithm of alpha to an optimiser.
        lr_scheduler: from an optimiser to a scheduler, one for each, stepped once a block.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        n_step: rewards of a target.
        tau: how far Q' goes with each update, in [0, 1].
        alpha: kept at this; ``None`` learns it, from 1 on.
        target_entropy: H in nats, of actions in [-1, 1]; ``None`` is -1 for each entry.
        max_grad_norm: gradients of each network are scaled down to this norm; ``None`` leaves
            them.
    Raises:
        ValueError: a number out of range, an environment whose actions are discrete or have no
            bounds, or clipping and accumulation by the trainer.

    Source: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", algorithm 1.
    Deviates: the loss of alpha has its logarithm in place of it, as the authors' code; squared
    errors are not halved; of n steps, only the last one's entropy counts.
    """

    policy: nn.Module

    def __init__(
        self,
        policy: BoundedPolicyFactory = SquashedGaussianPolicy,
        critic: StateActionValueFactory = StateActionValue,
        optimizer: OptimizerCallable = torch.optim.Adam,
        critic_optimizer: OptimizerCallable = torch.optim.Adam,
        alpha_optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        gamma: float = 0.99,
        n_step: int = 1,
        tau: float = 0.005,
        alpha: float | None = None,
        target_entropy: float | None = None,
        max_grad_norm: float | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.n_step = probability("gamma", gamma), at_least_one("n_step", n_step)
        self.tau, self.alpha = probability("tau", tau), positive("alpha", alpha)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.policy_factory, self.critic_factory = policy, critic
        self.critic_optimizer, self.alpha_optimizer = critic_optimizer, alpha_optimizer
        self.given_entropy = target_entropy

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = build_policy(self, self.policy_factory, spec, draws=True)
        self.critics = nn.ModuleList(build_critic(self, self.critic_factory, spec) for _ in "12")
        self.target_critics = frozen_copy(self.critics)
        start = torch.tensor(math.log(self.alpha or 1.0))
        self.log_alpha = nn.Parameter(start, requires_grad=self.alpha is None)
        bounds = zip(spec.action_low, spec.action_high, strict=True)
        self.log_volume = sum(math.log((high - low) / 2) for low, high in bounds)
        given = self.given_entropy
        self.target_entropy = -float(len(spec.action_low)) if given is None else given

    def configure_optimizers(self) -> Any:
        optimizers = [
            self.optimizer(self.policy.parameters()),
            self.critic_optimizer(self.critics.parameters()),
        ]
        if self.alpha is None:
            optimizers.append(self.alpha_optimizer([self.log_alpha]))
        return scheduled(self, optimizers)

    def forward(self, observation: Tensor) -> Any:
        """The distribution over actions ``[B, A]`` for ``observation [B, *shape]``."""
        return self.policy(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``, drawn or the middle ones."""
        distribution = self.policy(observations)
        return distribution.mode if deterministic else distribution.sample()

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions drawn for ``observations [N, *shape]``, however far the run is."""
        return self.act(observations)

    def training_step(self, block: Any, batch_idx: int) -> None:
        with one_step(self) as [optimizer, critic_optimizer, *alpha_optimizer]:
            for batch in block:
                alpha = self.log_alpha.detach().exp()
                targets = self._targets(batch.transitions, alpha)
                loss, errors = critic_loss(self.critics, batch, targets)
                step(self, critic_optimizer, loss)
                block.report(batch, errors)
                observations = batch.transitions.observations
                policy_loss, entropy = self._policy_loss(observations, alpha)
                step(self, optimizer, policy_loss)
                for each in alpha_optimizer:
                    step(self, each, self.log_alpha * (entropy - self.target_entropy))
                polyak_update_(self.target_critics, self.critics, self.tau)
        values = {"critic_loss": loss, "policy_loss": policy_loss, "entropy": entropy}
        end_step(self, block, alpha=self.log_alpha.exp(), **values)

    @torch.no_grad()
    def _targets(self, transitions: Transitions, alpha: Tensor) -> Tensor:
        after = transitions.next_observations
        actions, log_prob = self._drawn(after)
        values = least_value(self.target_critics, after, actions)
        return transitions.targets(values - alpha * log_prob)

    def _policy_loss(self, observations: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        actions, log_prob = self._drawn(observations)
        with frozen(self.critics):
            values = least_value(self.critics, observations, actions)
        return (alpha * log_prob - values).mean(), -log_prob.detach().mean()

    def _drawn(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Actions, and the logarithms of their densities as if they lay in [-1, 1]."""
        actions, log_prob = self.policy(observations).rsample_with_log_prob()
        return actions, log_prob + self.log_volume
