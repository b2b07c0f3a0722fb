"""Checks at the door of a network: one line that names the argument, its value and the fix."""

from typing import TypeVar

import torch
from torch import Tensor

Limit = TypeVar("Limit", bound=float | None)


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


def not_negative(name: str, value: float) -> float:
    """``value``, once it is known to be a weight.

    Raises:
        ValueError: it is below 0, or no number.
    """
    if not value >= 0:
        raise ValueError(f"{name}={value}: give at least 0")
    return value


def positive(name: str, value: Limit) -> Limit:
    """``value``, once it is known to be a limit; ``None`` is none.

    Raises:
        ValueError: it is not above 0.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{name}={value}: give more than 0, or leave it out")
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


def check_tokens(name: str, tokens: Tensor, num_tokens: int) -> None:
    """``tokens [B, T]``, whole numbers from 0 to ``num_tokens - 1``.

    Raises:
        ValueError: of another shape or type, or outside the vocabulary (not looked for on a GPU,
            which would have to wait for the answer).
    """
    if tokens.dim() != 2 or tokens.is_floating_point():
        raise ValueError(
            f"{name} {list(tokens.shape)} of {tokens.dtype}: give token ids [B, T], of torch.long"
        )
    if tokens.device.type == "cpu" and tokens.numel() > 0:
        least, most = (int(end) for end in tokens.aminmax())
        if least < 0 or most >= num_tokens:
            wrong = least if least < 0 else most
            raise ValueError(
                f"{name} holds id {wrong}, outside the vocabulary of {num_tokens}: were they made "
                f"by another tokenizer?"
            )


def check_sequences(name: str, tokens: Tensor, pad_id: int) -> Tensor:
    """Lengths ``[B]`` of the sequences in ``tokens [B, T]``, up to the last that is no padding.

    Raises:
        ValueError: a sequence is nothing but padding; names its row.

    >>> check_sequences("source", torch.tensor([[5, 6, 0], [7, 0, 8]]), pad_id=0)
    tensor([2, 3])
    """
    column = torch.arange(1, tokens.size(1) + 1, device=tokens.device)
    lengths = (
        (column * (tokens != pad_id)).amax(1) if tokens.size(1) else column.new_zeros(len(tokens))
    )
    if tokens.device.type == "cpu" and (empty := (lengths == 0).nonzero()).numel():
        raise ValueError(
            f"{name}: sequence {int(empty[0])} is nothing but padding (pad_id={pad_id}); give at "
            f"least one token, as an end of sentence"
        )
    return lengths
