"""What an agent's networks do first: from observations of any shape to features.

B counts observations, C colours, F features.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.nn.activation import Activation, activation_module
from trellis.nn.examples import one_hot
from trellis.nn.initialization import orthogonal_

PIXELS = 36  # the least side that the three convolutions leave anything of


class ObservationEncoder(nn.Module):
    """Features of observations: a module that makes vectors of them, then hidden layers.

    Without a ``trunk`` vectors stay as they are, the number of a state becomes a one-hot vector
    and an image goes through ``PixelEncoder``. With no hidden layers a one-hot vector makes every
    head a table. A trunk is to do the same in training: with batch norm or dropout, the policy
    that learns is not the one that acted.

    Args:
        observation_shape: of one observation; ``()`` if it is one of ``num_observations`` states.
        num_observations: states, where an observation is the number of one; else 0.
        hidden_channels: width of each hidden layer.
        activation: after each hidden layer.
        trunk: any module from ``[B, *observation_shape]`` to ``[B, F]``, as a graph network for
            observations of nodes; used itself, not a copy of it.
        orthogonal: whether layers, a trunk from outside excepted, start as orthogonal matrices
            times the square root of 2; biases become zero.
    Shape:
        observation ``[B, *observation_shape]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a shape that nothing here and no trunk fits, or an observation of another.

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
        for width in hidden_channels:
            at_least_one("a width of hidden_channels", width)
        self.front = _front(self.observation_shape, num_observations) if trunk is None else trunk
        width = self._width()
        self.layers = hidden_layers(width, hidden_channels, activation)
        self.out_channels = hidden_channels[-1] if hidden_channels else width
        if orthogonal:
            orthogonal_(self.layers, math.sqrt(2))
            if trunk is None and self.front is not None:
                orthogonal_(self.front, math.sqrt(2))

    def forward(self, observation: Tensor) -> Tensor:
        if observation.shape[1:] != self.observation_shape or observation.dim() == 0:
            sizes = "".join(f", {size}" for size in self.observation_shape)
            raise ValueError(
                f"observation {list(observation.shape)} does not fit "
                f"observation_shape={self.observation_shape}: give [B{sizes}]"
            )
        return self.layers(observation if self.front is None else self.front(observation))

    def _width(self) -> int:
        """F, by trying: a module does not say what it returns."""
        if self.front is None:
            return self.observation_shape[0]
        kind = torch.long if self.num_observations else torch.float
        was, example = self.front.training, torch.zeros(2, *self.observation_shape, dtype=kind)
        try:
            with torch.no_grad():
                features = self.front.eval()(example)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"trunk {type(self.front).__name__} does not take observations "
                f"{list(example.shape)}: {error}"
            ) from error
        finally:
            self.front.train(was)
        if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2:
            found = list(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                f"trunk {type(self.front).__name__} turns observations {list(example.shape)} "
                f"into {found}: give one that returns [B, features]"
            )
        return features.size(1)


class OneHot(nn.Module):
    """The number of a state as a vector.

    Args:
        num_observations: states.
    Shape:
        observation ``[B]`` -> ``[B, num_observations]``
    Raises:
        ValueError: no such state (not looked for on a GPU, which would have to wait).
    """

    def __init__(self, num_observations: int) -> None:
        super().__init__()
        self.num_observations = at_least_one("num_observations", num_observations)

    def forward(self, observation: Tensor) -> Tensor:
        if observation.is_floating_point():
            raise ValueError(f"observation of {observation.dtype}: give numbers of states, long")
        if observation.device.type == "cpu" and observation.numel():
            least, most = (int(end) for end in observation.aminmax())
            if least < 0 or most >= self.num_observations:
                wrong = least if least < 0 else most
                raise ValueError(
                    f"observation {wrong}: num_observations={self.num_observations} leaves 0 to "
                    f"{self.num_observations - 1}"
                )
        return one_hot(observation.long(), self.num_observations)


class PixelEncoder(nn.Module):
    """Three convolutions, as for Atari's screens; a dense layer of 512 is to follow.

    Args:
        in_channels: colours, or frames.
    Shape:
        x ``[B, in_channels, H, W]``, sides at least 36; bytes are divided by 255 ->
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
        return self.layers(x.float() / 255 if x.dtype == torch.uint8 else x)


def hidden_layers(
    in_channels: int, hidden_channels: Sequence[int], activation: Activation
) -> nn.Sequential:
    """Affine maps, each followed by its activation; nothing at all for no widths.

    Shape:
        x ``[B, in_channels]`` -> ``[B, hidden_channels[-1]]``
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *hidden_channels)):
        layers += [nn.Linear(before, after), activation_module(activation)]
    return nn.Sequential(*layers)


def head(in_channels: int, out_channels: int, gain: float | None) -> nn.Linear:
    """The last layer.

    Args:
        in_channels: features.
        out_channels: of the network.
        gain: of an orthogonal matrix to start from; ``None`` leaves it to torch.
    """
    layer = nn.Linear(in_channels, out_channels)
    if gain is not None:
        orthogonal_(layer, gain)
    return layer


def _front(observation_shape: tuple[int, ...], num_observations: int) -> nn.Module | None:
    if observation_shape == ():
        if num_observations < 1:
            raise ValueError(
                f"observation_shape=() with num_observations={num_observations}: give the number "
                f"of states"
            )
        return OneHot(num_observations)
    if num_observations:
        raise ValueError(
            f"num_observations={num_observations} with observation_shape={observation_shape}: "
            f"numbers of states have the shape ()"
        )
    if len(observation_shape) == 1:
        at_least_one("observation_shape[0]", observation_shape[0])
        return None
    if len(observation_shape) == 3 and min(observation_shape[1:]) >= PIXELS:
        return PixelEncoder(observation_shape[0])
    sizes = ", ".join(map(str, observation_shape))
    raise ValueError(
        f"observation_shape={observation_shape}: vectors and images (channels, height, width) of "
        f"at least {PIXELS} pixels a side have a trunk; give one that takes [B, {sizes}] to "
        f"[B, features], as torch.nn.Flatten"
    )
