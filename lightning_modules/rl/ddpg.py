"""Deep deterministic policy gradient: the action that a learnt value grows towards."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least_one, not_negative, positive, probability
from trellis.lightning_modules.engine.objective import Objective, frozen
from trellis.lightning_modules.rl.agent import Agent, end_step, one_step, scheduled, step
from trellis.lightning_modules.rl.off_policy import (
    BoundedPolicyFactory,
    StateActionValueFactory,
    build_critic,
    build_policy,
    critic_loss,
    disturbed,
    register_bounds,
)
from trellis.networks.rl.policy import DeterministicPolicy
from trellis.networks.rl.value import StateActionValue
from trellis.rl.replay import Transitions
from trellis.rl.target import frozen_copy, polyak_update_
from trellis.spec import EnvironmentSpec


class DDPG(Agent, Objective):
    r"""A critic learns the value of real-valued actions, a policy climbs it.

    .. math:: L_Q = \frac1B \sum_i w_i (Q(s, a) - y)^2, \quad y = r + \gamma^n Q'(s', \pi'(s')),
        \quad L_\pi = -\frac1B \sum_i Q(s, \pi(s))

    Q' and pi' follow Q and pi from behind. Where an episode terminated, y is r alone; a time
    limit keeps what would have followed.

    Batch: a ``ReplayBlock``; all its updates are counted as one: ``global_step``, ``max_steps``
    and schedules count blocks. With priorities in the data the weights w are those of its draws,
    and each transition's error is reported. The critic sees actions in the environment's units.

    Logged: ``train/return``, the mean of the last 100 finished episodes, and of the last update
    both losses. Evaluation: ``val/return`` and ``val/episode_length`` of whole episodes without
    noise.

    Args:
        policy: from the sizes of an environment to a network that acts.
        critic: from the sizes of an environment to the value of an action.
        optimizer: from the policy's parameters to an optimiser.
        critic_optimizer: from the critic's parameters to an optimiser.
        lr_scheduler: from an optimiser to a scheduler, one for each, stepped once a block.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        n_step: rewards of a target.
        tau: how far Q' and pi' go with each update, in [0, 1].
        noise: standard deviation of what exploration adds to actions, in halves of their range,
            as in TD3's and stable-baselines3's code: 1 is from the middle to a bound.
        max_grad_norm: gradients of each network are scaled down to this norm; ``None`` leaves
            them.
    Raises:
        ValueError: a number out of range, an environment whose actions are discrete or have no
            bounds, or clipping and accumulation by the trainer.

    Source: Lillicrap et al. 2016, algorithm 1. Deviates: the noise is Gaussian and without memory
    (Fujimoto et al. 2018, section 6); actions enter the critic's first layer.
    """

    policy: nn.Module
    critic: nn.Module
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        policy: BoundedPolicyFactory = DeterministicPolicy,
        critic: StateActionValueFactory = StateActionValue,
        optimizer: OptimizerCallable = torch.optim.Adam,
        critic_optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        gamma: float = 0.99,
        n_step: int = 1,
        tau: float = 0.005,
        noise: float = 0.1,
        max_grad_norm: float | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.n_step = probability("gamma", gamma), at_least_one("n_step", n_step)
        self.tau, self.noise = probability("tau", tau), not_negative("noise", noise)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.policy_factory, self.critic_factory = policy, critic
        self.critic_optimizer = critic_optimizer

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = build_policy(self, self.policy_factory, spec, draws=False)
        self.critic = build_critic(self, self.critic_factory, spec)
        self.target_policy = frozen_copy(self.policy)
        self.target_critic = frozen_copy(self.critic)
        register_bounds(self, spec)

    def configure_optimizers(self) -> Any:
        of_policy = self.optimizer(self.policy.parameters())
        return scheduled(self, [of_policy, self.critic_optimizer(self.critic.parameters())])

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``[B, A]`` for ``observation [B, *shape]``."""
        return self.policy(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``, as learnt or with noise."""
        actions = self.policy(observations)
        if deterministic:
            return actions
        return disturbed(actions, self.action_low, self.action_high, self.noise)

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions with noise for ``observations [N, *shape]``, however far the run is."""
        return self.act(observations)

    def training_step(self, block: Any, batch_idx: int) -> None:
        with one_step(self) as [optimizer, critic_optimizer]:
            for batch in block:
                targets = self._targets(batch.transitions)
                loss, errors = critic_loss([self.critic], batch, targets)
                step(self, critic_optimizer, loss)
                block.report(batch, errors)
                observations = batch.transitions.observations
                with frozen(self.critic):
                    policy_loss = -self.critic(observations, self.policy(observations)).mean()
                step(self, optimizer, policy_loss)
                polyak_update_(self.target_critic, self.critic, self.tau)
                polyak_update_(self.target_policy, self.policy, self.tau)
        end_step(self, block, critic_loss=loss, policy_loss=policy_loss)

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        after = transitions.next_observations
        return transitions.targets(self.target_critic(after, self.target_policy(after)))
