"""Maximum likelihood with networks that compute the likelihood exactly."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.generative_objective import (
    GenerativeObjective,
    likelihood_metrics,
)
from trellis.spec import TensorSpec


class DensityFactory(Protocol):
    """Builds a density from the shape of an example; called by keyword.

    A conditional objective also gives ``num_classes``, or ``context_features`` where targets are
    real. The network has ``forward(x, [y]) -> log_prob [B]`` in nats and ``sample(num_samples,
    [y], generator=...) -> [num_samples, *shape]``. One that computes probabilities of levels, not
    a density, has ``discrete = True``.
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class DensityEstimation(GenerativeObjective):
    r"""Maximum likelihood of flows, autoregressive networks and other exact densities.

    .. math:: L = -\tfrac1B \sum_b \ln p(x_b) \quad\text{or}\quad -\tfrac1B \sum_b \ln p(x_b | y_b)

    Evaluation reports L as ``nll_nats``, summed over the dimensions. If the values are binary or
    stand for bytes, it also reports ``bits_per_dim``, see the function of this name; with values
    in [0, 1] only for a discrete network.

    Args:
        network: from ``(shape, [num_classes | context_features])`` to a density. Given real
            targets it estimates p(x | y) as simulation-based inference does: there x are a
            simulator's parameters and y what it returned.
    Raises:
        ValueError: a network that does not fit or cannot draw samples, or ``conditional`` with
            data without at least two classes or real targets.
    """

    real_context = True
    monitor = "val/nll_nats"
    network: Any  # with sample, which nn.Module does not declare

    def __init__(
        self,
        network: DensityFactory,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec, conditional)
        self.network_factory = network

    def build(self, spec: TensorSpec) -> None:
        labels = ("y",) if self.conditional else ()
        self.build_network(self.sizes(spec), "x", *labels)
        if not callable(getattr(self.network, "sample", None)):
            raise ValueError(
                f"DensityEstimation draws samples by network.sample(num_samples), which "
                f"{type(self.network).__name__} does not have: choose a density"
            )

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return likelihood_metrics(spec, discrete=getattr(self.network, "discrete", False))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood ``[B]`` in nats."""
        return self.network(x) if y is None else self.network(x, y)

    def _log_prob(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        log_prob = self(x, y if self.conditional else None)
        if log_prob.shape != x.shape[:1]:
            raise ValueError(
                f"{type(self.network).__name__} gave {list(log_prob.shape)} for x "
                f"{list(x.shape)}: a density gives one number for each example, [{len(x)}]"
            )
        return log_prob

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = -self._log_prob(batch).mean()
        self.log_train(nll_nats=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        self.count_likelihood(self.evaluated(stage), self._log_prob(batch), batch[0])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Log-likelihood of each example in nats, ``[B]``."""
        return self._log_prob(batch)

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """See ``GenerativeObjective``."""
        labels = () if y is None else (y,)
        options = {} if generator is None else {"generator": generator}
        return self.network.sample(num_samples, *labels, **options)
