"""Twin delayed deep deterministic policy gradient: DDPG against overestimated values."""

from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, not_negative, positive
from trellis.lightning_modules.rl.off_policy import (
    BoundedPolicyFactory,
    ContinuousControlObjective,
    minimum_value,
)
from trellis.networks.rl.policy import DeterministicPolicy
from trellis.rl.replay import Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.target import PolyakUpdate, frozen_copy
from trellis.spec import EnvironmentSpec


class TD3(ContinuousControlObjective):
    r"""Targets from the lesser of two critics, for an action near that of the target policy.

    .. math:: L_Q = \sum_{k=1}^2 \frac1B \sum_i w_i (Q_k(s, a) - y)^2, \quad
        y = r + \gamma^n \min_k Q'_k(s', \tilde a), \quad
        L_\pi = -\frac1B \sum_i Q_1(s, \pi(s))

    with the action :math:`\tilde a` of pi' under clipped noise, itself clipped to the bounds. Q'
    and pi' are target networks; they and the policy are updated in every ``policy_delay``-th
    update of the critics, starting with the first. Where an episode terminated, y is r alone;
    after a time limit the value is bootstrapped.

    Batch: as ``ContinuousControlObjective``. Logged and evaluated: as ``AgentObjective``, and the
    last losses of critics and policy.

    Args:
        noise: standard deviation of the exploration noise. All noise is measured in halves of the
            actions' range, as in the authors' and stable-baselines3's code: 1 is from the middle
            to a bound.
        target_noise: standard deviation of the noise on the actions of pi'.
        target_noise_clip: its largest size.
        policy_delay: updates of the critics for each of the policy.

    Source: Fujimoto et al. 2018, algorithm 1.
    """

    def __init__(
        self,
        policy: BoundedPolicyFactory = DeterministicPolicy,
        *,
        noise: float = 0.1,
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        policy_delay: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(policy, **options)
        self.noise = not_negative("noise", noise)
        self.target_noise = not_negative("target_noise", target_noise)
        self.target_noise_clip = positive("target_noise_clip", target_noise_clip)
        self.policy_delay = at_least_one("policy_delay", policy_delay)
        self._policy_loss: dict[str, Tensor] = {}  # the last one, for blocks without an update

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = self.build_policy(spec, stochastic=False)
        self.critics = nn.ModuleList(self.build_critic(spec) for _ in range(2))
        self.target_policy = frozen_copy(self.policy)
        self.target_critics = frozen_copy(self.critics)

    def configure_optimizers(self) -> Any:
        of_policy = self.optimizer(self.policy.parameters())
        return self.scheduled([of_policy, self.critic_optimizer(self.critics.parameters())])

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: the policy's, with noise or without."""
        actions = self.policy(observations)
        return actions if deterministic else self.with_noise(actions, self.noise)

    def training_step(self, block: ReplayBlock, batch_idx: int) -> None:
        follow_critics = PolyakUpdate(self.target_critics, self.critics, self.tau)
        follow_policy = PolyakUpdate(self.target_policy, self.policy, self.tau)
        with self.one_step() as [optimizer, critic_optimizer]:
            for number, batch in enumerate(block):
                loss = self.update_critics(self.critics, critic_optimizer, block, batch)
                if (self.global_step * len(block) + number) % self.policy_delay == 0:
                    observations = batch.transitions.observations
                    losses = self.update_policy(self.critics, [optimizer], observations)
                    self._policy_loss["policy_loss"] = losses["loss"]
                    follow_critics()
                    follow_policy()
        self.end_step(block, critic_loss=loss, **self._policy_loss)

    def _policy_losses(self, observations: Tensor) -> dict[str, Tensor]:
        return {"loss": -self.critics[0](observations, self.policy(observations)).mean()}

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        observations = transitions.next_observations
        actions = self.target_policy(observations)
        actions = self.with_noise(actions, self.target_noise, self.target_noise_clip)
        return transitions.targets(minimum_value(self.target_critics, observations, actions))
