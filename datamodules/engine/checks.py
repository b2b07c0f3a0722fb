"""Checks of values, made once when data is read: the first wrong example is named."""

from pathlib import Path

from torch import Tensor


def check_features(x: Tensor, source: str) -> None:
    """Check that all features are finite numbers.

    Args:
        x: dense ``[N, C]``.
        source: its name in the message: a file, a data set.
    Raises:
        ValueError: names the first one that is not.
    """
    if bool((finite := x.isfinite()).all()):
        return
    row, column = (~finite).nonzero()[0].tolist()[:2]
    raise ValueError(
        f"{source}: feature {column} of example {row} is {float(x[row, column])}: "
        f"replace it by a finite number"
    )


def check_labels(y: Tensor, num_classes: int, source: str) -> None:
    """Check that all labels are in ``0 .. num_classes - 1``.

    Args:
        y: labels ``[N]``.
        num_classes: number of classes.
        source: their name in the message.
    Raises:
        ValueError: names the first one that is not.
    """
    wrong = ((y < 0) | (y >= num_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{source}: label {int(y[row])} of example {row} is not in 0..{num_classes - 1}"
        )


def in_line(path: Path | str, line: int, problem: str, column: str | None = None) -> ValueError:
    """The error about what stands in a line of a file, or in one of its columns."""
    where = f"{path}, line {line}" + (f", column {column!r}" if column is not None else "")
    return ValueError(f"{where}: {problem}")
