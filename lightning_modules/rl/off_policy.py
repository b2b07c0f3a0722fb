"""What objectives share that learn real-valued actions from a memory of transitions.

B counts transitions, K critics, A is the number of entries of an action.
"""

import copy
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trellis.lightning_modules.engine.objective import Objective, build_network
from trellis.spec import EnvironmentSpec


class BoundedPolicyFactory(Protocol):
    """Builds a policy between bounds from the sizes of an environment; called by keyword.

    The network has ``forward(observation [B, *shape])``, which returns actions ``[B, A]`` or, for
    agents that draw them, a distribution with ``rsample_with_log_prob`` and ``mode``.
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


def build_policy(
    objective: Objective, factory: BoundedPolicyFactory, spec: EnvironmentSpec, draws: bool
) -> nn.Module:
    """The policy for an environment, once both are known to fit.

    Args:
        objective: who asks; its class stands in the errors.
        factory: from sizes to a policy.
        spec: of the environment.
        draws: whether the policy is to return distributions; actions else.
    Raises:
        ValueError: discrete or unbounded actions, or a policy that returns something else.
    """
    asked = type(objective).__name__
    if spec.num_actions:
        raise ValueError(
            f"{asked} acts by real numbers; those of {spec.environment} are discrete: take DQN "
            f"or PPO"
        )
    if not torch.tensor([spec.action_low, spec.action_high]).diff(dim=0).isfinite().all():
        raise ValueError(
            f"{asked} acts between bounds; the actions of {spec.environment} reach from "
            f"{spec.action_low} to {spec.action_high}: give it a wrapper with bounds, or take PPO"
        )
    sizes: dict[str, Any] = {
        "observation_shape": spec.observation_shape,
        "num_observations": spec.num_observations,
        "action_low": spec.action_low,
        "action_high": spec.action_high,
    }
    policy = build_network(factory, sizes, "observation", objective=objective)
    actions = _tried(policy, spec)
    if draws and not hasattr(actions, "rsample_with_log_prob"):
        raise ValueError(
            f"{asked} draws its actions; {type(policy).__name__} returns a "
            f"{type(actions).__name__}: take a SquashedGaussianPolicy"
        )
    if not draws and not isinstance(actions, Tensor):
        raise ValueError(
            f"{asked} learns actions without chance; {type(policy).__name__} returns a "
            f"{type(actions).__name__}: take a DeterministicPolicy"
        )
    return policy


@torch.no_grad()
def _tried(policy: nn.Module, spec: EnvironmentSpec) -> Any:
    """What a policy makes of two observations: a module does not say what it returns."""
    kind = torch.long if spec.num_observations else torch.float
    was = policy.training
    try:
        return policy.eval()(torch.zeros(2, *spec.observation_shape, dtype=kind))
    finally:
        policy.train(was)


def build_critic(
    objective: Objective, factory: StateActionValueFactory, spec: EnvironmentSpec
) -> nn.Module:
    """A value of actions for an environment, which shares nothing with others of the factory."""
    sizes: dict[str, Any] = {
        "observation_shape": spec.observation_shape,
        "num_observations": spec.num_observations,
        "action_dim": len(spec.action_low),
    }
    critic = build_network(factory, sizes, "observation", "action", objective=objective)
    # A factory may hand the same trunk to all it builds.
    return copy.deepcopy(critic)


def register_bounds(objective: Objective, spec: EnvironmentSpec) -> None:
    """``action_low`` and ``action_high [A]``, on the objective's device."""
    for name in ("action_low", "action_high"):
        bound = torch.tensor(getattr(spec, name))
        objective.register_buffer(name, bound, persistent=False)  # the spec is in the checkpoint


def disturbed(
    actions: Tensor, low: Tensor, high: Tensor, noise: float, limit: float = float("inf")
) -> Tensor:
    r"""Actions with Gaussian noise, cut to their bounds.

    .. math:: \text{clip}(a + h \, \text{clip}(\epsilon, \pm \text{limit}), \text{low},
        \text{high}), \quad \epsilon \sim N(0, \text{noise}^2), \quad
        h = (\text{high} - \text{low}) / 2

    Args:
        actions: in the environment's units.
        low: least value of each entry.
        high: largest value of each.
        noise: standard deviation, in halves of the range: 1 is from the middle to a bound.
        limit: of the noise, in the same unit.
    Shape:
        actions ``[B, A]``, bounds ``[A]`` -> ``[B, A]``

    Source: Fujimoto et al. 2018, algorithm 1.

    >>> low, high = torch.tensor([0.0]), torch.tensor([4.0])
    >>> disturbed(torch.tensor([[1.0]]), low, high, noise=0.0)
    tensor([[1.]])
    """
    epsilon = (noise * torch.randn_like(actions)).clamp(-limit, limit)
    return (actions + (high - low) / 2 * epsilon).clamp(low, high)


def critic_loss(
    critics: Iterable[nn.Module], batch: Any, targets: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Mean squared error of each critic, summed over critics.

    .. math:: L = \sum_k \frac1B \sum_i w_i (Q_k(s_i, a_i) - y_i)^2

    Args:
        critics: K of them.
        batch: a ``ReplayBatch`` of B transitions and their weights w.
        targets: y, without gradient, ``[B]``.
    Returns:
        the loss, and the errors ``[K, B]`` with the sign of Q - y.
    """
    seen, done = batch.transitions.observations, batch.transitions.actions
    errors = torch.stack([critic(seen, done) for critic in critics]) - targets
    return batch.mean(errors.square()).sum(), errors


def least_value(critics: Iterable[nn.Module], observations: Tensor, actions: Tensor) -> Tensor:
    """The smallest of what the critics say of ``actions [B, A]``, ``[B]``.

    Source: Fujimoto et al. 2018, eq. 10 (clipped double Q-learning).
    """
    return torch.stack([critic(observations, actions) for critic in critics]).amin(0)
