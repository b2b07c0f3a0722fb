"""Soft actor-critic: maximises return and entropy, with a learned entropy temperature."""

import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from trellis.checks import positive
from trellis.lightning_modules.rl.agent import choose
from trellis.lightning_modules.rl.off_policy import (
    BoundedPolicyFactory,
    ContinuousControlObjective,
    minimum_value,
)
from trellis.networks.rl.policy import SquashedGaussianPolicy
from trellis.rl.replay import Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.target import PolyakUpdate, frozen_copy
from trellis.spec import EnvironmentSpec


class SAC(ContinuousControlObjective):
    r"""Two critics learn the soft value of actions, a stochastic policy maximises the lesser one.

    .. math:: L_Q = \sum_{k=1}^2 \frac1B \sum_i w_i (Q_k(s, a) - y)^2, \quad
        y = r + \gamma^n (\min_k Q'_k(s', a') - \alpha \ln \pi(a' \mid s'))

    .. math:: L_\pi = \frac1B \sum_i \alpha \ln \pi(\tilde a \mid s) - \min_k Q_k(s, \tilde a),
        \quad L_\alpha = -\ln \alpha \, (\ln \pi(\tilde a \mid s) + H)

    with a' and :math:`\tilde a` sampled from the policy. The temperature alpha falls while the
    entropy is above H and rises while it is below. Q' are target networks. Where an episode
    terminated, y is r alone; after a time limit the value is bootstrapped.

    Densities are those of actions scaled to [-1, 1], so that H means the same in every
    environment.

    Batch: as ``ContinuousControlObjective``. Logged and evaluated: as ``AgentObjective``, and of
    the last update the losses of critics and policy, the entropy and alpha. Deterministic actions
    are the mode of the policy.

    Args:
        policy: from the sizes of an environment to distributions over actions.
        alpha_optimizer: from the logarithm of alpha to an optimiser.
        alpha: a constant entropy temperature; ``None`` learns it, starting from 1.
        target_entropy: H in nats, of actions in [-1, 1]; ``None`` is -1 for each entry.

    Source: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", algorithm 1.
    Deviates: the loss of alpha has its logarithm in place of it, as the authors' code; squared
    errors are not halved; with n steps, only the last one's entropy counts.
    """

    def __init__(
        self,
        policy: BoundedPolicyFactory = SquashedGaussianPolicy,
        *,
        alpha_optimizer: OptimizerCallable = torch.optim.Adam,
        alpha: float | None = None,
        target_entropy: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(policy, **options)
        self.alpha = positive("alpha", alpha)
        self.alpha_optimizer = alpha_optimizer
        self._given_target_entropy = target_entropy

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = self.build_policy(spec, stochastic=True)
        self.critics = nn.ModuleList(self.build_critic(spec) for _ in range(2))
        self.target_critics = frozen_copy(self.critics)
        start = torch.tensor(math.log(self.alpha or 1.0))
        self.log_alpha = nn.Parameter(start, requires_grad=self.alpha is None)
        bounds = zip(spec.action_low, spec.action_high, strict=True)
        self.log_volume = sum(math.log((high - low) / 2) for low, high in bounds)
        given = self._given_target_entropy
        self.target_entropy = -float(len(spec.action_low)) if given is None else given

    def configure_optimizers(self) -> Any:
        optimizers = [
            self.optimizer(self.policy.parameters()),
            self.critic_optimizer(self.critics.parameters()),
        ]
        if self.alpha is None:
            optimizers.append(self.alpha_optimizer([self.log_alpha]))
        return self.scheduled(optimizers)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: sampled, or the mode."""
        return choose(self.policy(observations), deterministic)

    def training_step(self, block: ReplayBlock, batch_idx: int) -> None:
        follow = PolyakUpdate(self.target_critics, self.critics, self.tau)
        with self.one_step() as [optimizer, critic_optimizer, *of_alpha]:
            for batch in block:
                alpha = self.log_alpha.detach().exp()
                loss = self.update_critics(self.critics, critic_optimizer, block, batch, alpha)
                inputs = batch.transitions.observations, alpha
                losses = self.update_policy(self.critics, [optimizer, *of_alpha], *inputs)
                follow()
        values = {name: losses[name] for name in ("policy_loss", "entropy")}
        self.end_step(block, alpha=self.log_alpha.exp(), critic_loss=loss, **values)

    @torch.no_grad()
    def _targets(self, transitions: Transitions, alpha: Tensor) -> Tensor:
        observations = transitions.next_observations
        actions, log_prob = self._sample(observations)
        values = minimum_value(self.target_critics, observations, actions)
        return transitions.targets(values - alpha * log_prob)

    def _policy_losses(self, observations: Tensor, alpha: Tensor) -> dict[str, Tensor]:
        actions, log_prob = self._sample(observations)
        values = minimum_value(self.critics, observations, actions)
        policy_loss, entropy = (alpha * log_prob - values).mean(), -log_prob.mean()
        # Temperature and policy share no gradient: one backward pass serves both.
        excess = entropy.detach() - self.target_entropy
        loss = policy_loss + self.log_alpha * excess
        return {"loss": loss, "policy_loss": policy_loss, "entropy": entropy}

    def _sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Actions, and the logarithms of their densities when scaled to [-1, 1]."""
        actions, log_prob = self.policy(observations).rsample_with_log_prob()
        return actions, log_prob + self.log_volume
