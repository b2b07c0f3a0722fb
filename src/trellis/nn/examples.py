"""Examples of any shape and their labels: for networks that model what an example looks like."""

import math

import torch.nn.functional as F
from torch import Tensor


def num_entries(shape: tuple[int, ...]) -> int:
    """Entries of an example of ``shape``.

    Raises:
        ValueError: it has none.

    >>> num_entries((1, 28, 28))
    784
    """
    if not shape or min(shape) < 1:
        raise ValueError(f"shape={tuple(shape)}: give that of one example, as (784,)")
    return math.prod(shape)


def check_examples(x: Tensor, shape: tuple[int, ...], network: str) -> None:
    """``x [B, *shape]`` and nothing else.

    Raises:
        ValueError: of another shape; names both.
    """
    if x.shape[1:] != shape:
        sizes = ", ".join(map(str, shape))
        raise ValueError(
            f"x {list(x.shape)} does not fit {network}(shape={tuple(shape)}): give x [B, {sizes}]"
        )


def check_labels(y: Tensor | None, num_classes: int, network: str) -> None:
    """``y [B]`` for a network that knows classes, no y for one that does not.

    Args:
        y: labels.
        num_classes: of the network; 0 if it knows none.
        network: who asks.
    Raises:
        ValueError: y is missing or not wanted, has another shape, or holds a label outside
            ``0 .. num_classes - 1`` (not looked for on a GPU, which would have to wait for the
            answer).
    """
    if num_classes == 0:
        if y is not None:
            raise ValueError(f"y is given, but {network}(num_classes=0) is not conditional")
        return
    if y is None:
        raise ValueError(f"{network}(num_classes={num_classes}) is conditional: give labels y [B]")
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(f"y {list(y.shape)} of {y.dtype}: give labels [B], of torch.long")
    if y.device.type == "cpu" and y.numel():
        least, most = (int(end) for end in y.aminmax())
        if least < 0 or most >= num_classes:
            wrong = least if least < 0 else most
            raise ValueError(
                f"label {wrong} is out of range: {network}(num_classes={num_classes}) takes 0 to "
                f"{num_classes - 1}"
            )


def one_hot(y: Tensor, num_classes: int) -> Tensor:
    """A row of zeros with a one at the label.

    Shape:
        y ``[B]`` -> ``[B, num_classes]``, of floats

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return F.one_hot(y, num_classes).float()
