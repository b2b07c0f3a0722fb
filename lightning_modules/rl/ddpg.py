"""Deep deterministic policy gradient: a policy that ascends the learned value of its actions."""

from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import not_negative
from trellis.lightning_modules.rl.off_policy import (
    BoundedPolicyFactory,
    ContinuousControlObjective,
)
from trellis.networks.rl.policy import DeterministicPolicy
from trellis.rl.replay import Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.target import PolyakUpdate, frozen_copy
from trellis.spec import EnvironmentSpec


class DDPG(ContinuousControlObjective):
    r"""A critic learns the value of real-valued actions, a deterministic policy maximises it.

    .. math:: L_Q = \frac1B \sum_i w_i (Q(s, a) - y)^2, \quad y = r + \gamma^n Q'(s', \pi'(s')),
        \quad L_\pi = -\frac1B \sum_i Q(s, \pi(s))

    Q' and pi' are target networks. Where an episode terminated, y is r alone; after a time limit
    the value is bootstrapped.

    Batch: as ``ContinuousControlObjective``. Logged and evaluated: as ``AgentObjective``, and both
    losses of the last update.

    Args:
        noise: standard deviation of the exploration noise, in halves of the actions' range, as in
            TD3's and stable-baselines3's code: 1 is from the middle to a bound.

    Source: Lillicrap et al. 2016, algorithm 1. Deviates: the noise is Gaussian and independent
    from step to step (Fujimoto et al. 2018, section 6); actions enter the critic's first layer.
    """

    critic: nn.Module

    def __init__(
        self,
        policy: BoundedPolicyFactory = DeterministicPolicy,
        *,
        noise: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(policy, **options)
        self.noise = not_negative("noise", noise)

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = self.build_policy(spec, stochastic=False)
        self.critic = self.build_critic(spec)
        self.target_policy = frozen_copy(self.policy)
        self.target_critic = frozen_copy(self.critic)

    def configure_optimizers(self) -> Any:
        of_policy = self.optimizer(self.policy.parameters())
        return self.scheduled([of_policy, self.critic_optimizer(self.critic.parameters())])

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: the policy's, with noise or without."""
        actions = self.policy(observations)
        return actions if deterministic else self.with_noise(actions, self.noise)

    def training_step(self, block: ReplayBlock, batch_idx: int) -> None:
        follow_critic = PolyakUpdate(self.target_critic, self.critic, self.tau)
        follow_policy = PolyakUpdate(self.target_policy, self.policy, self.tau)
        with self.one_step() as [optimizer, critic_optimizer]:
            for batch in block:
                loss = self.update_critics([self.critic], critic_optimizer, block, batch)
                observations = batch.transitions.observations
                losses = self.update_policy(self.critic, [optimizer], observations)
                follow_critic()
                follow_policy()
        self.end_step(block, critic_loss=loss, policy_loss=losses["loss"])

    def _policy_losses(self, observations: Tensor) -> dict[str, Tensor]:
        return {"loss": -self.critic(observations, self.policy(observations)).mean()}

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        observations = transitions.next_observations
        actions = self.target_policy(observations)
        return transitions.targets(self.target_critic(observations, actions))
