"""One class for each token: parts of speech, names of people and places."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.evaluation import Totals
from trellis.lightning_modules.sequence.sequence_classification import (
    TokenNetworkFactory,
    token_sizes,
)
from trellis.networks.sequence.recurrent import RecurrentTagger
from trellis.sequence.entities import Tags, bio_tags, entity_counts
from trellis.sequence.masking import IGNORED
from trellis.spec import LabelledTokenSpec


class Tagging(Classifier):
    """Cross-entropy of one label per token.

    Batch: ``(tokens, tags)``, both ``[B, T]``; the tag is -100 for padding and for all but the
    first piece of a word. Where the tags are ``O``, ``B-KIND`` and ``I-KIND``, precision, recall
    and F1 of whole entities are reported beside the accuracy of tokens, each row being a sentence.

    Args:
        network: from ``(num_tokens, out_channels, pad_id)`` to a module
            ``tokens -> logits [B, T, out_channels]``.
    Raises:
        ValueError: see ``Classifier``; or the tokens of the data have no ``pad_id``.
    """

    spec_type = LabelledTokenSpec

    def __init__(
        self,
        network: TokenNetworkFactory = RecurrentTagger,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: LabelledTokenSpec | None = None,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)

    def build(self, spec: LabelledTokenSpec) -> None:
        self.build_network(token_sizes(spec, self), "tokens")

    def metrics(self, spec: LabelledTokenSpec) -> Mapping[str, Metric]:
        metrics = super().metrics(spec)
        if bio_tags(spec.classes) is None:
            return metrics
        return {**metrics, "entities": EntityScores(spec.classes)}

    def logits_and_labels(
        self, batch: tuple[Tensor, Tensor], split: Split
    ) -> tuple[Tensor, Tensor]:
        tokens, tags = batch
        if tags.shape != tokens.shape:
            raise ValueError(
                f"Tagging learns one tag per token, {list(tokens.shape)}, and this data has "
                f"labels {list(tags.shape)}: give CoNLL, or the objective SequenceClassification"
            )
        return self(tokens), tags

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        """The tags of the words of each sentence, with spaces between them.

        Tags without names: their probabilities, as those of ``Classifier``.
        """
        probabilities = super().predict_step(batch, batch_idx)
        if not (classes := self.spec.classes):
            return probabilities
        predicted, words = probabilities.argmax(-1), batch[1] != IGNORED
        return [
            " ".join(classes[tag] for tag in row[inside].tolist())
            for row, inside in zip(predicted, words, strict=True)
        ]


class EntityScores(Totals):
    """Precision, recall and F1 of whole entities in a split; 0 where there are none.

    Args:
        classes: names of the tags, in order of their labels.
    Raises:
        ValueError: they are not ``O``, ``B-KIND`` and ``I-KIND``.

    Source: Tjong Kim Sang and De Meulder 2003, section 2.3.
    """

    correct: Tensor
    predicted: Tensor
    gold: Tensor

    kinds: Tensor
    begins: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__("correct", "predicted", "gold")
        if (tags := bio_tags(classes)) is None:
            raise ValueError(f"classes={list(classes)}: give O, B-KIND and I-KIND")
        for name, table in tags._asdict().items():
            self.register_buffer(name, table, persistent=False)

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
