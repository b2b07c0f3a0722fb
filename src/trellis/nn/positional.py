"""Positional encodings: sinusoidal, learned, rotary, or none.

Each module has one method, ``forward(x, offset) -> (x, rotation)``: additive positions change the
embeddings, rotary ones rotate the queries and keys of every layer instead.

Legend: B sequences, T tokens, D embed_dim, H heads, d = D / H.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_below, choose_from

Positions = Literal["sinusoidal", "learned", "rotary", "none"]


def position_module(
    kind: Positions, embed_dim: int, *, num_heads: int, max_length: int
) -> nn.Module:
    """The module of a kind of positional encoding.

    Args:
        kind: only ``learned`` has a longest sequence, ``max_length``.
        embed_dim: width D.
        num_heads: attention heads, each of which rotary positions rotate by itself.
        max_length: longest sequence of learned positions.
    Raises:
        ValueError: an unknown kind.
    """
    choose_from("positions", kind, Positions)
    if kind == "sinusoidal":
        return SinusoidalPositions(embed_dim)
    if kind == "learned":
        return LearnedPositions(embed_dim, max_length)
    if kind == "rotary":
        return RotaryPositions(embed_dim // num_heads)
    return NoPositions()


def sinusoids(positions: Tensor, embed_dim: int) -> Tensor:
    r"""Sines and cosines of wavelengths from 2 pi to 20000 pi.

    .. math:: P_{t, 2i} = \sin(t / 10000^{2i/D}), \quad P_{t, 2i+1} = \cos(t / 10000^{2i/D})

    Args:
        positions: t, ``[T]``.
        embed_dim: width D, even.
    Shape:
        -> ``[T, D]``

    Source: Vaswani et al. 2017, section 3.5.

    >>> sinusoids(torch.arange(2), 4).round(decimals=4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 1.0000]])
    """
    angles = _angles(positions, embed_dim)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    r"""Rotate each pair of features by an angle proportional to the position.

    .. math:: (x_{2i}, x_{2i+1}) \to (x_{2i} \cos\phi - x_{2i+1} \sin\phi,
              \; x_{2i} \sin\phi + x_{2i+1} \cos\phi), \quad \phi = t / 10000^{2i/d}

    so that the product of a query and a key depends only on their distance.

    Args:
        x: queries or keys ``[B, H, T, d]``.
        rotation: cosines and sines, ``[T, d / 2, 2]``, of ``RotaryPositions``.
    Shape:
        -> ``[B, H, T, d]``

    Source: Su et al. 2021 (RoFormer), eq. 34.
    """
    cos, sin = rotation.to(x.dtype).unbind(-1)  # [T, d/2]
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)  # [B, H, T, d/2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class SinusoidalPositions(nn.Module):
    """Adds ``sinusoids``: no parameters, no longest sequence.

    Args:
        embed_dim: width D, even.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``
    Raises:
        ValueError: ``embed_dim`` is odd.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = _even("embed_dim", embed_dim)

    def forward(self, x: Tensor, offset: int = 0) -> tuple[Tensor, None]:
        """Positions ``offset, offset + 1, ...``."""
        positions = _positions(x, offset)
        return x + sinusoids(positions, self.embed_dim).to(x.dtype), None


class LearnedPositions(nn.Module):
    """Adds one learned vector per position, up to a longest sequence.

    Args:
        embed_dim: width D.
        max_length: longest sequence.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``
    Raises:
        ValueError: a sequence longer than ``max_length``.
    """

    def __init__(self, embed_dim: int, max_length: int) -> None:
        super().__init__()
        self.max_length = at_least_one("max_length", max_length)
        self.weight = nn.Parameter(torch.empty(max_length, embed_dim))
        nn.init.normal_(self.weight, std=embed_dim**-0.5)

    def forward(self, x: Tensor, offset: int = 0) -> tuple[Tensor, None]:
        """Positions ``offset, offset + 1, ...``."""
        end = offset + x.size(1)
        if end > self.max_length:
            raise ValueError(
                f"a sequence of {end} tokens is longer than the {self.max_length} learned "
                f"positions: shorten it, or build the network with max_length={end} or more"
            )
        return x + self.weight[offset:end], None

    def at(self, positions: Tensor) -> Tensor:
        """The vectors of positions ``[...]`` -> ``[..., D]``, as of packed sequences."""
        check_below("positions", positions, self.max_length, "learned positions")
        return self.weight[positions]


class RotaryPositions(nn.Module):
    """Leaves x unchanged and returns the angles by which ``rotate`` rotates queries and keys.

    Args:
        head_dim: width d of a head, even.
    Shape:
        x ``[B, T, D]`` -> x, rotation ``[T, d / 2, 2]``
    Raises:
        ValueError: ``head_dim`` is odd.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = _even("embed_dim / num_heads", head_dim)

    def forward(self, x: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Positions ``offset, offset + 1, ...``."""
        angles = _angles(_positions(x, offset), self.head_dim)
        return x, torch.stack([angles.cos(), angles.sin()], -1)


class NoPositions(nn.Module):
    """Leaves x unchanged: without a causal mask, attention then treats its input as a set.

    Shape:
        x ``[B, T, D]`` -> x
    """

    def forward(self, x: Tensor, offset: int = 0) -> tuple[Tensor, None]:
        return x, None


def _positions(x: Tensor, offset: int) -> Tensor:
    return torch.arange(offset, offset + x.size(1), device=x.device)


def _angles(positions: Tensor, width: int) -> Tensor:
    """Angles t / 10000^{2i/width}, ``[T, width / 2]``."""
    exponents = torch.arange(0, width, 2, device=positions.device) / width
    return positions.unsqueeze(1) / 10000**exponents


def _even(name: str, value: int) -> int:
    if value < 2 or value % 2:
        raise ValueError(f"{name}={value}: give an even number, positions come in pairs")
    return value
