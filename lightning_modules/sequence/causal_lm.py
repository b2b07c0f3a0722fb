"""Language modelling: the next token, given those before it."""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from trellis.lightning_modules.sequence.language_modelling import (
    Carried,
    LanguageModelFactory,
    LanguageModelling,
)
from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.ngram import CountedLM
from trellis.spec import TokenSpec


class CausalLM(LanguageModelling):
    """Cross-entropy of each token given those before it, in nats.

    See ``LanguageModelling`` for batches, evaluations and predictions. With ``carry_state`` no
    gradients flow from a batch into the one before: backpropagation through time, truncated to T
    steps.

    Args:
        network: from ``num_tokens`` to a module ``(tokens, state) -> (logits, state)``.
        carry_state: start each batch from the state after the batch before.
    Raises:
        ValueError: see ``LanguageModelling``; or a network that counts, as ``KneserNeyLM``.

    Source: Williams and Peng 1990 (truncation); Mikolov et al. 2010.
    """

    def __init__(
        self,
        network: LanguageModelFactory = GPT,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TokenSpec | None = None,
        carry_state: bool = False,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec, carry_state)

    def build(self, spec: TokenSpec) -> None:
        super().build(spec)
        if isinstance(self.network, CountedLM):
            raise ValueError(
                f"CausalLM learns by gradients, and {type(self.network).__name__} counts: choose "
                f"the objective CountingLM"
            )

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        carried = Carried() if batch_idx == 0 else self._carried
        loss, self._carried = self._loss(batch, carried)
        self.log_train(loss=loss)
        return loss
