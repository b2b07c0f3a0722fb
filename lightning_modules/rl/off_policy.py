"""What agents share that learn real-valued actions from a replay buffer.

B counts transitions, K critics, A is the number of entries of an action.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from trellis.checks import at_least_one, probability
from trellis.lightning_modules.engine.build_network import build_network
from trellis.lightning_modules.engine.compiling import CompiledLoss
from trellis.lightning_modules.engine.own_steps import frozen
from trellis.lightning_modules.rl.agent import AgentObjective, observation_sizes
from trellis.networks.rl.value import StateActionValue
from trellis.rl.replay import ReplayBatch, Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.spec import EnvironmentSpec


class BoundedPolicyFactory(Protocol):
    """Builds a policy with bounded actions from the sizes of an environment; called by keyword.

    The network has ``forward(observation [B, *shape])``, which returns actions ``[B, A]`` or, for
    stochastic policies, a distribution with ``rsample_with_log_prob`` and ``mode``.
    """

    def __call__(
        self,
        observation_shape: tuple[int, ...],
        action_low: tuple[float, ...],
        action_high: tuple[float, ...],
        *,
        num_observations: int = 0,
    ) -> nn.Module: ...


class StateActionValueFactory(Protocol):
    """Builds the value of one action from the sizes of an environment; called by keyword.

    The network has ``forward(observation [B, *shape], action [B, A]) -> value [B]``. Actions are
    in the environment's units.
    """

    def __call__(
        self, observation_shape: tuple[int, ...], action_dim: int, *, num_observations: int = 0
    ) -> nn.Module: ...


class ContinuousControlObjective(AgentObjective):
    """Base of the agents that learn a policy and the values of its actions from a replay buffer.

    A subclass defines ``build`` (``policy``, critics, their target networks), ``act``,
    ``training_step``, ``_policy_losses`` and ``_targets`` of the critics, and gives both kinds of
    network their optimisers.

    Batch: a ``ReplayBlock``, whose updates count as one step. With priorities in the data, w in a
    loss are the importance weights of its samples, and their TD errors become the new priorities.
    Critics see actions in the environment's units.

    Args:
        policy: from the sizes of an environment to a network that acts.
        critic: from the sizes of an environment to the value of an action, called once for each.
        optimizer: from the policy's parameters to an optimiser.
        critic_optimizer: from the critics' parameters to an optimiser.
        n_step: rewards of a target.
        tau: share of the way that the target networks move in each of their updates, in [0, 1].
    Raises:
        ValueError: as ``AgentObjective``, or an environment whose actions are discrete or have no
            bounds.
    """

    learns_from = "replay"
    differentiated = ("_critic_losses", "_policy_losses")
    partial_losses = True
    policy: nn.Module
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        policy: BoundedPolicyFactory,
        critic: StateActionValueFactory = StateActionValue,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        critic_optimizer: OptimizerCallable = torch.optim.Adam,
        n_step: int = 1,
        tau: float = 0.005,
        **options: Any,
    ) -> None:
        super().__init__(optimizer, **options)
        self.n_step, self.tau = at_least_one("n_step", n_step), probability("tau", tau)
        self.policy_factory, self.critic_factory = policy, critic
        self.critic_optimizer = critic_optimizer

    def forward(self, observation: Tensor) -> Any:
        """What the policy returns for ``observation [B, *shape]``: actions or distributions."""
        return self.policy(observation)

    @abstractmethod
    def _targets(self, transitions: Transitions, *inputs: Any) -> Tensor:
        """What the critics learn, without gradient, ``[B]``."""

    @abstractmethod
    def training_step(self, block: ReplayBlock, batch_idx: int) -> None:
        """Learn from the batches of one block."""

    def build_policy(self, spec: EnvironmentSpec, *, stochastic: bool) -> nn.Module:
        """The policy for an environment, once both are known to fit.

        Args:
            spec: of the environment.
            stochastic: whether the policy is to return distributions; else actions.
        Raises:
            ValueError: discrete or unbounded actions, or a policy that returns something else.
        """
        self._check_bounded(spec)
        bounds = {"action_low": spec.action_low, "action_high": spec.action_high}
        for name, bound in bounds.items():
            self.register_buffer(name, torch.tensor(bound), persistent=False)
        sizes = {**observation_sizes(spec), **bounds}
        policy = build_network(self.policy_factory, sizes, "observation", objective=self)
        output = _example_output(policy, spec)
        does, better = "learns a deterministic policy", "DeterministicPolicy"
        fits = isinstance(output, Tensor)
        if stochastic:
            does, better = "samples its actions", "SquashedGaussianPolicy"
            fits = hasattr(output, "rsample_with_log_prob")
        if not fits:
            raise ValueError(
                f"{type(self).__name__} {does}; {type(policy).__name__} returns a "
                f"{type(output).__name__}: take a {better}"
            )
        return policy

    def _check_bounded(self, spec: EnvironmentSpec) -> None:
        if spec.num_actions:
            raise self.other_actions(spec, "real-valued actions", "are discrete", "DQN or PPO")
        bounds = torch.tensor([spec.action_low, spec.action_high], device="cpu")
        if not bounds.diff(dim=0).isfinite().all():
            reach = f"reach from {spec.action_low} to {spec.action_high}"
            take = "a wrapper with bounds, or PPO"
            raise self.other_actions(spec, "actions between bounds", reach, take)

    def build_critic(self, spec: EnvironmentSpec) -> nn.Module:
        """A value of actions that shares no parameter with another network."""
        sizes = {**observation_sizes(spec), "action_dim": len(spec.action_low)}
        inputs = ("observation", "action")
        # A factory may give the same trunk to every network it builds.
        return copy.deepcopy(build_network(self.critic_factory, sizes, *inputs, objective=self))

    def with_noise(self, actions: Tensor, noise: float, limit: float = float("inf")) -> Tensor:
        """Actions ``[B, A]`` with Gaussian noise, within bounds; see ``add_action_noise``."""
        return add_action_noise(actions, self.action_low, self.action_high, noise, limit)

    def update_critics(
        self,
        critics: Iterable[nn.Module],
        optimizer: LightningOptimizer,
        block: ReplayBlock,
        batch: ReplayBatch,
        *inputs: Any,
    ) -> Tensor:
        r"""One step along the mean squared error of each critic, summed over critics.

        .. math:: L = \sum_k \frac1B \sum_i w_i (Q_k(s_i, a_i) - y_i)^2

        The errors become the priorities of the transitions.

        Args:
            critics: K of them.
            optimizer: of the critics.
            block: that the batch is from.
            batch: B transitions and their weights w.
            inputs: of ``_targets``, which makes y, after the transitions.
        Returns:
            the loss before the step.
        """
        losses = self.descend([optimizer], self._critic_losses, critics, batch, *inputs)
        block.update_priorities(batch, losses["errors"])
        return losses["loss"]

    def update_policy(
        self, critics: nn.Module, optimizers: Sequence[LightningOptimizer], *inputs: Any
    ) -> dict[str, Tensor]:
        """One step along ``_policy_losses``, through critics that stay as they are.

        Args:
            critics: that value the actions.
            optimizers: of the policy, and of what else learns from its loss.
            inputs: of ``_policy_losses``.
        Returns:
            what it returned before the step.
        """
        # Compiled, it computes no other gradients than those of the optimisers.
        compiled = isinstance(self._policy_losses, CompiledLoss)
        with nullcontext() if compiled else frozen(critics):
            return self.descend(optimizers, self._policy_losses, *inputs)

    @abstractmethod
    def _policy_losses(self, observations: Tensor, *inputs: Any) -> dict[str, Tensor]:
        """The loss of the policy for ``observations [B, *shape]``, and what else is logged."""

    def _critic_losses(
        self, critics: Iterable[nn.Module], batch: ReplayBatch, *inputs: Any
    ) -> dict[str, Tensor]:
        targets = self._targets(batch.transitions, *inputs)
        observations, actions = batch.transitions.observations, batch.transitions.actions
        errors = torch.stack([critic(observations, actions) for critic in critics]) - targets
        return {"loss": batch.mean(errors.square()).sum(), "errors": errors}


@torch.no_grad()
def _example_output(policy: nn.Module, spec: EnvironmentSpec) -> Any:
    """What a policy returns for two observations: a module does not declare it."""
    kind = torch.long if spec.num_observations else torch.get_default_dtype()
    training = policy.training
    try:
        return policy.eval()(torch.zeros(2, *spec.observation_shape, dtype=kind))
    finally:
        policy.train(training)


def add_action_noise(
    actions: Tensor, low: Tensor, high: Tensor, noise: float, limit: float = float("inf")
) -> Tensor:
    r"""Actions with Gaussian noise, clipped to their bounds.

    .. math:: \text{clip}(a + h \, \text{clip}(\epsilon, \pm \text{limit}), \text{low},
        \text{high}), \quad \epsilon \sim N(0, \text{noise}^2), \quad
        h = (\text{high} - \text{low}) / 2

    Args:
        actions: in the environment's units.
        low: lower bound of each entry.
        high: upper bound of each.
        noise: standard deviation, in halves of the range: 1 is from the middle to a bound.
        limit: of the noise, in the same unit.
    Shape:
        actions ``[B, A]``, bounds ``[A]`` -> ``[B, A]``

    Source: Fujimoto et al. 2018, algorithm 1.

    >>> low, high = torch.tensor([0.0]), torch.tensor([4.0])
    >>> add_action_noise(torch.tensor([[1.0]]), low, high, noise=0.0)
    tensor([[1.]])
    """
    epsilon = (noise * torch.randn_like(actions)).clamp(-limit, limit)
    return (actions + (high - low) / 2 * epsilon).clamp(low, high)


def minimum_value(critics: Iterable[nn.Module], observations: Tensor, actions: Tensor) -> Tensor:
    """The least value that any critic gives to ``actions [B, A]``, ``[B]``.

    Source: Fujimoto et al. 2018, eq. 10 (clipped double Q-learning).
    """
    return torch.stack([critic(observations, actions) for critic in critics]).amin(0)
