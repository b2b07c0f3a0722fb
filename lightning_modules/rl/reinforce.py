"""REINFORCE: the policy gradient from the returns of whole episodes."""

from typing import Any, Literal, Protocol

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Distribution

from trellis.checks import choose_from, not_negative
from trellis.lightning_modules.rl.agent import AgentObjective, choose, observation_sizes
from trellis.networks.rl.policy import CategoricalPolicy
from trellis.rl.collector import Rollout
from trellis.rl.policy_gradient import policy_gradient_loss
from trellis.rl.returns import discounted_returns
from trellis.spec import EnvironmentSpec


class PolicyFactory(Protocol):
    """Builds a policy from the sizes of an environment; called by keyword.

    With ``num_actions`` where actions are discrete, ``action_dim`` in its place where they are
    real. The policy has ``forward(observation [B, *shape]) -> distribution``.
    """

    def __call__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        num_observations: int = 0,
    ) -> nn.Module: ...


class REINFORCE(AgentObjective):
    r"""The gradient of the expected return, estimated from the rewards that followed each action.

    .. math:: L = -\frac1B \sum_i (G_i - b) \log \pi(a_i \mid s_i) - c_e H(\pi)

    Batch: a ``Rollout`` with several episodes of each environment; each rollout is one step. The
    steps of episodes that do not end in it are left out, as their returns are unknown, and so are
    those that only reset an environment, which is read once a rollout. A time limit counts as an
    end. For a learned baseline take ``A2C`` with ``lam=1``.

    Logged and evaluated: as ``AgentObjective``, and the loss and the entropy.

    Args:
        network: from the sizes of an environment to a policy; for real actions give a
            ``GaussianPolicy``.
        baseline: b, the mean of the returns of the rollout, or none.
        entropy_coef: weight of the policy's entropy, in nats.
    Raises:
        ValueError: a number out of range, an unknown baseline, or clipping and accumulation by
            the trainer; in ``fit`` a rollout in which no episode ends.

    Source: Williams 1992; Sutton and Barto 2018, sections 13.3 and 13.4. Deviates: steps are not
    weighted by :math:`\gamma^t`, as everywhere in practice.
    """

    learns_from = "rollouts"

    def __init__(
        self,
        network: PolicyFactory = CategoricalPolicy,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        baseline: Literal["mean", "none"] = "mean",
        entropy_coef: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(optimizer, **options)
        choose_from("baseline", baseline, ("mean", "none"))
        self.entropy_coef = not_negative("entropy_coef", entropy_coef)
        self.network_factory, self.baseline = network, baseline

    def build(self, spec: EnvironmentSpec) -> None:
        discrete, real = {"num_actions": spec.num_actions}, {"action_dim": len(spec.action_low)}
        sizes = {**observation_sizes(spec), **(discrete if spec.num_actions else real)}
        self.build_network(sizes, "observation")

    def forward(self, observation: Tensor) -> Distribution:
        """The distribution over actions for ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: sampled, or the most probable."""
        return choose(self.network(observations), deterministic)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        ended = rollout.terminated | rollout.truncated
        # Whether the episode ends at this step or a later one of the rollout.
        known = ended.flip(0).cumsum(0).flip(0) > 0
        keep = (rollout.mask & known).flatten()
        if not bool(keep.any()):
            raise ValueError(
                f"REINFORCE: no episode ends within num_steps={len(ended)}: give the data more, "
                f"or take A2C"
            )
        returns = discounted_returns(
            rollout.rewards, rollout.terminated, rollout.truncated, self.gamma
        ).flatten()[keep]
        distribution = self.network(rollout.observations[:-1].flatten(0, 1))
        log_prob = distribution.log_prob(rollout.actions.flatten(0, 1))[keep]
        advantages = returns - returns.mean() if self.baseline == "mean" else returns
        entropy = distribution.entropy()[keep].mean()
        loss = policy_gradient_loss(log_prob, advantages) - self.entropy_coef * entropy
        with self.one_step() as optimizers:
            self.step(optimizers, loss)
        self.end_step(rollout, loss=loss, entropy=entropy)
