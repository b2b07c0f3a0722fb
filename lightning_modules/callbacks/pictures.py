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
from trellis.lightning_modules.callbacks.after_fit import evaluation, validation_batches
from trellis.lightning_modules.engine.logging import log_picture, log_table
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.sequence.sequence_classification import SequenceClassification
from trellis.lightning_modules.sequence.tagging import Tagging
from trellis.lightning_modules.vector.classification import Classification


class ConfusionMatrix(L.Callback):
    """Which classes are taken for which: ``val/confusion_matrix`` after a fit, ``test/...`` after
    a test, as a picture and as a table of counts.

    After a fit the validation split is predicted once more with the weights at hand; a test
    predicts each batch once more. Processes add up what each has seen.

    Raises:
        ValueError: the objective does not classify.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        kinds = (Classification, NodeClassification, GraphClassification, SequenceClassification)
        _require(self, pl_module, *kinds, Tagging)

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
        predicted, labels = _predict(trainer, pl_module, batch).argmax(-1), _labels(batch)
        known = labels >= 0
        if not isinstance(batch, (tuple, list)) and f"{split}_mask" in batch:
            known &= batch[f"{split}_mask"]
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
    """The graph coloured by predicted class, wrong nodes ringed: ``graph``, after a fit.

    Args:
        max_nodes: of a larger graph no picture is drawn; it would show nothing.
    Raises:
        ValueError: the objective does not classify nodes.
    """

    def __init__(self, max_nodes: int = 20_000) -> None:
        self.max_nodes = max_nodes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _require(self, pl_module, NodeClassification)

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with evaluation(pl_module):
            batch = next(validation_batches(trainer), None)
            if batch is None or len(batch.y) > self.max_nodes:
                size = "no graph to validate" if batch is None else f"{len(batch.y)} nodes"
                rank_zero_warn(f"GraphPicture(max_nodes={self.max_nodes}) draws nothing: {size}")
                return
            predicted = _predict(trainer, pl_module, batch).argmax(-1)
        figure = graph_picture(
            batch.edge_index, predicted, batch.y, classes=tuple(_spec(pl_module).classes)
        )
        log_picture(trainer, "graph", figure)


class LearningCurves(L.Callback):
    """Every metric over the steps: ``learning_curves``, after a fit, from ``metrics.csv``."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _require(self, pl_module, L.LightningModule)

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
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


def _require(callback: L.Callback, pl_module: L.LightningModule, *kinds: type) -> None:
    """Refuse before the training what would fail after it."""
    empty_figure(1, 1)  # matplotlib is an extra
    if not isinstance(pl_module, kinds):
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"{type(callback).__name__} pictures classes: it works with {names}, "
            f"not with {type(pl_module).__name__}"
        )


def _predict(trainer: L.Trainer, pl_module: L.LightningModule, batch: Any) -> Tensor:
    with trainer.precision_plugin.forward_context():
        return pl_module.predict_step(batch, 0)


def _spec(pl_module: L.LightningModule) -> Any:
    return pl_module.spec


def _labels(batch: Any) -> Tensor:
    return batch[1] if isinstance(batch, (tuple, list)) else batch.y
