"""Value functions: the expected return from a state, or from an action in it.

B counts observations, A is the number of entries of a real-valued action. All encode observations
by ``trellis.networks.rl.observation_encoder.ObservationEncoder`` and take its options.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent

from trellis.checks import at_least_one, check_shape, check_widths
from trellis.networks.rl.observation_encoder import ObservationEncoder, head, hidden_layers
from trellis.networks.rl.policy import CategoricalHead, GaussianHead
from trellis.nn.activation import Activation
from trellis.nn.initialization import orthogonal_
from trellis.rl.distribution import at_least_float32
from trellis.rl.reward_scale import RewardScale
from trellis.signature import options_of


class Value(nn.Module):
    """V(s): the expected return from a state.

    Args:
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]`` -> ``[B]``
    Raises:
        ValueError: what ``ObservationEncoder`` refuses.
    """

    @options_of(ObservationEncoder)
    def __init__(self, observation_shape: Sequence[int], **options: Any) -> None:
        super().__init__()
        self.features = ObservationEncoder(observation_shape, **options)
        self.head = self.features.head(1, gain=1.0)

    def forward(self, observation: Tensor) -> Tensor:
        return at_least_float32(self.head(self.features(observation))).squeeze(-1)


class QNetwork(nn.Module):
    r"""Q(s, a) of all discrete actions at once; dueling, as a value and advantages.

    .. math:: Q(s, a) = V(s) + A(s, a) - \frac1{|A|} \sum_{a'} A(s, a') \quad \text{(dueling)}

    Args:
        num_actions: number of actions.
        dueling: separate V and A, each with its own last hidden layer.
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]`` -> ``[B, num_actions]``
    Raises:
        ValueError: no actions, or what ``ObservationEncoder`` refuses.

    Source: Mnih et al. 2015; Wang et al. 2016, eq. 9 (dueling).
    """

    @options_of(ObservationEncoder)
    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int,
        *,
        dueling: bool = False,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "relu",
        **options: Any,
    ) -> None:
        super().__init__()
        at_least_one("num_actions", num_actions, ", or a StateActionValue for real-valued actions")
        own = tuple(hidden_channels)[-1:] if dueling else ()
        self.features = ObservationEncoder(
            observation_shape,
            hidden_channels=tuple(hidden_channels)[: len(hidden_channels) - len(own)],
            activation=activation,
            **options,
        )

        def stream(out_channels: int) -> nn.Module:
            width = own[0] if own else self.features.out_channels
            last = head(width, out_channels, 1.0 if self.features.orthogonal else None)
            if not own:
                return last
            layers = hidden_layers(self.features.out_channels, own, activation)
            if self.features.orthogonal:
                orthogonal_(layers, 2**0.5)
            return layers.append(last)

        self.actions = stream(num_actions)
        self.state = stream(1) if dueling else None

    def forward(self, observation: Tensor) -> Tensor:
        features = self.features(observation)
        actions = self.actions(features)
        if self.state is None:
            return actions
        return self.state(features) + actions - actions.mean(-1, keepdim=True)


class StateActionValue(nn.Module):
    """Q(s, a) of one real-valued action.

    The action is concatenated to the encoded observation, before the hidden layers.

    Args:
        action_dim: A.
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]``, action ``[B, A]`` -> ``[B]``
    Raises:
        ValueError: no entries, what ``ObservationEncoder`` refuses, an action of another shape.

    Source: Fujimoto et al. 2018, appendix C.
    """

    @options_of(ObservationEncoder)
    def __init__(
        self,
        observation_shape: Sequence[int],
        action_dim: int,
        *,
        hidden_channels: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        **options: Any,
    ) -> None:
        super().__init__()
        other = ", or a QNetwork for discrete actions"
        self.action_dim = at_least_one("action_dim", action_dim, other)
        self.features = ObservationEncoder(observation_shape, hidden_channels=(), **options)
        width = self.features.out_channels + action_dim
        check_widths(hidden_channels)
        self.layers = hidden_layers(width, hidden_channels, activation)
        if self.features.orthogonal:
            orthogonal_(self.layers, 2**0.5)
        width = hidden_channels[-1] if hidden_channels else width
        self.head = head(width, 1, 1.0 if self.features.orthogonal else None)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        check_shape("action", action, (observation.size(0), self.action_dim), "each observation")
        both = torch.cat([self.features(observation), action], dim=-1)
        return at_least_float32(self.head(self.layers(both))).squeeze(-1)


class ActorCriticNetwork(nn.Module):
    """A policy and the value of states, on separate or shared features.

    Args:
        num_actions: number of discrete actions, or
        action_dim: entries of a real-valued action; one of the two.
        shared: policy and value are heads on the same features; else the value has its own, with
            a copy of ``trunk``.
        log_std: initial logarithms of a Gaussian's standard deviations.
        reward_scale: scales rewards before the value learns from them; ``None`` leaves them.
        observation_shape, options: of ``ObservationEncoder``.
    Shape:
        observation ``[B, *observation_shape]`` -> a distribution of batch ``[B]``, as
        ``CategoricalPolicy`` or ``GaussianPolicy`` return it, and the value ``[B]``
    Raises:
        ValueError: both kinds of action or none, or what ``ObservationEncoder`` refuses.

    Source: Mnih et al. 2016 (shared); Schulman et al. 2017 (separate).

    >>> distribution, value = ActorCriticNetwork((4,), num_actions=2)(torch.zeros(3, 4))
    >>> distribution.sample().shape, value
    (torch.Size([3]), tensor([0., 0., 0.], grad_fn=<SqueezeBackward1>))
    """

    @options_of(ObservationEncoder)
    def __init__(
        self,
        observation_shape: Sequence[int],
        num_actions: int = 0,
        action_dim: int = 0,
        *,
        shared: bool = False,
        log_std: float = 0.0,
        reward_scale: RewardScale | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if (num_actions > 0) == (action_dim > 0):
            given = f"num_actions={num_actions}, action_dim={action_dim}"
            raise ValueError(f"{given}: give one of them, the other 0")
        self.features = ObservationEncoder(observation_shape, **options)
        own = None if shared else ObservationEncoder(observation_shape, **copy.deepcopy(options))
        self.value_features = own
        width = self.features.out_channels
        self.policy_head = (
            CategoricalHead(width, num_actions, self.features.orthogonal)
            if num_actions
            else GaussianHead(width, action_dim, self.features.orthogonal, log_std)
        )
        self.value_head = self.features.head(1, gain=1.0)
        self.reward_scale = reward_scale

    def forward(self, observation: Tensor) -> tuple[Categorical | Independent, Tensor]:
        features = self.features(observation)
        of_value = self.value_features(observation) if self.value_features else features
        value = at_least_float32(self.value_head(of_value)).squeeze(-1)
        return self.policy_head(features), value

    def policy(self, observation: Tensor) -> Categorical | Independent:
        """The distribution over actions alone."""
        return self.policy_head(self.features(observation))

    def value(self, observation: Tensor) -> Tensor:
        """The value alone, ``[B]``."""
        features = self.value_features or self.features
        return at_least_float32(self.value_head(features(observation))).squeeze(-1)
