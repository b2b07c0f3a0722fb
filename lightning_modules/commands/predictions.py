"""Predictions as files that other programs read."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch


def write_predictions(batches: list[Any], model: Any, folder: Path) -> Path:
    """A line for each text, or a row for each example as CSV under the names of the classes.

    Rows of sequences are as long as these are.
    """
    if all(isinstance(batch, list) for batch in batches):
        lines = [" ".join(text.splitlines()) for batch in batches for text in batch]
        (folder / "predictions.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return folder / "predictions.txt"
    if all(isinstance(batch, dict) for batch in batches):
        columns = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        table = zip(*(column.tolist() for column in columns.values()), strict=True)
        return _write_table(columns, table, folder)
    if not all(isinstance(batch, torch.Tensor) and batch.ndim == 2 for batch in batches):
        torch.save(batches, folder / "predictions.pt")
        return folder / "predictions.pt"
    rows = [row for batch in batches for row in batch.tolist()]
    width = max(map(len, rows), default=0)
    classes = getattr(getattr(model, "spec", None), "classes", ())
    return _write_table(classes if len(classes) == width else range(width), rows, folder)


def _write_table(names: Iterable[Any], rows: Iterable[Iterable[Any]], folder: Path) -> Path:
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
    return folder / "predictions.csv"
