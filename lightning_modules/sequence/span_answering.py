"""Answers to questions that are spans of a passage."""

from collections.abc import Mapping
from typing import Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one
from trellis.lightning_modules.engine.evaluation import BatchMean, Totals, cross_entropy
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.lightning_modules.sequence.sequence_classification import vocabulary_sizes
from trellis.networks.sequence.bert import BertAnswering
from trellis.sequence.answers import (
    PassageWindows,
    best_spans,
    exact_match,
    token_f1,
)
from trellis.spec import QuestionSpec


class AnsweringFactory(Protocol):
    """Builds a network that finds answers; called by keyword.

    The network maps ``(tokens [B, T], segments [B, T])`` to logits ``[B, T, 2]`` of the first and
    the last token of the answer.
    """

    def __call__(self, num_tokens: int, *, pad_id: int) -> nn.Module: ...


class SpanAnswering(Objective):
    """Cross-entropy of the first and of the last token of the answer, the mean of both, in nats.

    Batch: ``PassageWindows``. An answer that a window lacks is its first token, the [CLS]. Tokens
    of the question are no answer: their logits count as minus infinity.

    Evaluation finds the best span of all windows of a question, and reports ``exact_match`` and
    ``f1`` of its text as SQuAD's evaluation script does, in shares of 1. Where the data has
    questions without an answer, none is given if the score of the [CLS] is higher, in the window
    where it is lowest, by more than ``null_margin``.

    Args:
        network: from ``(num_tokens, pad_id)`` to a module
            ``(tokens, segments) -> logits [B, T, 2]``.
        max_answer_length: tokens of the longest answer that is given.
        null_margin: see above; tuned on validation data, where there is need.
    Raises:
        ValueError: ``max_answer_length`` is below 1, or the tokens have no ``pad_id``.

    Source: Devlin et al. 2019, sections 4.2 and 4.3. Deviates: the published code lets the
    question compete in training.
    """

    spec_type = QuestionSpec
    monitor = "val/f1"
    monitor_mode = "max"

    def __init__(
        self,
        network: AnsweringFactory = BertAnswering,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: QuestionSpec | None = None,
        max_answer_length: int = 30,
        null_margin: float = 0.0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory, self.null_margin = network, null_margin
        self.max_answer_length = at_least_one("max_answer_length", max_answer_length)

    def build(self, spec: QuestionSpec) -> None:
        self.build_network(vocabulary_sizes(spec.tokens, self), "tokens", "segments")

    def metrics(self, spec: QuestionSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), "answers": AnswerScores()}

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        """Logits ``[B, T, 2]`` of the first and the last token of the answer."""
        return self.network(tokens, segments)

    def _logits(self, batch: PassageWindows) -> tuple[Tensor, Tensor]:
        """Those of the first and of the last token, ``[B, T]`` each."""
        if not isinstance(batch, PassageWindows):
            raise ValueError(
                f"SpanAnswering learns from PassageWindows, and this data has batches of "
                f"{type(batch).__name__}: give SQuAD(...) or FactQuestions()"
            )
        start, end = self(batch.tokens, batch.segments).float().unbind(-1)
        return start, end

    def _loss(self, batch: PassageWindows, start: Tensor, end: Tensor) -> Tensor:
        allowed = batch.inside.clone()
        allowed[:, 0] = True
        start, end = (x.masked_fill(~allowed, -torch.inf) for x in (start, end))
        return (cross_entropy(start, batch.starts) + cross_entropy(end, batch.ends)) / 2

    def training_step(self, batch: PassageWindows, batch_idx: int) -> Tensor:
        loss = self._loss(batch, *self._logits(batch))
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: PassageWindows, stage: Stage) -> None:
        start, end = self._logits(batch)
        metrics = self.evaluated(stage)
        metrics["loss"].update(self._loss(batch, start, end), len(start))
        references = [question.answers for question in batch.questions]
        metrics["answers"].update(self._answers(batch, start, end), references)

    def predict_step(self, batch: PassageWindows, batch_idx: int) -> list[str]:
        """The answer to each question; empty where there is none."""
        return self._answers(batch, *self._logits(batch))

    def _answers(self, batch: PassageWindows, start: Tensor, end: Tensor) -> list[str]:
        spans = best_spans(start, end, batch.inside, self.max_answer_length)
        first, last = (
            batch.places.gather(1, at[:, None, None].expand(-1, 1, 2))[:, 0]
            for at in (spans.start, spans.end)
        )
        begins, ends = first[:, 0].tolist(), last[:, 1].tolist()
        nothing, score = (start[:, 0] + end[:, 0]).tolist(), spans.score.tolist()
        windows: list[list[int]] = [[] for _ in batch.questions]
        for window, number in enumerate(batch.asked.tolist()):
            windows[number].append(window)
        answers = []
        for question, each in zip(batch.questions, windows, strict=True):
            best = max(each, key=score.__getitem__)
            margin = min(nothing[window] for window in each) - score[best]
            lacking = self.spec.unanswerable and margin > self.null_margin
            answers.append("" if lacking else question.passage[begins[best] : ends[best]])
        return answers


class AnswerScores(Totals):
    """Exact match and F1 of answers, in shares of 1."""

    matches: Tensor
    overlap: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__("count", sums=("matches", "overlap"))

    def update(self, answers: list[str], references: list[tuple[str, ...]]) -> None:
        """Count answers, each with all texts that are right; none: that there is no answer."""
        for answer, right in zip(answers, references, strict=True):
            self.matches += exact_match(answer, right)
            self.overlap += token_f1(answer, right)
        self.count += len(answers)

    def compute(self) -> dict[str, Tensor]:
        """``exact_match`` and ``f1`` over all questions so far."""
        return {"exact_match": self.matches / self.count, "f1": self.overlap / self.count}
