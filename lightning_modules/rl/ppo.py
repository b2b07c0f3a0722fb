"""Proximal policy optimisation: several passes over each rollout, none of them too far."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from trellis.checks import at_least_one, not_negative, positive, probability
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
from trellis.lightning_modules.rl.on_policy import (
    ActorCriticFactory,
    Experience,
    experience,
    scale_rewards,
)
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.rl.policy_gradient import (
    clipped_surrogate_loss,
    clipped_value_loss,
    standardized,
)
from trellis.spec import EnvironmentSpec


class PPO(Agent, Objective):
    r"""A policy and its value learn from each rollout in several epochs of minibatches.

    .. math:: L = L_\text{clip}(\pi) + c_v L(V) - c_e H(\pi)

    Batch: a ``Rollout``. Its advantages are those of the network that acted, with mean 0 and
    deviation 1 in each minibatch; a last step that was broken off by a time limit, or by the end
    of the rollout, counts with the value of what followed. All steps on a rollout are counted as
    one: ``global_step``, ``max_steps`` and schedules count rollouts; a ``Schedule`` whose decay
    is linear anneals to 0 as the run ends. Observations are scaled by a ``RunningScale`` as the
    network's ``trunk``, rewards by a ``RewardScale`` as its ``reward_scale``.

    Logged: ``train/return``, the mean of the last 100 finished episodes; the loss and its parts,
    ``train/kl`` of the last minibatch (old from new policy, estimated as rho - 1 - log rho) and
    the share of ``train/clipped`` ratios there. Evaluation: ``val/return`` and
    ``val/episode_length`` of whole episodes with deterministic actions.

    Args:
        network: from the sizes of an environment to a policy with a value.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once a rollout.
        spec: sizes of the environment; ``None`` asks the data module.
        num_epochs: passes over a rollout.
        num_minibatches: parts of a pass, drawn anew for each.
        gamma: discount per step, in [0, 1].
        lam: lambda of the advantages, in [0, 1].
        clip: epsilon, how far the ratio of probabilities pays.
        value_clip: the same for values; ``None`` leaves them free.
        value_coef: weight of the value's loss.
        entropy_coef: weight of the policy's entropy, in nats.
        max_grad_norm: gradients are scaled down to this norm; ``None`` leaves them.
    Raises:
        ValueError: a number out of range, or clipping and accumulation by the trainer.

    Source: Schulman et al. 2017; details as CleanRL (Huang et al. 2022, "The 37 implementation
    details of PPO", 1 to 11). Deviates: time limits keep the value of what followed.
    """

    network: Any  # with policy and value, which nn.Module does not declare

    def __init__(
        self,
        network: ActorCriticFactory = ActorCriticNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        num_epochs: int = 4,
        num_minibatches: int = 4,
        gamma: float = 0.99,
        lam: float = 0.95,
        clip: float = 0.2,
        value_clip: float | None = 0.2,
        value_coef: float = 0.5,
        entropy_coef: float = 0.01,
        max_grad_norm: float | None = 0.5,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.num_epochs = at_least_one("num_epochs", num_epochs)
        self.num_minibatches = at_least_one("num_minibatches", num_minibatches)
        self.gamma, self.lam = probability("gamma", gamma), probability("lam", lam)
        self.value_coef = not_negative("value_coef", value_coef)
        self.entropy_coef = not_negative("entropy_coef", entropy_coef)
        self.clip, self.value_clip = positive("clip", clip), positive("value_clip", value_clip)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.network_factory = network

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
        rollout = scale_rewards(self.network, rollout)
        seen = experience(self.network, rollout, self.gamma, self.lam)
        count = len(seen.actions)
        if count == 0:  # all environments began new episodes
            return
        parts = min(self.num_minibatches, count)
        with one_step(self) as [optimizer]:
            for _ in range(self.num_epochs):
                for part in seen.shuffled(parts):
                    log_prob, losses = self._losses(part)
                    step(self, optimizer, losses["loss"])
        end_step(self, rollout, **losses, **self._change(log_prob.detach(), part.log_prob))

    def _losses(self, part: Experience) -> tuple[Tensor, dict[str, Tensor]]:
        distribution, values = self.network(part.observations)
        log_prob = distribution.log_prob(part.actions)
        advantages = standardized(part.advantages)
        policy = clipped_surrogate_loss(log_prob, part.log_prob, advantages, self.clip)
        limit = float("inf") if self.value_clip is None else self.value_clip
        value = clipped_value_loss(values, part.values, part.returns, limit)
        entropy = distribution.entropy().mean()
        return log_prob, {
            "loss": policy + self.value_coef * value - self.entropy_coef * entropy,
            "policy_loss": policy,
            "value_loss": value,
            "entropy": entropy,
        }

    def _change(self, log_prob: Tensor, old_log_prob: Tensor) -> dict[str, Tensor]:
        """How far the policy is from the one that acted."""
        change = log_prob - old_log_prob
        ratio = change.exp()
        return {
            "kl": (ratio - 1 - change).mean(),
            "clipped": ((ratio - 1).abs() > self.clip).float().mean(),
        }
