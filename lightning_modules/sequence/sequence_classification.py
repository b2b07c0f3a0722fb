"""One class for each sequence of tokens: topics, languages, opinions."""

from collections.abc import Mapping
from typing import Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import (
    classification_metrics,
    cross_entropy,
    update_classification,
)
from trellis.lightning_modules.engine.objective import Objective, Stage, build_network
from trellis.networks.sequence.recurrent import RecurrentClassifier
from trellis.spec import LabelledTokenSpec


class TokenNetworkFactory(Protocol):
    """Builds a network that reads tokens from the sizes of its data; called by keyword."""

    def __call__(self, num_tokens: int, out_channels: int, *, pad_id: int) -> nn.Module: ...


class SequenceClassification(Objective):
    """Cross-entropy of one label per sequence.

    Batch: ``(tokens, y)`` with token ids ``tokens [B, T]``, padded with ``pad_id``, and labels
    ``y [B]``.

    Args:
        network: from ``(num_tokens, out_channels, pad_id)`` to a module
            ``tokens -> logits [B, out_channels]``.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler; a ``Schedule`` steps once a step, others
            once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
    Raises:
        ValueError: the tokens of the data have no ``pad_id``.
    """

    spec_type = LabelledTokenSpec

    def __init__(
        self,
        network: TokenNetworkFactory = RecurrentClassifier,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: LabelledTokenSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.save_hyperparameters()
        self.network_factory = network

    def build(self, spec: LabelledTokenSpec) -> None:
        sizes = token_sizes(spec, self)
        self.network = build_network(self.network_factory, sizes, "tokens", objective=self)

    def metrics(self, spec: LabelledTokenSpec) -> Mapping[str, Metric]:
        return classification_metrics(spec.out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, y = batch
        loss = cross_entropy(self(tokens), y)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        tokens, y = batch
        update_classification(self.evaluated(stage), self(tokens), y)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Class probabilities, ``[B, out_channels]``."""
        tokens, _ = batch
        return self(tokens).softmax(-1)


def token_sizes(spec: LabelledTokenSpec, objective: Objective) -> dict[str, int]:
    """What a ``TokenNetworkFactory`` is called with.

    Raises:
        ValueError: the tokens have no ``pad_id``.
    """
    if spec.tokens.pad_id is None:
        name = type(objective).__name__
        raise ValueError(f"{name}: spec.tokens has no pad_id; give the data's tokenizer one")
    return {
        "num_tokens": spec.tokens.num_tokens,
        "out_channels": spec.out_channels,
        "pad_id": spec.tokens.pad_id,
    }
