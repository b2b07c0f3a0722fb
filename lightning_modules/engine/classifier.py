"""The base of objectives that predict classes."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least, probability
from trellis.lightning_modules.engine.evaluation import (
    IGNORED,
    Accuracy,
    BatchMean,
    cross_entropy,
)
from trellis.lightning_modules.engine.objective import Objective, Stage

Split = Literal["train", "val", "test", "predict"]


class Classifier(Objective):
    """Base of the objectives that predict classes: cross-entropy, in nats.

    A subclass defines ``build`` (its ``network``) and ``logits_and_labels``. Training, evaluation,
    prediction and the pictures of callbacks follow. It may override ``loss``, and with it
    ``decide``. Labels of -100 are
    ignored. Evaluation reports the loss without label smoothing, so that runs can be compared.

    Args:
        network: factory of the network; ``build`` calls it.
        label_smoothing: share of the target distribution that is uniform over the classes, in
            [0, 1].
    Raises:
        ValueError: ``label_smoothing`` lies outside [0, 1], or the data has fewer than 2 classes.
    """

    network: nn.Module

    def __init__(
        self,
        network: Callable[..., nn.Module],
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: Any = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network
        self.label_smoothing = probability("label_smoothing", label_smoothing)

    @abstractmethod
    def logits_and_labels(self, batch: Any, split: Split) -> tuple[Tensor, Tensor]:
        """Logits ``[..., out_channels]`` and labels ``[...]`` of the examples in ``batch``.

        Args:
            batch: of the data.
            split: whose examples, where a batch holds those of several; all of them for
                ``predict``, for which labels may be missing.
        """

    def metrics(self, spec: Any) -> Mapping[str, Metric]:
        """Cross-entropy and accuracy.

        A subclass may add metrics, which are updated with the predicted classes and the labels;
        one named ``auc`` with the logits and the labels.

        Raises:
            ValueError: there are fewer than two classes.
        """
        name = f"{type(self).__name__}: out_channels"
        at_least(2, name, spec.out_channels, ", by data of more classes")
        return {"loss": BatchMean(), "accuracy": Accuracy()}

    def forward(self, *inputs: Tensor, **options: Tensor) -> Tensor:
        """Logits ``[..., out_channels]``: what ``network`` returns for these inputs."""
        return self.network(*inputs, **options)

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy in nats over the labels that are not ignored, a scalar.

        Args:
            logits: ``[..., out_channels]``.
            labels: ``[...]``; those of -100 are ignored.
            label_smoothing: ``self.label_smoothing`` in training, 0 in evaluation.
        """
        return cross_entropy(logits, labels, label_smoothing)

    def decide(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The classes ``[...]`` that are predicted.

        Args:
            logits: ``[..., out_channels]``.
            labels: ``[...]``, of which only may be read where they are ignored.
        """
        return logits.argmax(-1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits, labels = self.logits_and_labels(batch, "train")
        loss = self.loss(logits, labels, self.label_smoothing)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Any, stage: Stage) -> None:
        logits, labels = self.logits_and_labels(batch, stage)
        count = (labels != IGNORED).sum()
        # The mean over no labels at all is NaN, which would stay in the sum over the batches.
        loss = self.loss(logits, labels).where(count > 0, 0)
        predicted = self.decide(logits, labels)
        inputs = {"loss": (loss, count), "auc": (logits, labels)}
        for name, metric in self.evaluated(stage).items(keep_base=True):
            metric.update(*inputs.get(name, (predicted, labels)))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities ``[..., out_channels]`` of all examples in ``batch``."""
        logits, _ = self.logits_and_labels(batch, "predict")
        return logits.softmax(-1)
