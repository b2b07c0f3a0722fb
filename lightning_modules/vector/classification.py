"""One class for each example: images, vectors, anything with a label of its own."""

from collections.abc import Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import (
    classification_metrics,
    cross_entropy,
    update_classification,
)
from trellis.lightning_modules.engine.objective import (
    NetworkFactory,
    Objective,
    Stage,
    build_network,
    channels,
)
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec


class Classification(Objective):
    """Cross-entropy of one label per example.

    Batch: ``(x, y)`` with examples ``x [B, in_channels, *size]`` and labels ``y [B]``. Evaluation
    reports the plain cross-entropy, whatever the smoothing, so that runs compare.

    Args:
        network: from ``(in_channels, out_channels)`` to a module ``x -> logits``.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1].
    Raises:
        ValueError: ``label_smoothing`` lies outside [0, 1].
    """

    spec_type = TensorSpec

    def __init__(
        self,
        network: NetworkFactory = MLP,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing}: give a share in [0, 1]")
        self.save_hyperparameters()
        self.network_factory, self.label_smoothing = network, label_smoothing

    def build(self, spec: TensorSpec) -> None:
        self.network = build_network(self.network_factory, channels(spec), "x", objective=self)

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return classification_metrics(spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = cross_entropy(self(x), y, self.label_smoothing)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        update_classification(self.evaluated(stage), self(x), y)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Class probabilities, ``[B, out_channels]``."""
        x, _ = batch
        return self(x).softmax(-1)
