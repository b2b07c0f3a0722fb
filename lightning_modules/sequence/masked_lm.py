"""Hidden tokens from those around them, and whether two sentences follow each other."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import cross_entropy
from trellis.lightning_modules.engine.objective import Objective, Stage, build_network
from trellis.networks.sequence.bert import BertPretraining
from trellis.sequence.batches import SentencePairs
from trellis.sequence.masking import IGNORED, mask_tokens
from trellis.spec import TokenSpec


class MaskedLMFactory(Protocol):
    """Builds a network that guesses hidden tokens and the order of sentences; called by keyword.

    The network maps ``(tokens [B, T], segments [B, T], chosen)`` to logits of the tokens and, as
    ``[B, 2]``, of the order. Those of the tokens are ``[B, T, num_tokens]`` where ``chosen`` is
    ``None``, and ``[N, num_tokens]`` where it is ``[B, T]`` and true for N of them.
    """

    def __call__(self, num_tokens: int, *, pad_id: int) -> nn.Module: ...


class MaskedLM(Objective):
    """Cross-entropy of hidden tokens, plus that of the order of two sentences, in nats.

    Batch: ``SentencePairs``. Each training step hides other tokens; in evaluation the tokens
    hidden in a batch depend on the batch alone, so epochs and runs compare.

    Args:
        network: from ``(num_tokens, pad_id)`` to a module
            ``(tokens, segments, chosen) -> (token_logits, order_logits)``.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler; a ``Schedule`` steps once a step, others
            once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
        mask_probability: share of the ordinary tokens to be guessed.
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
            raise ValueError(f"mask_probability={mask_probability}: give a share above 0, to 1")
        self.save_hyperparameters()
        self.network_factory, self.mask_probability = network, mask_probability

    def build(self, spec: TokenSpec) -> None:
        if spec.mask_id is None or spec.pad_id is None:
            missing = "mask_id" if spec.mask_id is None else "pad_id"
            raise ValueError(f"MaskedLM: spec has no {missing}; give the data's tokenizer one")
        sizes = {"num_tokens": spec.num_tokens, "pad_id": spec.pad_id}
        self.network = build_network(
            self.network_factory, sizes, "tokens", "segments", "chosen", objective=self
        )

    def metrics(self, spec: TokenSpec) -> Mapping[str, Metric]:
        return {"guesses": GuessScores()}

    def forward(
        self, tokens: Tensor, segments: Tensor, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits of the tokens, or of the chosen ones, and of the order: see the factory."""
        return self.network(tokens, segments, chosen)

    def _guess(self, batch: SentencePairs, generator: torch.Generator | None) -> "Guesses":
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
        return Guesses(token_logits, masked.labels[chosen], order_logits, batch.in_order)

    def training_step(self, batch: SentencePairs, batch_idx: int) -> Tensor:
        guesses = self._guess(batch, None)
        tokens, order = guesses.token_loss(), guesses.order_loss()
        self.log_train(loss=tokens + order, token_loss=tokens, order_loss=order)
        return tokens + order

    def evaluate(self, batch: SentencePairs, stage: Stage) -> None:
        seed = int(batch.tokens.sum())
        guesses = self._guess(batch, torch.Generator().manual_seed(seed))
        self.evaluated(stage)["guesses"].update(guesses)

    def predict_step(self, batch: SentencePairs, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The tokens with each [MASK] filled in, ``[B, T]``, and probabilities of the order."""
        hidden = batch.tokens == self.spec.mask_id
        token_logits, order_logits = self(batch.tokens, batch.segments, hidden)
        filled = batch.tokens.masked_scatter(hidden, token_logits.argmax(-1))
        return filled, order_logits.softmax(-1)


class Guesses(NamedTuple):
    """Logits of N hidden tokens and of the order of B pairs, and what they should have said."""

    token_logits: Tensor
    tokens: Tensor
    order_logits: Tensor
    in_order: Tensor

    def token_loss(self) -> Tensor:
        """Mean cross-entropy of the hidden tokens; 0 where a batch hides none."""
        total = F.cross_entropy(self.token_logits, self.tokens, reduction="sum")
        return total / max(len(self.tokens), 1)

    def order_loss(self) -> Tensor:
        """Mean cross-entropy of the order."""
        return cross_entropy(self.order_logits, self.in_order)


class GuessScores(Metric):
    """Loss in nats, perplexity and accuracy of hidden tokens, accuracy of the order."""

    full_state_update = False
    token_loss: Tensor
    num_tokens: Tensor
    right_tokens: Tensor
    order_loss: Tensor
    num_pairs: Tensor
    right_pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("token_loss", "order_loss"):
            self.add_state(name, torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("num_tokens", "right_tokens", "num_pairs", "right_pairs"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, guesses: Guesses) -> None:
        """Count a batch: each hidden token and each pair of sentences weighs alike."""
        self.token_loss += guesses.token_loss().detach() * len(guesses.tokens)
        self.num_tokens += len(guesses.tokens)
        self.right_tokens += (guesses.token_logits.argmax(-1) == guesses.tokens).sum()
        self.order_loss += guesses.order_loss().detach() * len(guesses.in_order)
        self.num_pairs += len(guesses.in_order)
        self.right_pairs += (guesses.order_logits.argmax(-1) == guesses.in_order).sum()

    def compute(self) -> dict[str, Tensor]:
        """``loss`` is the sum of both losses; ``perplexity`` is that of the tokens alone."""
        token_loss = self.token_loss / self.num_tokens
        return {
            "loss": token_loss + self.order_loss / self.num_pairs,
            "perplexity": token_loss.exp(),
            "token_accuracy": self.right_tokens / self.num_tokens,
            "order_accuracy": self.right_pairs / self.num_pairs,
        }
