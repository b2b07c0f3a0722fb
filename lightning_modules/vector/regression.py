"""Real-valued targets under a likelihood, so that predictions have a standard deviation."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.regression import MeanSquaredError

from trellis.checks import choose_from
from trellis.functional.likelihood import (
    gaussian_nll,
    gumbel_nll,
    heteroscedastic_gaussian_nll,
)
from trellis.lightning_modules.engine.build_network import channels, require_targets
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.factory import NetworkFactory
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec

Likelihood = Literal["gaussian", "heteroscedastic", "gumbel"]
EULER_GAMMA = 0.5772156649015329


class _Family(NamedTuple):
    """A distribution whose parameters the network predicts."""

    num_parameters: int
    nll: Callable[..., Tensor]  # (y, *parameters) -> nats
    moments: Callable[..., tuple[Tensor, Tensor]]  # parameters -> mean, standard deviation


_FAMILIES = {
    "gaussian": _Family(1, gaussian_nll, lambda mean: (mean, torch.ones_like(mean))),
    "heteroscedastic": _Family(
        2, heteroscedastic_gaussian_nll, lambda mean, log_scale: (mean, log_scale.exp())
    ),
    "gumbel": _Family(
        2,
        gumbel_nll,
        lambda location, log_scale: (
            location + EULER_GAMMA * log_scale.exp(),
            log_scale.exp() * math.pi / math.sqrt(6),
        ),
    ),
}


class Moments(NamedTuple):
    """Prediction of every target, in its unit: mean and standard deviation ``[B, T]``."""

    mean: Tensor
    std: Tensor


class Regression(Objective):
    """Maximum likelihood of real-valued targets.

    The network predicts the parameters of the likelihood: the means (or locations) of all
    targets, then the logarithms of all scales. It is built with ``out_channels`` times as many
    outputs as the likelihood has parameters.

    Batch: ``(x, y)`` with examples ``x [B, in_channels, *size]`` and targets ``y [B, T]``, or
    ``[B]`` where T = out_channels is 1. Reports ``nll_nats``, summed over the targets of an
    example, and ``rmse`` of the predicted mean over all targets, in their unit. Where the spec has
    the means and the scales of the targets, the network predicts standardised targets; what is
    reported and predicted is in the unit of the data all the same.

    Args:
        network: from ``(in_channels, out_channels)`` to a module ``x -> [B, out_channels]``.
        likelihood: ``gaussian`` of standard deviation 1 (least squares), ``heteroscedastic``
            for a Gaussian whose standard deviation is predicted too, or ``gumbel`` for maxima.
    Raises:
        ValueError: an unknown likelihood, or the targets of the data are class labels.
    """

    spec_type = TensorSpec
    monitor = "val/nll_nats"
    target_mean: Tensor
    target_scale: Tensor

    def __init__(
        self,
        network: NetworkFactory = MLP,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        likelihood: Likelihood = "gaussian",
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.likelihood = choose_from("likelihood", likelihood, Likelihood)
        self.network_factory = network

    @property
    def _family(self) -> _Family:
        return _FAMILIES[self.likelihood]

    def build(self, spec: TensorSpec) -> None:
        advice = "use Classification, or data whose TensorSpec says targets='real'"
        require_targets(spec, "real", "Regression predicts", advice)
        self.build_network(channels(spec, self._family.num_parameters), "x")
        known = bool(spec.target_scales)
        means, scales = (spec.target_means, spec.target_scales) if known else ((0.0,), (1.0,))
        self.register_buffer("target_mean", torch.tensor(means), persistent=False)
        self.register_buffer("target_scale", torch.tensor(scales), persistent=False)

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {"nll_nats": BatchMean(), "rmse": MeanSquaredError(squared=False)}

    def forward(self, x: Tensor) -> Tensor:
        """Parameters of the likelihood, ``[B, num_parameters * out_channels]``."""
        return self.network(x)

    def _parameters_and_targets(
        self, batch: tuple[Tensor, Tensor]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Parameters and targets ``[B, T]``, both of standardised targets."""
        x, y = batch
        if y.ndim == 1:
            y = y.unsqueeze(-1)  # [B] -> [B, 1]
        parameters = self(x).chunk(self._family.num_parameters, dim=-1)
        return parameters, (y - self.target_mean) / self.target_scale

    def _nll(self, y: Tensor, *parameters: Tensor) -> Tensor:
        """In the unit of the data: its density is that of standardised targets, per scale."""
        return self._family.nll(y, *parameters) + self.target_scale.log().sum()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        parameters, y = self._parameters_and_targets(batch)
        loss = self._nll(y, *parameters)
        self.log_train(nll_nats=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        parameters, y = self._parameters_and_targets(batch)
        mean, _ = self._family.moments(*parameters)
        metrics = self.evaluated(stage)
        metrics["nll_nats"].update(self._nll(y, *parameters), len(y))
        metrics["rmse"].update(mean * self.target_scale, y * self.target_scale)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Moments:
        x, _ = batch
        mean, std = self._family.moments(*self(x).chunk(self._family.num_parameters, dim=-1))
        return Moments(mean * self.target_scale + self.target_mean, std * self.target_scale)
