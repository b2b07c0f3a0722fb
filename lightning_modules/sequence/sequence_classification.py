"""One class for each sequence of tokens: topics, languages, opinions."""

from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.objective import Objective
from trellis.networks.sequence.recurrent import RecurrentClassifier
from trellis.processes import of_all_processes
from trellis.spec import LabelledTokenSpec, TokenSpec


class TokenNetworkFactory(Protocol):
    """Builds a network of token sequences from the sizes of its data; called by keyword."""

    def __call__(self, num_tokens: int, out_channels: int, *, pad_id: int) -> nn.Module: ...


class SequenceClassification(Classifier):
    """Cross-entropy of one label per sequence.

    Batch: ``(tokens, y)`` with token ids ``tokens [B, T]``, padded with ``pad_id``, and labels
    ``y [B]``.

    Args:
        network: from ``(num_tokens, out_channels, pad_id)`` to a module
            ``tokens -> logits [B, out_channels]``. Where it has methods ``forget()`` and
            ``count(tokens)``, as ``BagOfWords``, it reads the training texts once before the
            first step.
    Raises:
        ValueError: see ``Classifier``; or the tokens of the data have no ``pad_id``.
    """

    spec_type = LabelledTokenSpec

    def __init__(
        self,
        network: TokenNetworkFactory = RecurrentClassifier,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: LabelledTokenSpec | None = None,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)

    def build(self, spec: LabelledTokenSpec) -> None:
        self.build_network(token_sizes(spec, self), "tokens")

    def on_train_start(self) -> None:
        network: Any = self.network
        if self.trainer.global_step or not callable(getattr(network, "count", None)):
            return
        network.forget()
        for tokens, _ in self._training_batches():
            network.count(tokens.to(self.device))
        counts = [buffer.cpu() for buffer in network.buffers()]
        for buffer, *shares in zip(network.buffers(), *of_all_processes(counts), strict=True):
            buffer.copy_(sum(shares))

    def _training_batches(self) -> Any:
        """Of this process, without moving the loader that the epoch will read."""
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        return datamodule.train_dataloader() if datamodule else self.trainer.train_dataloader

    def logits_and_labels(
        self, batch: tuple[Tensor, Tensor], split: Split
    ) -> tuple[Tensor, Tensor]:
        tokens, y = batch
        if y.dim() != 1:
            raise ValueError(
                f"SequenceClassification learns one label per sequence, [B], and this data has "
                f"labels {list(y.shape)}: give LabelledText, or the objective Tagging"
            )
        return self(tokens), y


def token_sizes(spec: LabelledTokenSpec, objective: Objective) -> dict[str, int]:
    """What a ``TokenNetworkFactory`` is called with.

    Raises:
        ValueError: the tokens have no ``pad_id``.
    """
    return {"out_channels": spec.out_channels, **vocabulary_sizes(spec.tokens, objective)}


def vocabulary_sizes(tokens: TokenSpec, objective: Objective) -> dict[str, int]:
    """``num_tokens`` and ``pad_id``, which networks of padded sequences are called with.

    Raises:
        ValueError: the tokens have no ``pad_id``.
    """
    if tokens.pad_id is None:
        name = type(objective).__name__
        raise ValueError(f"{name}: spec.tokens has no pad_id; give the data's tokenizer one")
    return {"num_tokens": tokens.num_tokens, "pad_id": tokens.pad_id}
