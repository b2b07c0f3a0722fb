"""Real-valued targets under a likelihood, so that predictions have a standard deviation."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.regression import MeanSquaredError

from trellis.checks import at_least, choose_from
from trellis.functional.likelihood import (
    gaussian_nll,
    gumbel_nll,
    heteroscedastic_gaussian_nll,
)
from trellis.lightning_modules.engine.build_network import (
    channels,
    if_taken,
    register_units,
    require_targets,
)
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.factory import NetworkFactory
from trellis.networks.vector.mlp import MLP
from trellis.nn.dropout import dropout_on
from trellis.spec import TensorSpec

Likelihood = Literal["gaussian", "heteroscedastic", "gumbel"]
EULER_GAMMA = 0.5772156649015329


class _Family(NamedTuple):
    """A distribution whose parameters the network predicts."""

    num_parameters: int
    nll: Callable[..., Tensor]  # (y, *parameters, reduce=...) -> nats
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
        beta: weighs the training loss of each target by its predicted variance to this power, in
            [0, 1], with ``heteroscedastic``: above 0 the mean is also learnt where the
            likelihood would rather call it noise, as by least squares at 1.
        dropout_samples: passes with dropout on, whose mixture is the prediction in evaluation;
            0 makes one with dropout off.
    Raises:
        ValueError: an unknown likelihood, an option out of range, or the targets of the data are
            class labels.

    Source: Nix and Weigend 1994 (``heteroscedastic``); Seitzer et al. 2022, eq. 5 (``beta``); Gal
    and Ghahramani 2016 (``dropout_samples``).
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
        beta: float = 0.0,
        dropout_samples: int = 0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.likelihood = choose_from("likelihood", likelihood, Likelihood)
        if not 0 <= beta <= 1 or (beta and likelihood != "heteroscedastic"):
            fix = "give a number from 0 to 1, above 0 with likelihood=heteroscedastic alone"
            raise ValueError(f"beta={beta}: {fix}")
        self.beta, self.dropout_samples = beta, at_least(0, "dropout_samples", dropout_samples)
        self.network_factory = network

    @property
    def _family(self) -> _Family:
        return _FAMILIES[self.likelihood]

    def build(self, spec: TensorSpec) -> None:
        advice = "use Classification, or data whose TensorSpec says targets='real'"
        require_targets(spec, "real", "Regression predicts", advice)
        sizes = channels(spec, self._family.num_parameters)
        self.build_network(sizes | if_taken(spec, self.network_factory, "one_hot"), "x")
        register_units(self, spec)

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {"nll_nats": BatchMean(), "rmse": MeanSquaredError(squared=False)}

    def forward(self, x: Tensor) -> Tensor:
        """Parameters of the likelihood, ``[B, num_parameters * out_channels]``."""
        return self.network(x)

    def _standardized(self, y: Tensor) -> Tensor:
        if y.ndim == 1:
            y = y.unsqueeze(-1)  # [B] -> [B, 1]
        return (y - self.target_mean) / self.target_scale

    def _predicted(self, x: Tensor) -> tuple[Tensor, ...]:
        return self(x).chunk(self._family.num_parameters, dim=-1)

    def _draws(self, x: Tensor) -> tuple[Tensor, ...]:
        """Parameters of all draws, ``[S, B, T]`` each."""
        if not self.dropout_samples:
            return tuple(each.unsqueeze(0) for each in self._predicted(x))
        with dropout_on(self.network):
            draws = [self._predicted(x) for _ in range(self.dropout_samples)]
        return tuple(map(torch.stack, zip(*draws, strict=True)))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        parameters = self._predicted(x)
        nats = self._family.nll(self._standardized(y), *parameters, reduce=False)  # [B, T]
        nll = nats.sum(1).mean() + self._log_unit
        self.log_train(nll_nats=nll)
        if not self.beta:
            return nll
        weights = (2 * self.beta * parameters[1].detach()).exp()
        return (weights * nats).sum(1).mean()

    @property
    def _log_unit(self) -> Tensor:
        """What a density of standardised targets has more in nats than one in their unit."""
        return self.target_scale.log().sum()

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        parameters, y = self._draws(x), self._standardized(y)
        each_draw = y.expand(len(parameters[0]), *y.shape)
        nats = self._family.nll(each_draw, *parameters, reduce=False).sum(-1)  # [S, B]
        mixture = math.log(len(nats)) - (-nats).logsumexp(0) if len(nats) > 1 else nats[0]
        mean = self._family.moments(*parameters)[0].mean(0)
        metrics = self.evaluated(stage)
        metrics["nll_nats"].update(mixture.mean() + self._log_unit, len(y))
        metrics["rmse"].update(mean * self.target_scale, y * self.target_scale)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Moments:
        means, stds = self._family.moments(*self._draws(batch[0]))  # [S, B, T]
        spread = means.var(0, correction=0)
        std = (stds.square().mean(0) + spread).sqrt() if len(means) > 1 else stds[0]
        return Moments(
            means.mean(0) * self.target_scale + self.target_mean, std * self.target_scale
        )
