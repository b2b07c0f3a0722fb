"""What language models of the next token share: networks, streams, evaluation in nats."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import BatchMean, Perplexity
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.processes import of_all_processes, rank_and_world
from trellis.spec import TokenSpec


class LanguageModelFactory(Protocol):
    """Builds a causal language model from the size of its vocabulary; called by keyword.

    The network maps ``(tokens [B, T], state)`` to ``(logits [B, T, num_tokens], state)``; given
    the state that it returned, it continues the sequence.
    """

    def __call__(self, num_tokens: int) -> nn.Module: ...


@runtime_checkable
class ScoresTargets(Protocol):
    """A network that knows the probabilities of targets without those of all other tokens."""

    def log_prob(self, tokens: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Log-probabilities of the targets, ``[B, T]`` each, and the state after ``tokens``."""


class LanguageModelling(Objective):
    """Base of the objectives of networks that predict each token from those before it.

    Batch: token ids ``[B, T + 1]``; the first T are the input, the last T the targets, of which
    padding is ignored. Evaluations report the cross-entropy in nats as ``loss``, and the
    perplexity. Predictions are log-probabilities of the targets.

    With ``carry_state`` each batch starts from the network's state after the batch before. The
    data must then be streams, where each row continues the same row of the batch before; the
    second batch is checked.

    A network that is one of ``ScoresTargets`` is trained and evaluated by its ``log_prob``.

    Args:
        network: from ``num_tokens`` to a module ``(tokens, state) -> (logits, state)``.
        carry_state: start each batch from the state after the batch before.
    Raises:
        ValueError: ``carry_state`` with data that are not streams, or data whose batches are not
            token ids.
    """

    spec_type = TokenSpec

    def __init__(
        self,
        network: LanguageModelFactory,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        spec: TokenSpec | None,
        carry_state: bool,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.network_factory, self.carry_state = network, carry_state
        self._carried, self._carried_in_evaluation = Carried(), Carried()

    def build(self, spec: TokenSpec) -> None:
        sizes = {"num_tokens": spec.num_tokens}
        self.build_network(sizes, "tokens", "state")
        self.ignored = -100 if spec.pad_id is None else spec.pad_id

    def metrics(self, spec: TokenSpec) -> Mapping[str, Metric]:
        return {"loss": BatchMean(), "perplexity": Perplexity()}

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits ``[B, T, num_tokens]`` of the next tokens, and the state after ``tokens``."""
        return self.network(tokens, state)

    def require_ids(self, batch: Any) -> None:
        """Raise a ``ValueError`` for a batch that holds no token ids."""
        if not isinstance(batch, Tensor):
            raise ValueError(
                f"{type(self).__name__} learns from token ids [B, T + 1], and this data has "
                f"batches of {type(batch).__name__}: give TinyShakespeare(path=...), or another "
                f"objective (MaskedLM for SentencePairs, SequenceToSequence for TokenPairs)"
            )

    def _loss(
        self, batch: Tensor, carried: "Carried", reduction: Literal["mean", "none"] = "mean"
    ) -> tuple[Tensor, "Carried"]:
        """Loss of a batch or of each target ``[B * T]``, and what the next batch starts from."""
        self.require_ids(batch)
        state = carried.enter(batch) if self.carry_state else None
        if isinstance(self.network, ScoresTargets):
            loss, state = self._scored(self.network, batch, state, reduction)
        else:
            logits, state = self(batch[:, :-1], state)
            targets = batch[:, 1:].flatten()
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets, ignore_index=self.ignored, reduction=reduction
            )
        return loss, carried.leave(batch, state) if self.carry_state else carried

    def _scored(
        self, network: ScoresTargets, batch: Tensor, state: Any, reduction: str
    ) -> tuple[Tensor, Any]:
        tokens, targets = batch[:, :-1], batch[:, 1:]
        inside = targets != self.ignored
        log_prob, state = network.log_prob(tokens, targets.where(inside, 0), state)
        losses = -log_prob.where(inside, 0).flatten()
        return losses if reduction == "none" else losses.sum() / inside.sum(), state

    def evaluate(self, batch: Tensor, stage: Stage) -> None:
        loss, self._carried_in_evaluation = self._loss(batch, self._carried_in_evaluation)
        metrics, count = self.evaluated(stage), int((batch[:, 1:] != self.ignored).sum())
        metrics["loss"].update(loss, count)
        metrics["perplexity"].update(loss, count)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Log-probability of every token but the first, ``[B, T]``; 0 for padding."""
        loss, self._carried_in_evaluation = self._loss(batch, self._carried_in_evaluation, "none")
        return -loss.view(len(batch), -1)

    def on_predict_epoch_start(self) -> None:
        self._carried_in_evaluation = Carried()

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._carried_in_evaluation = Carried()

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._carried_in_evaluation = Carried()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.carry_state:
            # Each process has rows of its own.
            carried = of_all_processes(list(self._carried))
            checkpoint["trellis"]["carried"] = {"processes": carried}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.attached_trainer is not None and (saved := checkpoint["trellis"].get("carried")):
            rank, _ = rank_and_world()
            # Until there were several processes, a checkpoint held the state of one.
            states = saved["processes"] if isinstance(saved, dict) else [saved]
            self._carried = Carried(*states[min(rank, len(states) - 1)])


class Carried(NamedTuple):
    """What the next batch of a stream starts from: the state, and the last token of each row."""

    state: Any = None
    last: Tensor | None = None
    checked: bool = False

    def enter(self, batch: Tensor) -> Any:
        """The state that ``batch`` starts from."""
        if self.last is None:
            return None
        # Comparing synchronises an accelerator, so only the first pair of batches is compared.
        if len(batch) != len(self.last) or not (
            self.checked or torch.equal(self.last.to(batch.device), batch[:, 0])
        ):
            raise ValueError(
                "carry_state=True: this batch does not continue the batch before; give data in "
                "streams (TinyShakespeare: stream=true), or carry_state=false"
            )
        return apply_to_collection(self.state, Tensor, lambda part: part.to(batch.device))

    def leave(self, batch: Tensor, state: Any) -> "Carried":
        """What the batch after ``batch`` starts from."""
        detached = apply_to_collection(state, Tensor, Tensor.detach)
        return Carried(detached, batch[:, -1], checked=self.last is not None)
