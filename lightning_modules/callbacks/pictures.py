"""Pictures of a run when it ends; the training loop never waits for them."""

import csv
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from trellis.analysis import confusion_matrix, graph_picture, learning_curves
from trellis.analysis.pictures import empty_figure
from trellis.lightning_modules.callbacks.after_fit import evaluation, report, validation_batches
from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.logging import log_picture, log_table
from trellis.spec import NodeSpec


class ConfusionMatrix(L.Callback):
    """Predicted against true classes: ``val/confusion_matrix`` after a fit and
    ``test/confusion_matrix`` after a test, as a picture and as a table of counts.

    After a fit the validation split is predicted once more with the current weights; a test
    predicts every batch twice. The counts of all processes are added up.

    Raises:
        ValueError: the objective is not a ``Classifier``.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # fails now, not after the training, where matplotlib is missing
        if not isinstance(pl_module, Classifier):
            raise _does_not("classifies, such as Classification or Tagging", self, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._start(pl_module)
        with evaluation(pl_module):
            for batch in validation_batches(trainer):
                self._count(trainer, pl_module, batch, "val")
        self._show(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start(pl_module)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        with isolate_rng():
            self._count(trainer, pl_module, batch, "test")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    def _start(self, pl_module: L.LightningModule) -> None:
        number = _spec(pl_module).out_channels
        self._counts = torch.zeros(number * number, dtype=torch.long, device=pl_module.device)

    def _count(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        split: Literal["val", "test"],
    ) -> None:
        assert self._counts is not None
        predicted, labels = _predicted_and_labels(trainer, pl_module, batch, split)
        known = labels >= 0
        pairs = labels[known] * _spec(pl_module).out_channels + predicted[known]
        self._counts += torch.bincount(pairs, minlength=len(self._counts))

    def _show(
        self, trainer: L.Trainer, pl_module: L.LightningModule, split: Literal["val", "test"]
    ) -> None:
        assert self._counts is not None
        counts = trainer.strategy.reduce(self._counts, reduce_op="sum")
        self._counts = None
        if isinstance(counts, Tensor) and counts.any():
            _show_confusion(trainer, _spec(pl_module), counts.cpu(), split)


@rank_zero_only
def _show_confusion(trainer: L.Trainer, spec: Any, counts: Tensor, split: str) -> None:
    counts = counts.view(spec.out_channels, spec.out_channels)
    classes = list(spec.classes) or [str(index) for index in range(len(counts))]
    log_picture(trainer, f"{split}/confusion_matrix", confusion_matrix(counts, classes))
    rows = [[name, *row] for name, row in zip(classes, counts.tolist(), strict=True)]
    log_table(trainer, f"{split}/confusion_counts", ["true class", *classes], rows)


class GraphPicture(L.Callback):
    """The graph with its nodes coloured by predicted class and wrong predictions ringed:
    ``graph``, after a fit.

    Args:
        max_nodes: a larger graph is not drawn; too little of it could be seen.
    Raises:
        ValueError: the objective is not a ``Classifier`` of nodes.
    """

    def __init__(self, max_nodes: int = 20_000) -> None:
        self.max_nodes = max_nodes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # fails now, not after the training, where matplotlib is missing
        if not isinstance(pl_module, Classifier) or pl_module.spec_type is not NodeSpec:
            raise _does_not("classifies nodes, such as NodeClassification", self, pl_module)

    @report
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with evaluation(pl_module):
            batch = next(validation_batches(trainer), None)
            if batch is None or batch.num_nodes > self.max_nodes:
                size = "no graph to validate" if batch is None else f"{batch.num_nodes} nodes"
                rank_zero_warn(f"GraphPicture(max_nodes={self.max_nodes}) draws nothing: {size}")
                return
            predicted, labels = _predicted_and_labels(trainer, pl_module, batch, "predict")
        figure = graph_picture(
            batch.edge_index, predicted, labels, classes=tuple(_spec(pl_module).classes)
        )
        log_picture(trainer, "graph", figure)


class LearningCurves(L.Callback):
    """Every metric over the steps: ``learning_curves``, after a fit, from ``metrics.csv``."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # fails now, not after the training, where matplotlib is missing

    @report
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.save()
                path = Path(logger.experiment.metrics_file_path)
                if path.is_file():
                    with path.open(newline="") as file:
                        figure = learning_curves(csv.DictReader(file))
                    log_picture(trainer, "learning_curves", figure)
                    return
        rank_zero_warn("LearningCurves draws nothing: the run wrote no metrics.csv")


def _predicted_and_labels(
    trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, split: Split
) -> tuple[Tensor, Tensor]:
    assert isinstance(pl_module, Classifier)  # as setup made sure
    with trainer.precision_plugin.forward_context():
        logits, labels = pl_module.logits_and_labels(batch, split)
    return pl_module.decide(logits, labels), labels


def _spec(pl_module: L.LightningModule) -> Any:
    return pl_module.spec


def _does_not(needed: str, callback: L.Callback, pl_module: L.LightningModule) -> ValueError:
    name, objective = type(callback).__name__, type(pl_module).__name__
    return ValueError(f"{name} needs an objective that {needed}; {objective} does not")
