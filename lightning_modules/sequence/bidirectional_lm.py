"""Language modelling in both directions, to pretrain vectors of words in context."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import BatchMean, Perplexity
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.sequence.spelling import read_letters, spelled
from trellis.sequence.tokenizer import SPECIAL, from_json
from trellis.spec import TokenSpec


class SpelledLMFactory(Protocol):
    """Builds a language model of both directions from the size of its vocabulary."""

    def __call__(self, num_tokens: int) -> nn.Module: ...


class BidirectionalLM(Objective):
    """Cross-entropy of each word given those before it, and given those after it, in nats.

    Batch: token ids ``[B, T]``, windows of a text; which letters a token has is what its
    tokenizer says. Names of special tokens that a text is written with, such as ``<eos>`` and
    ``<unk>``, have none, as special tokens elsewhere.

    Evaluations report the mean of both losses and its exponential; predictions are the
    log-probabilities of all words but the first and the last, from both sides. How long the
    longest word of a batch is, and which words are rare, is read: a step waits for a GPU.

    Args:
        network: from ``num_tokens`` to a module ``characters [B, T, C] -> log-probabilities both
            ways``, with a method ``log_prob`` of the words of a text alone, as ``ELMo``.
    Raises:
        ValueError: the data have no tokenizer.

    Source: Peters et al. 2018, section 3.1.
    """

    spec_type = TokenSpec
    table: Tensor

    def __init__(
        self,
        network: SpelledLMFactory,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TokenSpec | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory = network

    def build(self, spec: TokenSpec) -> None:
        if not spec.tokenizer:
            raise ValueError("BidirectionalLM reads letters, and these tokens are no text: give "
                             "WikiText2, or TextCorpus with a WordTokenizer")  # fmt: skip
        self.build_network({"num_tokens": spec.num_tokens}, "characters")
        tokenizer = from_json(spec.tokenizer)
        words = (tokenizer.decode([n]).strip() for n in range(spec.num_tokens))
        table = spelled(["" if word in SPECIAL else word for word in words])
        self.register_buffer("table", table, persistent=False)

    def metrics(self, spec: TokenSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), "perplexity": Perplexity()}

    def forward(self, tokens: Tensor) -> Any:
        """Log-probabilities ``[B, T - 1, num_tokens]`` of the next and of the previous words."""
        return self.network(self.characters(tokens))

    def characters(self, tokens: Tensor) -> Tensor:
        """How they are spelled: ``[B, T]`` -> ``[B, T, C]``."""
        return read_letters(self.table, tokens)

    def log_prob(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[B, T - 1]`` of words 2 to T, and of words 1 to T - 1."""
        if not isinstance(tokens, Tensor):
            raise ValueError(
                f"BidirectionalLM learns from token ids [B, T], and this data has batches of "
                f"{type(tokens).__name__}: give WikiText2"
            )
        network: Any = self.network
        found: tuple[Tensor, Tensor] = network.log_prob(self.characters(tokens), tokens)
        return found

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = -torch.stack(self.log_prob(batch)).mean()
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: Tensor, stage: Stage) -> None:
        log_prob = torch.stack(self.log_prob(batch))
        metrics = self.evaluated(stage)
        for name in ("loss", "perplexity"):
            metrics[name].update(-log_prob.mean(), log_prob.numel())

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Log-probabilities ``[B, T - 2]`` of inner words, the sum of both sides."""
        after, before = self.log_prob(batch)
        return after[:, :-1] + before[:, 1:]
