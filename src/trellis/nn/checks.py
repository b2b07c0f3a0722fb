"""Checks at the door of a network: one line that names the argument, its value and the fix."""

from torch import Tensor


def at_least_one(name: str, value: int) -> int:
    """``value``, once it is known to be a size.

    Raises:
        ValueError: it is smaller than 1.

    >>> at_least_one("num_layers", 2)
    2
    """
    if value < 1:
        raise ValueError(f"{name}={value}: give at least 1")
    return value


def probability(name: str, value: float) -> float:
    """``value``, once it is known to be a probability.

    Raises:
        ValueError: it is outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value}: give a probability, 0 to 1")
    return value


def check_sizes(in_channels: int, out_channels: int) -> None:
    """The two sizes every network takes.

    Raises:
        ValueError: one is smaller than 1.
    """
    at_least_one("in_channels", in_channels)
    at_least_one("out_channels", out_channels)


def check_vectors(x: Tensor, in_channels: int, network: str) -> None:
    """``x [B, in_channels]`` and nothing else.

    Raises:
        ValueError: of another shape; names both.
    """
    if x.dim() != 2 or x.size(1) != in_channels:
        hint = "; flatten images first" if x.dim() > 2 else ""
        raise ValueError(
            f"x {list(x.shape)} does not fit {network}(in_channels={in_channels}): "
            f"give x [B, {in_channels}]{hint}"
        )


def check_images(x: Tensor, in_channels: int, network: str, least: int = 1) -> None:
    """``x [B, in_channels, H, W]`` with H and W at least ``least``.

    Raises:
        ValueError: of another shape; names both.
    """
    if x.dim() != 4 or x.size(1) != in_channels or min(x.shape[2:]) < least:
        size = "" if least == 1 else f" with H and W at least {least}"
        raise ValueError(
            f"x {list(x.shape)} does not fit {network}(in_channels={in_channels}): "
            f"give x [B, {in_channels}, H, W]{size}"
        )


def check_graph(x: Tensor, edge_index: Tensor, in_channels: int, network: str) -> None:
    """``x [N, in_channels]`` and ``edge_index [2, E]``.

    Raises:
        ValueError: one has another shape; names both.
    """
    if x.dim() != 2 or x.size(1) != in_channels:
        raise ValueError(
            f"x {list(x.shape)} does not fit {network}(in_channels={in_channels}): "
            f"give x [N, {in_channels}]"
        )
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"edge_index {list(edge_index.shape)}: give [2, E], the sources above the targets"
        )
