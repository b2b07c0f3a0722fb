"""BERT's pretraining: masked tokens, and whether two sentences are in order."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import Totals, cross_entropy
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.sequence.bert import BertPretraining
from trellis.sequence.batches import SentencePairs
from trellis.sequence.masking import IGNORED, mask_tokens
from trellis.spec import TokenSpec


class MaskedLMFactory(Protocol):
    """Builds a network that predicts masked tokens and the order of sentences; called by keyword.

    The network maps ``(tokens [B, T], segments [B, T], chosen)`` to logits of the tokens and
    logits ``[B, 2]`` of the order. Those of the tokens are ``[B, T, num_tokens]`` where ``chosen``
    is ``None``, and ``[N, num_tokens]`` where it is a mask ``[B, T]`` that is true for N tokens.
    """

    def __call__(self, num_tokens: int, *, pad_id: int) -> nn.Module: ...


class MaskedLM(Objective):
    """Cross-entropy of masked tokens, plus that of the order of two sentences, in nats.

    Batch: ``SentencePairs``. Tokens are masked anew in each training step; in evaluation the
    mask depends on the batch alone, so that epochs and runs can be compared. A step reads which
    tokens are masked, and so waits for an accelerator: logits are made of those alone.

    Args:
        network: from ``(num_tokens, pad_id)`` to a module
            ``(tokens, segments, chosen) -> (token_logits, order_logits)``.
        mask_probability: share of the ordinary tokens that the network has to predict.
    Raises:
        ValueError: ``mask_probability`` lies outside (0, 1], or the data has no ``mask_id`` or
            ``pad_id``.

    Source: Devlin et al. 2019, section 3.1.
    """

    spec_type = TokenSpec

    def __init__(
        self,
        network: MaskedLMFactory = BertPretraining,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TokenSpec | None = None,
        mask_probability: float = 0.15,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        if not 0 < mask_probability <= 1:
            raise ValueError(f"mask_probability={mask_probability}: give a share in (0, 1]")
        self.network_factory, self.mask_probability = network, mask_probability

    def build(self, spec: TokenSpec) -> None:
        if spec.mask_id is None or spec.pad_id is None:
            missing = "mask_id" if spec.mask_id is None else "pad_id"
            raise ValueError(f"MaskedLM: spec has no {missing}; give the data's tokenizer one")
        sizes = {"num_tokens": spec.num_tokens, "pad_id": spec.pad_id}
        self.build_network(sizes, "tokens", "segments", "chosen")

    def metrics(self, spec: TokenSpec) -> Mapping[str, Metric]:
        return {"predictions": MaskedLMScores()}

    def forward(
        self, tokens: Tensor, segments: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of the tokens (or the chosen ones) and of the order: see ``MaskedLMFactory``."""
        return self.network(tokens, segments, chosen)

    def _predict(
        self, batch: SentencePairs, generator: torch.Generator | None
    ) -> "MaskedPredictions":
        _check_pairs(batch)
        spec = self.spec
        ids = (spec.pad_id, spec.bos_id, spec.eos_id, spec.unknown_id)
        masked = mask_tokens(
            batch.tokens,
            spec.num_tokens,
            spec.mask_id,
            special_ids=[i for i in ids if i is not None],
            probability=self.mask_probability,
            generator=generator,
        )
        chosen = masked.labels != IGNORED
        token_logits, order_logits = self(masked.tokens, batch.segments, chosen)
        return MaskedPredictions(token_logits, masked.labels[chosen], order_logits, batch.in_order)

    def training_step(self, batch: SentencePairs, batch_idx: int) -> Tensor:
        predictions = self._predict(batch, None)
        tokens, order = predictions.token_loss(), predictions.order_loss()
        self.log_train(loss=tokens + order, token_loss=tokens, order_loss=order)
        return tokens + order

    def evaluate(self, batch: SentencePairs, stage: Stage) -> None:
        _check_pairs(batch)
        seed = int(batch.tokens.sum())
        predictions = self._predict(batch, torch.Generator().manual_seed(seed))
        self.evaluated(stage)["predictions"].update(predictions)

    def predict_step(self, batch: SentencePairs, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The tokens with every [MASK] filled in, ``[B, T]``, and probabilities of the order."""
        _check_pairs(batch)
        masked = batch.tokens == self.spec.mask_id
        token_logits, order_logits = self(batch.tokens, batch.segments, masked)
        filled = batch.tokens.masked_scatter(masked, token_logits.argmax(-1))
        return filled, order_logits.softmax(-1)


def _check_pairs(batch: object) -> None:
    if not isinstance(batch, SentencePairs):
        raise ValueError(
            f"MaskedLM learns from SentencePairs, and this data has batches of "
            f"{type(batch).__name__}: give SentenceOrder(path=...), or another objective "
            f"(CausalLM for token ids)"
        )


class MaskedPredictions(NamedTuple):
    """Logits of N masked tokens and of the order of B pairs, and the true tokens and orders."""

    token_logits: Tensor
    tokens: Tensor
    order_logits: Tensor
    in_order: Tensor

    def token_loss(self) -> Tensor:
        """Mean cross-entropy of the masked tokens; 0 in a batch without any."""
        total = F.cross_entropy(self.token_logits, self.tokens, reduction="sum")
        return total / max(len(self.tokens), 1)

    def order_loss(self) -> Tensor:
        """Mean cross-entropy of the order."""
        return cross_entropy(self.order_logits, self.in_order)


class MaskedLMScores(Totals):
    """Loss in nats, perplexity and accuracy of masked tokens, accuracy of the order."""

    token_loss: Tensor
    num_tokens: Tensor
    correct_tokens: Tensor
    order_loss: Tensor
    num_pairs: Tensor
    correct_pairs: Tensor

    def __init__(self) -> None:
        counts = ("num_tokens", "correct_tokens", "num_pairs", "correct_pairs")
        super().__init__(*counts, sums=("token_loss", "order_loss"))

    def update(self, batch: MaskedPredictions) -> None:
        """Count a batch; all masked tokens have the same weight, and so have all pairs."""
        self.token_loss += batch.token_loss().detach() * len(batch.tokens)
        self.num_tokens += len(batch.tokens)
        self.correct_tokens += (batch.token_logits.argmax(-1) == batch.tokens).sum()
        self.order_loss += batch.order_loss().detach() * len(batch.in_order)
        self.num_pairs += len(batch.in_order)
        self.correct_pairs += (batch.order_logits.argmax(-1) == batch.in_order).sum()

    def compute(self) -> dict[str, Tensor]:
        """``loss`` is the sum of both losses; ``perplexity`` is that of the tokens alone."""
        token_loss = self.token_loss / self.num_tokens
        return {
            "loss": token_loss + self.order_loss / self.num_pairs,
            "perplexity": token_loss.exp(),
            "token_accuracy": self.correct_tokens / self.num_tokens,
            "order_accuracy": self.correct_pairs / self.num_pairs,
        }
