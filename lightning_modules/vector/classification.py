"""One class for each example: images, vectors, anything with a label of its own."""

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from trellis.lightning_modules.engine.build_network import channels, if_taken, require_targets
from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.networks.factory import NetworkFactory
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec


class Classification(Classifier):
    """Cross-entropy of one label per example.

    Batch: ``(x, y)`` with examples ``x [B, in_channels, *size]`` and labels ``y [B]``; those of
    mixup, to train on, are probabilities ``y [B, out_channels]``.

    Args:
        network: from ``(in_channels, out_channels)`` to a module ``x -> logits``.
    Raises:
        ValueError: see ``Classifier``; or the targets of the data are real numbers.
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
        super().__init__(network, optimizer, lr_scheduler, spec, label_smoothing)

    def build(self, spec: TensorSpec) -> None:
        advice = "use Regression, or data with labels"
        require_targets(spec, "labels", "Classification predicts", advice)
        sizes = channels(spec) | if_taken(spec, self.network_factory, "one_hot")
        self.build_network(sizes, "x")

    def logits_and_labels(
        self, batch: tuple[Tensor, Tensor], split: Split
    ) -> tuple[Tensor, Tensor]:
        x, y = batch
        return self(x), y

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if self.training and labels.is_floating_point() and labels.shape == logits.shape:
            return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return super().loss(logits, labels, label_smoothing)
