"""Encoders of observations: the first part of every network of an agent.

B counts observations, F features.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_below, check_widths, does_not_fit
from trellis.labels import one_hot
from trellis.nn.activation import Activation, activation_module
from trellis.nn.initialization import orthogonal_
from trellis.rl.spaces import bytes_to_float

MIN_SIDE = 36  # of an image, below which the three convolutions leave nothing


class ObservationEncoder(nn.Module):
    """Features of observations: a trunk that turns them into vectors, then hidden layers.

    By default vectors stay as they are, the number of a state becomes a one-hot vector and an
    image goes through a ``PixelEncoder``, with its channels first or last. Bytes become floats,
    see ``trellis.rl.bytes_to_float``, so that a trunk never gets any. Without hidden layers,
    one-hot vectors make every head a table. A trunk must compute the same in training and
    evaluation mode: with batch norm or dropout, the policy that learns would not be the one that
    acted.

    Args:
        observation_shape: of one observation; ``()`` if it is one of ``num_observations`` states.
        num_observations: states, where an observation is the number of one; else 0.
        hidden_channels: width of each hidden layer.
        activation: after each hidden layer.
        trunk: any module from ``[B, *observation_shape]`` to ``[B, F]``, such as a graph network
            for observations of nodes; it is used itself, not copied.
        orthogonal: initialise all layers but a given trunk with orthogonal matrices times the
            square root of 2, and zero biases.
    Shape:
        observation ``[B, *observation_shape]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a shape that neither the defaults nor the trunk fit, or an observation of
            another shape.

    Source: Mnih et al. 2015 (pixels); Saxe et al. 2014 (orthogonal); for PPO both: Engstrom et
    al. 2020, section 3.
    """

    def __init__(
        self,
        observation_shape: Sequence[int],
        *,
        num_observations: int = 0,
        hidden_channels: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
        trunk: nn.Module | None = None,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        self.observation_shape = tuple(observation_shape)
        self.num_observations = num_observations
        check_widths(hidden_channels)
        self.front = _front(self.observation_shape, num_observations) if trunk is None else trunk
        width = self._width()
        self.layers = hidden_layers(width, hidden_channels, activation)
        self.out_channels = hidden_channels[-1] if hidden_channels else width
        self.orthogonal = orthogonal
        if orthogonal:
            orthogonal_(self.layers, math.sqrt(2))
            if trunk is None and self.front is not None:
                orthogonal_(self.front, math.sqrt(2))

    def forward(self, observation: Tensor) -> Tensor:
        if observation.shape[1:] != self.observation_shape or observation.dim() == 0:
            wanted = f"[{', '.join(map(str, ('B', *self.observation_shape)))}]"
            owner = f"observation_shape={self.observation_shape}"
            raise does_not_fit("observation", observation, owner, wanted)
        observation = bytes_to_float(observation, self.observation_shape)
        return self.layers(observation if self.front is None else self.front(observation))

    def head(self, out_channels: int, gain: float) -> nn.Linear:
        """A last layer on these features, orthogonal if they are, times ``gain``."""
        return head(self.out_channels, out_channels, gain if self.orthogonal else None)

    def _width(self) -> int:
        """F, from an example: a module does not declare what it returns."""
        if self.front is None:
            return self.observation_shape[0]
        kind = torch.long if self.num_observations else torch.get_default_dtype()
        training = self.front.training
        example = torch.zeros(2, *self.observation_shape, dtype=kind)
        try:
            with torch.no_grad():
                features = self.front.eval()(example)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"trunk {type(self.front).__name__} does not take observations "
                f"{list(example.shape)}: {error}"
            ) from error
        finally:
            self.front.train(training)
        if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2:
            output = list(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                f"trunk {type(self.front).__name__} turns observations {list(example.shape)} "
                f"into {output}: give one that returns [B, features]"
            )
        return features.size(1)


class ChannelsFirst(nn.Module):
    """Images with their channels in front.

    Shape:
        x ``[B, H, W, C]`` -> ``[B, C, H, W]``
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class OneHot(nn.Module):
    """The number of a state as a one-hot vector.

    Args:
        num_observations: states.
    Shape:
        observation ``[B]`` -> ``[B, num_observations]``
    Raises:
        ValueError: no such state (not checked on a GPU, which would have to synchronise).
    """

    def __init__(self, num_observations: int) -> None:
        super().__init__()
        self.num_observations = at_least_one("num_observations", num_observations)

    def forward(self, observation: Tensor) -> Tensor:
        if observation.is_floating_point():
            raise ValueError(f"observation of {observation.dtype}: give numbers of states, long")
        owner = f"num_observations={self.num_observations}"
        check_below("observation", observation, self.num_observations, owner)
        return one_hot(observation.long(), self.num_observations)


class PixelEncoder(nn.Module):
    """The three convolutions for Atari's screens; a dense layer of 512 usually follows.

    Args:
        in_channels: colours, or stacked frames.
    Shape:
        x ``[B, in_channels, H, W]`` of at least 36 x 36; bytes are divided by 255 ->
        ``[B, F]``, F = 3136 for 84 x 84
    Raises:
        ValueError: a size below 1.

    Source: Mnih et al. 2015, methods, "model architecture".

    >>> PixelEncoder(4)(torch.zeros(1, 4, 84, 84, dtype=torch.uint8)).shape
    torch.Size([1, 3136])
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(at_least_one("in_channels", in_channels), 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(bytes_to_float(x, x.shape[1:]))


def hidden_layers(
    in_channels: int, hidden_channels: Sequence[int], activation: Activation
) -> nn.Sequential:
    """Linear layers, each followed by an activation; empty without widths.

    Shape:
        x ``[B, in_channels]`` -> ``[B, hidden_channels[-1]]``
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *hidden_channels)):
        layers += [nn.Linear(before, after), activation_module(activation)]
    return nn.Sequential(*layers)


def head(in_channels: int, out_channels: int, gain: float | None) -> nn.Linear:
    """The last layer of a network.

    Args:
        in_channels: features.
        out_channels: of the network.
        gain: of an orthogonal initialisation; ``None`` keeps torch's.
    """
    layer = nn.Linear(in_channels, out_channels)
    if gain is not None:
        orthogonal_(layer, gain)
    return layer


def _front(observation_shape: tuple[int, ...], num_observations: int) -> nn.Module | None:
    if observation_shape == ():
        number = ", the number of states, with observation_shape=()"
        return OneHot(at_least_one("num_observations", num_observations, number))
    if num_observations:
        raise ValueError(
            f"num_observations={num_observations} with observation_shape={observation_shape}: "
            f"the number of a state has the shape ()"
        )
    if len(observation_shape) == 1:
        at_least_one("observation_shape[0]", observation_shape[0])
        return None
    if len(observation_shape) == 3 and min(observation_shape[1:]) >= MIN_SIDE:
        return PixelEncoder(observation_shape[0])
    if len(observation_shape) == 3 and min(observation_shape[:2]) >= MIN_SIDE:
        return nn.Sequential(ChannelsFirst(), PixelEncoder(observation_shape[2]))
    sizes = ", ".join(map(str, observation_shape))
    raise ValueError(
        f"observation_shape={observation_shape}: only vectors and images (channels first or "
        f"last) of at least {MIN_SIDE} x {MIN_SIDE} have a default trunk; give one from "
        f"[B, {sizes}] to [B, features], such as torch.nn.Flatten"
    )
