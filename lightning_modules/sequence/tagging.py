"""One class for each token: parts of speech, names of people and places."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from trellis.checks import choose_from
from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.evaluation import Totals
from trellis.lightning_modules.sequence.sequence_classification import (
    TokenNetworkFactory,
    token_sizes,
)
from trellis.networks.sequence.recurrent import RecurrentTagger
from trellis.sequence.entities import Tags, bio_allowed, bio_tags, entity_counts
from trellis.sequence.linear_chain_crf import LinearChainCRF
from trellis.sequence.masking import IGNORED
from trellis.sequence.packing import PackedTokens
from trellis.sequence.spelling import SpelledTokens
from trellis.signature import takes
from trellis.spec import LabelledTokenSpec

Output = Literal["softmax", "crf", "bio_crf"]
Batch = tuple[Tensor | SpelledTokens | PackedTokens, Tensor]


class Tagging(Classifier):
    """Cross-entropy of one label per token, or of the labels of a sentence together.

    Batch: ``(tokens, tags)``, both ``[B, T]``, or a ``SpelledTokens``, or in training a
    ``PackedTokens``, in place of ``tokens``; the tag is -100 for padding and for all but the first
    piece of a word. Where the tags are ``O``, ``B-KIND`` and ``I-KIND``, precision, recall and F1
    of whole entities are reported beside the accuracy of tokens, each row being a sentence.

    With a CRF the logits are its emissions: the loss is the negative log-probability of a
    sentence's tags in nats per tag, and the best sequence is predicted, not the best tag of each
    token.

    Args:
        network: from ``(num_tokens, out_channels, pad_id)`` to a module
            ``tokens -> logits [B, T, out_channels]``, or ``(tokens, characters) -> logits`` where
            the data has ``characters``.
        output: ``softmax`` of each token; ``crf``, a ``LinearChainCRF`` over them; or ``bio_crf``,
            in which an I- follows its B- or I- only.
    Raises:
        ValueError: see ``Classifier``; the tokens of the data have no ``pad_id``; an unknown
            ``output``, or ``bio_crf`` of tags that are not B- and I- of each kind.

    Source: Huang et al. 2015; Lample et al. 2016, section 2.2.
    """

    spec_type = LabelledTokenSpec

    def __init__(
        self,
        network: TokenNetworkFactory = RecurrentTagger,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: LabelledTokenSpec | None = None,
        output: Output = "softmax",
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)
        self.output = choose_from("output", output, Output)

    def build(self, spec: LabelledTokenSpec) -> None:
        inputs = ("tokens", "characters") if spec.characters else ("tokens",)
        self.build_network(token_sizes(spec, self), *inputs)
        self.crf = None
        if self.output != "softmax":
            allowed = bio_allowed(spec.classes) if self.output == "bio_crf" else None
            self.crf = LinearChainCRF(spec.out_channels, allowed)

    def metrics(self, spec: LabelledTokenSpec) -> Mapping[str, Metric]:
        metrics = super().metrics(spec)
        if bio_tags(spec.classes) is None:
            return metrics
        return {**metrics, "entities": EntityScores(spec.classes)}

    def logits_and_labels(self, batch: Batch, split: Split) -> tuple[Tensor, Tensor]:
        inputs, tags = batch
        parts = (inputs,) if isinstance(inputs, Tensor) else inputs
        if isinstance(inputs, PackedTokens):
            self._check_packed()
        if tags.shape != parts[0].shape:
            raise ValueError(
                f"Tagging learns one tag per token, {list(parts[0].shape)}, and this data has "
                f"labels {list(tags.shape)}: give CoNLL, or the objective SequenceClassification"
            )
        return self(*parts), tags

    def _check_packed(self) -> None:
        if self.crf is not None:
            raise ValueError(
                f"output={self.output!r}: a row of PackedSentences is no sentence; give the data "
                f"alone"
            )
        if not takes(self.network.forward, "positions"):
            raise ValueError(
                f"{type(self.network).__name__} reads no PackedSentences: give the data alone, or "
                f"choose BertTagger"
            )

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean over the tags that are not ignored, in nats, a scalar; see ``Classifier.loss``."""
        if self.crf is None:
            return super().loss(logits, labels, label_smoothing)
        return -self.crf(logits, labels).sum() / (labels != IGNORED).sum().clamp(min=1)

    def decide(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.crf is None:
            return super().decide(logits, labels)
        return self.crf.viterbi(logits, labels != IGNORED)

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """The tags of the words of each sentence, with spaces between them.

        Tags without names: their probabilities, as those of ``Classifier``.
        """
        logits, tags = self.logits_and_labels(batch, "predict")
        words = tags != IGNORED
        if not (classes := self.spec.classes):
            return logits.softmax(-1) if self.crf is None else self.crf.marginals(logits, words)
        return [
            " ".join(classes[tag] for tag in row[inside].tolist())
            for row, inside in zip(self.decide(logits, tags), words, strict=True)
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
