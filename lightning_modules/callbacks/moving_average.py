"""An exponential moving average of the weights, evaluated and saved in their place."""

import math
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torchmetrics import MetricCollection

from trellis.checks import fraction
from trellis.torch_private import copy_, lerp_


class MovingAverage(WeightAveraging):
    r"""Averages the weights over training steps, for validation, checkpoints and tests.

    .. math:: \bar\theta_n = \frac{1 - d}{1 - d^n} \sum_{k=1}^n d^{n-k} \theta_k

    after n optimizer steps with a decay d. The factors add up to 1: it is an average from the
    first step on, and the initial weights have no part in it. A checkpoint has the average as its
    weights, and beside them all that resumes the run.

    Validation reports the metrics of the average; with ``beside`` also those of the weights of
    the last step on the same random numbers, as ``val/raw_...``, for a second evaluation.

    Args:
        decay: d, in (0, 1); 0.999 averages over about a thousand steps.
        beside: evaluate the weights of the last step as well.
    Raises:
        ValueError: a decay outside (0, 1).

    Source: Polyak and Juditsky 1992; Kingma and Ba 2015, sections 3 (bias correction) and 7.2.
    """

    def __init__(self, decay: float = 0.999, beside: bool = False) -> None:
        fraction("decay", decay)

        def average(means: list[Tensor], latest: list[Tensor], count: Tensor | int) -> None:
            if not means[0].is_floating_point():  # counters and tables
                copy_(means, latest)
                return
            # AveragedModel has just waited for the count, to see whether it is 0.
            lerp_(means, latest, (1 - decay) / -math.expm1((int(count) + 1) * math.log(decay)))

        super().__init__(multi_avg_fn=average)
        self.beside = beside
        self._raw_metrics: MetricCollection | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        with warnings.catch_warnings():
            # What it warns of, sharded weights, is refused by objectives with a reason.
            warnings.filterwarnings("ignore", message=".*overrides the configure_model")
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # else the average has been loaded already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        super().on_validation_epoch_start(trainer, pl_module)
        if self.beside:
            self._raw_metrics = pl_module.val_metrics.clone(prefix="val/raw_")
            self._raw_metrics.reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if (raw := self._raw_metrics) is None:
            return
        averaged = pl_module.val_metrics
        super().on_validation_epoch_end(trainer, pl_module)  # back to the latest weights
        pl_module.val_metrics = raw
        pl_module.validation_step(batch, batch_idx)
        pl_module.val_metrics = averaged
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self._raw_metrics is not None:
            pl_module.log_dict(self._raw_metrics.compute(), sync_dist=True)
            self._raw_metrics = None
        super().on_validation_epoch_end(trainer, pl_module)
