"""Predictions as files that other programs read."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def write_predictions(
    batches: list[Any], model: Any, folder: Path, ids: Sequence[str] | None = None
) -> Path:
    """A line for each text, or a row for each example as CSV.

    Class probabilities stand under the names of the classes. Rows of sequences are as long as
    these are.

    Args:
        batches: what ``predict_step`` returned: lists of texts, tensors ``[B, C]``, or
            dictionaries or named tuples of tensors ``[B]`` or ``[B, T]`` for T targets.
            Anything else is written as it is, to ``predictions.pt``.
        model: the objective; its ``spec`` has the names of classes and targets.
        folder: to write to.
        ids: of the examples, for the first column.
    """
    if all(isinstance(batch, list) for batch in batches):
        lines = [" ".join(text.splitlines()) for batch in batches for text in batch]
        (folder / "predictions.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return folder / "predictions.txt"
    spec = getattr(model, "spec", None)
    if all(isinstance(batch, dict) or hasattr(batch, "_asdict") for batch in batches):
        named = [batch if isinstance(batch, dict) else batch._asdict() for batch in batches]
        if columns := dict(_columns(named, getattr(spec, "target_names", ()))):
            table = zip(*columns.values(), strict=True)
            return _write_table(columns, table, folder, ids)
    if not all(isinstance(batch, Tensor) and batch.ndim == 2 for batch in batches):
        torch.save(batches, folder / "predictions.pt")
        return folder / "predictions.pt"
    rows = [row for batch in batches for row in batch.tolist()]
    width = max(map(len, rows), default=0)
    classes = getattr(spec, "classes", ())
    return _write_table(classes if len(classes) == width else range(width), rows, folder, ids)


def _columns(
    batches: list[dict[str, Tensor]], targets: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """The columns of a table, ``TARGET_NAME`` where there is one for each target."""
    for name in batches[0]:
        values = torch.cat([batch[name] for batch in batches])
        if values.ndim == 1:
            yield name, values.tolist()
        else:
            known = len(targets) == values.size(1)
            for target, column in zip(
                targets if known else range(values.size(1)), values.unbind(1), strict=True
            ):
                yield f"{target}_{name}", column.tolist()


def _write_table(
    names: Iterable[Any], rows: Iterable[Iterable[Any]], folder: Path, ids: Sequence[str] | None
) -> Path:
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if ids is None:
            writer.writerow(names)
            writer.writerows(rows)
        else:
            # There are fewer rows than ids where the trainer was told to predict some batches.
            writer.writerow(["id", *names])
            writer.writerows([name, *row] for name, row in zip(ids, rows, strict=False))
    return folder / "predictions.csv"
