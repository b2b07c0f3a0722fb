"""Argument checks: each error names the argument, its value and what to give instead."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

Number = TypeVar("Number", bound=float)
Limit = TypeVar("Limit", bound=float | None)
Choice = TypeVar("Choice")


def at_least(least: int, name: str, value: Number, reason: str = "") -> Number:
    """Return a number if it is at least ``least``.

    Args:
        least: the smallest valid number.
        name: of the argument.
        value: what was given.
        reason: why not less, or what else to give; it ends the message.
    Raises:
        ValueError: it is smaller, or NaN.

    >>> at_least(5, "max_length", 3, ", for two words and three special tokens")
    Traceback (most recent call last):
        ...
    ValueError: max_length=3: give at least 5, for two words and three special tokens
    """
    if not value >= least:
        raise ValueError(f"{name}={value}: give at least {least}{reason}")
    return value


def at_least_one(name: str, value: int, reason: str = "") -> int:
    """Return a size or a count if it is at least 1; see ``at_least``.

    Raises:
        ValueError: it is smaller.

    >>> at_least_one("num_layers", 2)
    2
    """
    return at_least(1, name, value, reason)


def check_widths(hidden_channels: Iterable[int]) -> None:
    """Check the widths of hidden layers.

    Raises:
        ValueError: one is smaller than 1.
    """
    for width in hidden_channels:
        at_least_one("a width of hidden_channels", width)


def probability(name: str, value: float) -> float:
    """Return a probability if it is one.

    Raises:
        ValueError: it is outside [0, 1].
    """
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value}: give a probability, 0 to 1")
    return value


def fraction(name: str, value: float) -> float:
    """Return a share that is neither nothing nor all.

    Raises:
        ValueError: it is outside (0, 1).
    """
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}={value}: give a number between 0 and 1")
    return value


def not_negative(name: str, value: Number) -> Number:
    """Return a number if it is at least 0.

    Raises:
        ValueError: it is negative, infinite or NaN.
    """
    if value == math.inf:
        raise ValueError(f"{name}={value}: give a finite number, at least 0")
    return at_least(0, name, value)


def positive(name: str, value: Limit) -> Limit:
    """Return an optional limit if it is positive; ``None`` means no limit.

    Raises:
        ValueError: it is not above 0.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{name}={value}: give more than 0, or leave it out")
    return value


def choose_from(name: str, value: Choice, options: Any) -> Choice:
    """Return an option if it is a known one.

    Args:
        name: of the argument.
        value: what was given.
        options: the valid values: a ``Literal`` type, or a collection.
    Raises:
        ValueError: it is none of them; lists them.

    >>> choose_from("mode", "min", ("min", "max"))
    'min'
    """
    known = get_args(options) or tuple(options)
    if value not in known:
        raise ValueError(f"{name}={value!r}: choose from {', '.join(map(str, known))}")
    return value


def check_equal(owner: str, advice: str = "", **sizes: int) -> None:
    """Check that sizes are equal.

    Args:
        owner: what needs it.
        advice: what to give instead; it ends the message.
        sizes: by the names of their arguments.
    Raises:
        ValueError: two differ; names all.

    >>> check_equal("tie=True", embed_dim=8, hidden_size=16)
    Traceback (most recent call last):
        ...
    ValueError: tie=True: embed_dim=8 and hidden_size=16 must be equal
    """
    if len(set(sizes.values())) > 1:
        given = " and ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(f"{owner}: {given} must be equal{advice}")


def num_entries(shape: tuple[int, ...]) -> int:
    """Number of entries of an example of this shape.

    Raises:
        ValueError: it has none.

    >>> num_entries((1, 28, 28))
    784
    """
    if not shape or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)}: give that of one example, as (784,)")
    return math.prod(shape)


def check_sizes(in_channels: int, out_channels: int) -> None:
    """Check the two sizes that every network takes.

    Raises:
        ValueError: one is smaller than 1.
    """
    at_least_one("in_channels", in_channels)
    at_least_one("out_channels", out_channels)


def check_same_shape(advice: str, **tensors: Tensor) -> None:
    """Check that tensors have one shape.

    Args:
        advice: what to give, for the message.
        tensors: by the names that the message calls them.
    Raises:
        ValueError: two differ; names all.

    >>> check_same_shape("give one for each step", mask=torch.ones(2), values=torch.ones(3))
    Traceback (most recent call last):
        ...
    ValueError: mask [2] and values [3]: give one for each step
    """
    first, *others = tensors.values()
    if any(other.shape != first.shape for other in others):
        named = " and ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"{named}: {advice}")


def check_shape(name: str, x: Tensor, shape: Sequence[int], one_for: str = "") -> None:
    """Check that a tensor has this shape.

    Args:
        name: of the tensor.
        x: the tensor.
        shape: it has to have.
        one_for: what each of its numbers belongs to, for the message.
    Raises:
        ValueError: it has another; names both.

    >>> check_shape("action", torch.zeros(2), (2, 3), one_for="each observation")
    Traceback (most recent call last):
        ...
    ValueError: action [2]: give one for each observation, [2, 3]
    """
    if x.shape != tuple(shape):
        advice = f"one for {one_for}, " if one_for else ""
        raise ValueError(f"{name} {list(x.shape)}: give {advice}{list(shape)}")


def does_not_fit(name: str, x: Tensor, owner: str, wanted: str) -> ValueError:
    """The error about a tensor that was given to a network of other sizes.

    Args:
        name: of the tensor.
        x: the tensor.
        owner: the network, with the argument that it does not fit.
        wanted: shape to give.
    """
    return ValueError(f"{name} {list(x.shape)} does not fit {owner}: give {name} {wanted}")


def check_vectors(x: Tensor, in_channels: int, network: str) -> None:
    """Check that ``x`` has the shape ``[B, in_channels]``.

    Raises:
        ValueError: it has another; names both.
    """
    if x.dim() != 2 or x.size(1) != in_channels:
        wanted = f"[B, {in_channels}]" + ("; flatten images first" if x.dim() > 2 else "")
        raise does_not_fit("x", x, f"{network}(in_channels={in_channels})", wanted)


def check_images(x: Tensor, in_channels: int, network: str, least: int = 1) -> None:
    """Check that ``x`` has the shape ``[B, in_channels, H, W]``, H and W at least ``least``.

    Raises:
        ValueError: it has another; names both.
    """
    if x.dim() != 4 or x.size(1) != in_channels or min(x.shape[2:]) < least:
        size = "" if least == 1 else f" with H and W at least {least}"
        wanted = f"[B, {in_channels}, H, W]{size}"
        raise does_not_fit("x", x, f"{network}(in_channels={in_channels})", wanted)


def check_examples(x: Tensor, shape: tuple[int, ...], network: str) -> None:
    """Check that ``x`` has the shape ``[B, *shape]``.

    Raises:
        ValueError: it has another; names both.
    """
    if x.shape[1:] != shape:
        wanted = f"[B, {', '.join(map(str, shape))}]"
        raise does_not_fit("x", x, f"{network}(shape={tuple(shape)})", wanted)


def check_graph(x: Tensor, edge_index: Tensor, in_channels: int, network: str) -> None:
    """Check the shapes ``x [N, in_channels]`` and ``edge_index [2, E]``.

    Raises:
        ValueError: one is different; names both.
    """
    if x.dim() != 2 or x.size(1) != in_channels:
        raise does_not_fit("x", x, f"{network}(in_channels={in_channels})", f"[N, {in_channels}]")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"edge_index {list(edge_index.shape)}: give [2, E], the sources above the targets"
        )


def check_unit_interval(name: str, x: Tensor, advice: str) -> None:
    """Check that all values lie in [0, 1].

    Args:
        name: of the tensor.
        x: the tensor; reading its ends waits for a GPU.
        advice: who needs it and what to give, for the message.
    Raises:
        ValueError: one lies outside or is NaN; names the ends.
    """
    least, most = (float(end) for end in x.detach().aminmax())
    if not (least >= 0 and most <= 1):  # NaN too
        raise ValueError(f"{name} lies in [{least:.4g}, {most:.4g}]: {advice}")


def check_labels(y: Tensor | None, num_classes: int, network: str) -> None:
    """Check the labels ``y [B]`` of a conditional network, or that there are none.

    Args:
        y: labels.
        num_classes: of the network; 0 if it is not conditional.
        network: its name, for the message.
    Raises:
        ValueError: y is missing or not wanted, has another shape, or holds a label outside
            ``0 .. num_classes - 1`` (see ``can_read``).
    """
    if num_classes == 0:
        if y is not None:
            raise ValueError(f"y is given, but {network}(num_classes=0) is not conditional")
        return
    if y is None:
        raise ValueError(f"{network}(num_classes={num_classes}) is conditional: give labels y [B]")
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(f"y {list(y.shape)} of {y.dtype}: give labels [B], of torch.long")
    check_below("label", y, num_classes, f"{network}(num_classes={num_classes})")


def check_permutation(name: str, indices: Tensor, size: int) -> None:
    """Check that ``indices`` are the numbers 0 to ``size - 1`` in any order.

    Raises:
        ValueError: one is missing or given twice (not checked on the ``meta`` device, where there
            are no values).

    >>> check_permutation("order", torch.tensor([1, 0, 2]), 3)
    """
    if not indices.is_meta and indices.sort().values.tolist() != list(range(size)):
        raise ValueError(f"{name}={indices.tolist()}: give each of 0 to {size - 1} once")


def check_tokens(name: str, tokens: Tensor, num_tokens: int) -> None:
    """Check that ``tokens [B, T]`` are integers from 0 to ``num_tokens - 1``.

    Raises:
        ValueError: they have another shape or type, or an id is outside the vocabulary
            (see ``can_read``).
    """
    if tokens.dim() != 2 or tokens.is_floating_point():
        raise ValueError(
            f"{name} {list(tokens.shape)} of {tokens.dtype}: give token ids [B, T], of torch.long"
        )
    if (wrong := _outside(tokens, num_tokens)) is not None:
        raise ValueError(
            f"{name} holds id {wrong}, outside the vocabulary of {num_tokens}: was it made by "
            f"another tokenizer?"
        )


def can_read(x: Tensor) -> bool:
    """Whether a check may look at the values of ``x``: on the CPU, outside of compiled code.

    On other devices reading a value waits for all that was started before; under
    ``torch.compile`` and ``torch.export`` it would break the graph.

    >>> can_read(torch.ones(2)), can_read(torch.ones(2, device="meta"))
    (True, False)
    """
    return not torch.compiler.is_compiling() and x.device.type == "cpu" and x.numel() > 0


def check_below(name: str, ids: Tensor, limit: int, owner: str) -> None:
    """Check that all numbers are in ``0 .. limit - 1``, where that is free; see ``can_read``.

    Args:
        name: of one of them.
        ids: integers of any shape.
        limit: how many there are.
        owner: who takes them, for the message.
    Raises:
        ValueError: names one that is not.
    """
    if (wrong := _outside(ids, limit)) is not None:
        raise ValueError(f"{name} {wrong} is out of range: {owner} takes 0 to {limit - 1}")


def _outside(ids: Tensor, limit: int) -> int | None:
    """An id that is not in ``0 .. limit - 1``; ``None`` if there is none, or none is known."""
    if not can_read(ids):
        return None
    least, most = (int(end) for end in ids.aminmax())
    if least < 0:
        return least
    return most if most >= limit else None


def check_sequences(name: str, tokens: Tensor, pad_id: int) -> Tensor:
    """Lengths ``[B]`` of the sequences in ``tokens [B, T]``: up to the last non-padding token.

    Raises:
        ValueError: a sequence is all padding; names its row (see ``can_read``).

    >>> check_sequences("source", torch.tensor([[5, 6, 0], [7, 0, 8]]), pad_id=0)
    tensor([2, 3])
    """
    column = torch.arange(1, tokens.size(1) + 1, device=tokens.device)
    lengths = (
        (column * (tokens != pad_id)).amax(1)
        if tokens.size(1)
        else column.new_zeros(tokens.size(0))
    )
    if can_read(lengths) and (empty := (lengths == 0).nonzero()).numel():
        raise ValueError(
            f"{name}: sequence {int(empty[0])} is nothing but padding (pad_id={pad_id}); give at "
            f"least one token, such as the end of a sentence"
        )
    return lengths
