"""Policies: from observations to distributions over actions.

B counts observations, A is the number of entries of a real-valued action. All encode observations
by ``trellis.networks.rl.observation_encoder.ObservationEncoder`` and take its options.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from trellis.checks import at_least_one
from trellis.networks.rl.observation_encoder import ObservationEncoder, head
from trellis.nn.activation import Activation
from trellis.rl.distribution import FastCategorical, SquashedGaussian, at_least_float32
from trellis.signature import options_of

# With so small a head all actions are nearly equally likely at first (Andrychowicz et al. 2021,
# section 3.2).
POLICY_GAIN = 0.01
# Bounds of the standard deviation before squashing; at the upper one most actions lie at bounds.
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class CategoricalPolicy(nn.Module):
    r"""Discrete actions: :math:`\pi(a \mid s) = \text{softmax}(f(s))_a`.

    Args:
        num_actions: number of actions.
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]`` -> ``Categorical`` of batch ``[B]``
    Raises:
        ValueError: no actions, or what ``ObservationEncoder`` refuses.

    >>> CategoricalPolicy((4,), 2)(torch.zeros(1, 4)).probs
    tensor([[0.5000, 0.5000]], grad_fn=<SoftmaxBackward0>)
    """

    @options_of(ObservationEncoder)
    def __init__(self, observation_shape: Sequence[int], num_actions: int, **options: Any) -> None:
        super().__init__()
        self.features = ObservationEncoder(observation_shape, **options)
        self.head = CategoricalHead(
            self.features.out_channels, num_actions, self.features.orthogonal
        )

    def forward(self, observation: Tensor) -> Categorical:
        return self.head(self.features(observation))


class GaussianPolicy(nn.Module):
    r"""Real actions without bounds: :math:`\pi(a \mid s) = N(f(s), \text{diag}\, \sigma^2)`.

    The standard deviations are learned, but the same in all states. Samples are not clipped to the
    environment's bounds.

    Args:
        action_dim: A.
        log_std: initial logarithms of the standard deviations.
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]`` -> ``Independent(Normal)`` over ``[A]`` of batch
        ``[B]``
    Raises:
        ValueError: no entries, or what ``ObservationEncoder`` refuses.

    Source: Schulman et al. 2015, appendix D.
    """

    @options_of(ObservationEncoder)
    def __init__(
        self,
        observation_shape: Sequence[int],
        action_dim: int,
        *,
        log_std: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.features = ObservationEncoder(observation_shape, **options)
        self.head = GaussianHead(
            self.features.out_channels, action_dim, self.features.orthogonal, log_std
        )

    def forward(self, observation: Tensor) -> Independent:
        return self.head(self.features(observation))


class _BoundedPolicy(nn.Module):
    """Features of an observation, the bounds of actions, and a head for them.

    Args:
        action_low: lower bound of each entry of an action.
        action_high: upper bound of each.
        observation_shape, options: of ``ObservationEncoder``.
    Raises:
        ValueError: bounds that are missing, infinite or in the wrong order, or what
            ``ObservationEncoder`` refuses.
    """

    outputs_per_entry: ClassVar[int]
    action_low: Tensor
    action_high: Tensor

    @options_of(ObservationEncoder)
    def __init__(
        self,
        observation_shape: Sequence[int],
        action_low: Sequence[float],
        action_high: Sequence[float],
        *,
        hidden_channels: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        **options: Any,
    ) -> None:
        super().__init__()
        _check_bounds(action_low, action_high)
        self.register_buffer("action_low", torch.tensor(action_low, dtype=torch.float))
        self.register_buffer("action_high", torch.tensor(action_high, dtype=torch.float))
        self.features = ObservationEncoder(
            observation_shape, hidden_channels=hidden_channels, activation=activation, **options
        )
        self.head = self.features.head(self.outputs_per_entry * len(action_low), POLICY_GAIN)


class SquashedGaussianPolicy(_BoundedPolicy):
    r"""Stochastic real actions between bounds: a Gaussian through a tanh.

    Shape:
        observation ``[B, *observation_shape]`` -> ``SquashedGaussian`` over ``[A]`` of batch
        ``[B]``

    Source: Haarnoja et al. 2018 (soft actor-critic), appendix C.
    """

    outputs_per_entry = 2

    def forward(self, observation: Tensor) -> SquashedGaussian:
        both = at_least_float32(self.head(self.features(observation)))
        mean, log_std = both.chunk(2, dim=-1)  # [B, A] each
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        return SquashedGaussian(mean, log_std, self.action_low, self.action_high)


class DeterministicPolicy(_BoundedPolicy):
    r"""Deterministic real actions between bounds: :math:`a = c + h \tanh f(s)`.

    Here c is the middle of the bounds and h half of their distance.

    Shape:
        observation ``[B, *observation_shape]`` -> ``[B, A]``

    Source: Lillicrap et al. 2016 (DDPG), section 7.
    """

    outputs_per_entry = 1

    def forward(self, observation: Tensor) -> Tensor:
        middle = (self.action_high + self.action_low) / 2
        half = (self.action_high - self.action_low) / 2
        return middle + half * self.head(self.features(observation)).tanh()


class CategoricalHead(nn.Module):
    """From features to a distribution over discrete actions.

    Args:
        in_channels: features.
        num_actions: number of actions.
        orthogonal: initialise with a small orthogonal matrix.
    Shape:
        ``[B, in_channels]`` -> ``Categorical`` of batch ``[B]``
    Raises:
        ValueError: no actions.
    """

    def __init__(self, in_channels: int, num_actions: int, orthogonal: bool = True) -> None:
        super().__init__()
        at_least_one("num_actions", num_actions, ", or a GaussianPolicy for real-valued actions")
        self.linear = head(in_channels, num_actions, POLICY_GAIN if orthogonal else None)

    def forward(self, features: Tensor) -> Categorical:
        return FastCategorical(self.linear(features))


class GaussianHead(nn.Module):
    """From features to a Gaussian over real actions.

    Args:
        in_channels: features.
        action_dim: A.
        orthogonal: initialise with a small orthogonal matrix.
        log_std: initial logarithms of the standard deviations.
    Shape:
        ``[B, in_channels]`` -> ``Independent(Normal)`` over ``[A]`` of batch ``[B]``
    Raises:
        ValueError: no entries.
    """

    def __init__(
        self, in_channels: int, action_dim: int, orthogonal: bool = True, log_std: float = 0.0
    ) -> None:
        super().__init__()
        at_least_one("action_dim", action_dim, ", or a CategoricalPolicy for discrete actions")
        self.linear = head(in_channels, action_dim, POLICY_GAIN if orthogonal else None)
        self.log_std = nn.Parameter(torch.full((action_dim,), float(log_std)))

    def forward(self, features: Tensor) -> Independent:
        mean = at_least_float32(self.linear(features))
        normal = Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False)
        return Independent(normal, 1, validate_args=False)


def _check_bounds(low: Sequence[float], high: Sequence[float]) -> None:
    # On the CPU, so that they can be read even if the network is built on the meta device.
    lower, upper = (torch.tensor(each, dtype=torch.float, device="cpu") for each in (low, high))
    fit = lower.shape == upper.shape and lower.dim() == 1 and lower.numel() > 0
    if not fit or not bool((lower < upper).all()) or not bool((upper - lower).isfinite().all()):
        raise ValueError(
            f"action_low={tuple(low)}, action_high={tuple(high)}: give both bounds of each entry "
            f"of an action, finite and in order; for discrete actions use CategoricalPolicy"
        )
