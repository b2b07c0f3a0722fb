"""One class for each token: parts of speech, names of people and places."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from trellis.lightning_modules.engine.evaluation import BatchMean, cross_entropy
from trellis.lightning_modules.engine.objective import Objective, Stage, build_network
from trellis.lightning_modules.sequence.sequence_classification import (
    TokenNetworkFactory,
    token_sizes,
)
from trellis.networks.sequence.recurrent import RecurrentTagger
from trellis.sequence.entities import Tags, bio_tags, entity_counts
from trellis.sequence.masking import IGNORED
from trellis.spec import LabelledTokenSpec


class Tagging(Objective):
    """Cross-entropy of one label per token.

    Batch: ``(tokens, tags)``, both ``[B, T]``; a tag of -100 is not counted: padding, and the
    later pieces of a word. Where the tags are ``O``, ``B-KIND`` and ``I-KIND``, precision, recall
    and F1 of whole entities are reported beside the accuracy of tokens, a row being a sentence.

    Args:
        network: from ``(num_tokens, out_channels, pad_id)`` to a module
            ``tokens -> logits [B, T, out_channels]``.
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
        network: TokenNetworkFactory = RecurrentTagger,
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
        number = spec.out_channels
        if number < 2:
            raise ValueError(f"out_channels={number}: to tag takes at least 2 classes")
        metrics: dict[str, Metric] = {
            "loss": BatchMean(),
            "accuracy": MulticlassAccuracy(
                number, average="micro", ignore_index=IGNORED, validate_args=False
            ),
        }
        if bio_tags(spec.classes) is not None:
            metrics["entities"] = EntityScores(spec.classes)
        return metrics

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network(tokens)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, tags = batch
        loss = token_cross_entropy(self(tokens), tags)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        tokens, tags = batch
        logits, metrics = self(tokens), self.evaluated(stage)
        if count := int((tags != IGNORED).sum()):
            metrics["loss"].update(token_cross_entropy(logits, tags), count)
            predicted = logits.argmax(-1)
            metrics["accuracy"].update(predicted, tags)
            if "entities" in metrics:
                metrics["entities"].update(predicted, tags)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Probabilities of the tags of each token, ``[B, T, out_channels]``."""
        tokens, _ = batch
        return self(tokens).softmax(-1)


def token_cross_entropy(logits: Tensor, tags: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens whose tag is not -100.

    Args:
        logits: ``[B, T, out_channels]``.
        tags: ``[B, T]``.
    Raises:
        ValueError: the shapes do not fit, or see ``evaluation.cross_entropy``.
    """
    if logits.dim() != 3 or logits.shape[:2] != tags.shape:
        raise ValueError(
            f"tags {list(tags.shape)} do not fit logits {list(logits.shape)}: give a tag for each "
            f"token, [B, T], and a network with logits [B, T, out_channels]"
        )
    return cross_entropy(logits.flatten(0, 1), tags.flatten())


class EntityScores(Metric):
    """Precision, recall and F1 of whole entities over a split; 0 where there are none.

    Args:
        classes: names of the tags, in order of their labels.
    Raises:
        ValueError: they are not ``O``, ``B-KIND`` and ``I-KIND``.

    Source: Tjong Kim Sang and De Meulder 2003, section 2.3.
    """

    full_state_update = False
    correct: Tensor
    predicted: Tensor
    gold: Tensor

    kinds: Tensor
    begins: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        if (tags := bio_tags(classes)) is None:
            raise ValueError(f"classes={list(classes)}: give O, and B-KIND and I-KIND of kinds")
        for name, table in tags._asdict().items():
            self.register_buffer(name, table, persistent=False)
        for name in ("correct", "predicted", "gold"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, gold: Tensor) -> None:
        """Count the sentences of a batch, ``[B, T]`` each."""
        counts = entity_counts(predicted, gold, Tags(self.kinds, self.begins))
        self.correct += counts.correct
        self.predicted += counts.predicted
        self.gold += counts.gold

    def compute(self) -> dict[str, Tensor]:
        """``precision``, ``recall`` and ``f1``."""
        return {
            "precision": self.correct / self.predicted.clamp(min=1),
            "recall": self.correct / self.gold.clamp(min=1),
            "f1": 2 * self.correct / (self.predicted + self.gold).clamp(min=1),
        }
