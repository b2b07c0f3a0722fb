"""Pictures and tables to whatever a run logs to: W&B, TensorBoard, MLflow, and files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from trellis.lightning_modules.engine.lightning_private import logged_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@rank_zero_only
def log_picture(trainer: L.Trainer, name: str, figure: Figure) -> None:
    """Write ``pictures/NAME.png`` in the run folder, and to W&B, TensorBoard and MLflow.

    A picture logged again replaces the file; loggers keep both, at their steps. Nothing happens
    with ``fast_dev_run`` and on processes other than the first.

    Args:
        trainer: whose loggers and folder are used; Lightning's own trainer will do.
        name: such as ``val/confusion_matrix``.
        figure: of matplotlib.
    Raises:
        ValueError: the name would leave the folder of the pictures.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    path = _file(trainer, name, ".png")
    figure.savefig(path)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step=logged_step(trainer))
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, logged_step(trainer), close=False)
        elif isinstance(logger, MLFlowLogger):
            _to_mlflow(logger, name, path)


@rank_zero_only
def log_table(
    trainer: L.Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Write ``pictures/NAME.csv`` in the run folder, and to W&B, TensorBoard and MLflow.

    Args:
        trainer: see ``log_picture``.
        name: see ``log_picture``.
        columns: their names.
        rows: a value per column each.
    Raises:
        ValueError: a row has another number of values, or see ``log_picture``.
    """
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"table {name}: {len(columns)} columns, but a row of {len(row)}")
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    path = _file(trainer, name, ".csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            data = [list(row) for row in rows]
            logger.log_table(name, list(columns), data, step=logged_step(trainer))
        elif isinstance(logger, TensorBoardLogger):
            text = _markdown(columns, rows)
            logger.experiment.add_text(name, text, logged_step(trainer))
        elif isinstance(logger, MLFlowLogger):
            _to_mlflow(logger, name, path)


def run_dir(trainer: L.Trainer) -> Path:
    """The folder of the run, for the first process alone: it asks no other, unlike ``log_dir``."""
    folder = getattr(trainer, "run_folder", None)
    if folder is not None:
        return folder.path
    for logger in trainer.loggers:
        found = getattr(logger, "log_dir", None) or logger.save_dir
        if found:
            return Path(found)
    return Path(trainer.default_root_dir)


def _file(trainer: L.Trainer, name: str, suffix: str) -> Path:
    parts = name.split("/")
    if not all(part.strip(". ") for part in parts) or "\\" in name:
        raise ValueError(f"name={name!r}: give names joined by /, such as val/confusion_matrix")
    path = run_dir(trainer).joinpath("pictures", *parts[:-1], parts[-1] + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _to_mlflow(logger: MLFlowLogger, name: str, path: Path) -> None:
    """Keep a file as an artifact of the run, under the name that it has in the run folder."""
    folder = "/".join(("pictures", *name.split("/")[:-1]))
    logger.experiment.log_artifact(logger.run_id, str(path), folder)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
