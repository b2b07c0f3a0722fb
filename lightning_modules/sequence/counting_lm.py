"""Language models that learn by counting: one pass over the text, no gradients."""

from typing import Any, Protocol

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trellis.lightning_modules.sequence.language_modelling import Carried, LanguageModelling
from trellis.networks.sequence.ngram import CountedLM, KneserNeyLM
from trellis.spec import TokenSpec


class CountedFactory(Protocol):
    """Builds a language model that counts, from the size of its vocabulary; called by keyword."""

    def __call__(self, num_tokens: int) -> CountedLM: ...


class CountingLM(LanguageModelling):
    """Counts the n-grams of the training text; evaluated as ``CausalLM`` is, number by number.

    See ``LanguageModelling`` for batches, evaluations and predictions. Every epoch counts anew,
    so one is enough. With ``carry_state`` and data in streams, each n-gram of a row is counted
    once, and each token but the first few of a row is predicted from ``order - 1`` others.
    Without it each window counts by itself, and begins with shorter contexts.

    Args:
        network: from ``num_tokens`` to a ``CountedLM``.
        carry_state: continue each batch where the batch before ended.
    Raises:
        ValueError: see ``LanguageModelling``; a network that does not count; or several
            processes.
    """

    network: Any  # with count and forget, which nn.Module does not declare

    def __init__(
        self,
        network: CountedFactory = KneserNeyLM,
        spec: TokenSpec | None = None,
        carry_state: bool = False,
    ) -> None:
        super().__init__(network, torch.optim.SGD, None, spec, carry_state)
        self.automatic_optimization = False

    def build(self, spec: TokenSpec) -> None:
        super().build(spec)
        if not isinstance(self.network, CountedLM):
            raise ValueError(
                f"CountingLM counts, and {type(self.network).__name__} learns by gradients: "
                f"choose KneserNeyLM or AddKLM, or the objective CausalLM"
            )

    def configure_optimizers(self) -> Optimizer:
        # Lightning numbers steps by those of an optimiser; this one has nothing to do.
        return self.optimizer([nn.Parameter(torch.zeros(()))])

    def configure_callbacks(self) -> list[L.Callback]:
        if self.trainer.world_size > 1:
            raise ValueError(
                f"{type(self).__name__} counts in one process, not in "
                f"{self.trainer.world_size}: give --trainer.devices=1"
            )
        return super().configure_callbacks()

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        if batch_idx == 0:
            self.network.forget()
            self._carried = Carried()
        self.require_ids(batch)
        tokens = batch.masked_fill(batch == self.ignored, -1)
        if self.carry_state:
            state = self._carried.enter(batch)
            # The first token was the last one that the batch before has counted.
            state = self.network.count(tokens if state is None else tokens[:, 1:], state)
            self._carried = self._carried.leave(batch, state)
        else:
            self.network.count(tokens)
        self.optimizers().step()  # type: ignore[union-attr]
