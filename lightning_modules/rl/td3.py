"""Twin delayed deep deterministic policy gradient: DDPG that distrusts its critics."""

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
    least_value,
    register_bounds,
)
from trellis.networks.rl.policy import DeterministicPolicy
from trellis.networks.rl.value import StateActionValue
from trellis.rl.replay import Transitions
from trellis.rl.target import frozen_copy, polyak_update_
from trellis.spec import EnvironmentSpec


class TD3(Agent, Objective):
    r"""The lesser of two critics, for an action near the policy's, is what the next step is worth.

    .. math:: L_Q = \sum_{k=1}^2 \frac1B \sum_i w_i (Q_k(s, a) - y)^2, \quad
        y = r + \gamma^n \min_k Q'_k(s', \tilde a), \quad
        L_\pi = -\frac1B \sum_i Q_1(s, \pi(s))

    with the action :math:`\tilde a` of pi' under noise that is clipped, and cut to its bounds.
    The policy learns, and Q' and pi' follow, in every ``policy_delay``-th update alone, the first
    among them. Where an episode terminated, y is r alone; a time limit keeps what would have
    followed.

    Batch: a ``ReplayBlock``; all its updates are counted as one: ``global_step``, ``max_steps``
    and schedules count blocks. With priorities in the data the weights w are those of its draws,
    and each transition's error is reported. The critics see actions in the environment's units.

    Logged: ``train/return``, the mean of the last 100 finished episodes, and the last loss of
    critics and policy. Evaluation: ``val/return`` and ``val/episode_length`` of whole episodes
    without noise. Noise is measured in halves of the actions' range, as in the authors' and
    stable-baselines3's code: 1 is from the middle to a bound.

    Args:
        policy: from the sizes of an environment to a network that acts.
        critic: from the sizes of an environment to the value of an action; called twice.
        optimizer: from the policy's parameters to an optimiser.
        critic_optimizer: from the critics' parameters to an optimiser.
        lr_scheduler: from an optimiser to a scheduler, one for each, stepped once a block.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        n_step: rewards of a target.
        tau: how far Q' and pi' go each time, in [0, 1].
        noise: standard deviation of what exploration adds to actions.
        target_noise: standard deviation of what is added to the actions of pi'.
        target_noise_clip: the most of it.
        policy_delay: updates of the critics for each of the policy.
    Raises:
        ValueError: a number out of range, an environment whose actions are discrete or have no
            bounds, or clipping and accumulation by the trainer.

    Source: Fujimoto et al. 2018, algorithm 1.
    """

    policy: nn.Module
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
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        policy_delay: int = 2,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.n_step = probability("gamma", gamma), at_least_one("n_step", n_step)
        self.tau, self.noise = probability("tau", tau), not_negative("noise", noise)
        self.target_noise = not_negative("target_noise", target_noise)
        self.target_noise_clip = positive("target_noise_clip", target_noise_clip)
        self.policy_delay = at_least_one("policy_delay", policy_delay)
        self.save_hyperparameters()
        self.policy_factory, self.critic_factory = policy, critic
        self.critic_optimizer = critic_optimizer
        self._policy_losses: dict[str, Tensor] = {}  # the last one, for blocks without any

    def build(self, spec: EnvironmentSpec) -> None:
        self.policy = build_policy(self, self.policy_factory, spec, draws=False)
        self.critics = nn.ModuleList(build_critic(self, self.critic_factory, spec) for _ in "12")
        self.target_policy = frozen_copy(self.policy)
        self.target_critics = frozen_copy(self.critics)
        register_bounds(self, spec)

    def configure_optimizers(self) -> Any:
        of_policy = self.optimizer(self.policy.parameters())
        return scheduled(self, [of_policy, self.critic_optimizer(self.critics.parameters())])

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``[B, A]`` for ``observation [B, *shape]``."""
        return self.policy(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``, as learnt or with noise."""
        actions = self.policy(observations)
        return actions if deterministic else self._disturbed(actions, self.noise)

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions with noise for ``observations [N, *shape]``, however far the run is."""
        return self.act(observations)

    def _disturbed(self, actions: Tensor, noise: float, limit: float = float("inf")) -> Tensor:
        return disturbed(actions, self.action_low, self.action_high, noise, limit)

    def training_step(self, block: Any, batch_idx: int) -> None:
        with one_step(self) as [optimizer, critic_optimizer]:
            for number, batch in enumerate(block):
                targets = self._targets(batch.transitions)
                loss, errors = critic_loss(self.critics, batch, targets)
                step(self, critic_optimizer, loss)
                block.report(batch, errors)
                if (self.global_step * len(block) + number) % self.policy_delay == 0:
                    observations = batch.transitions.observations
                    with frozen(self.critics):
                        values = self.critics[0](observations, self.policy(observations))
                    policy_loss = -values.mean()
                    step(self, optimizer, policy_loss)
                    self._policy_losses["policy_loss"] = policy_loss.detach()
                    polyak_update_(self.target_critics, self.critics, self.tau)
                    polyak_update_(self.target_policy, self.policy, self.tau)
        end_step(self, block, critic_loss=loss, **self._policy_losses)

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        after = transitions.next_observations
        near = self._disturbed(
            self.target_policy(after), self.target_noise, self.target_noise_clip
        )
        return transitions.targets(least_value(self.target_critics, after, near))
