"""How good the samples of a run are, measured at each validation; training never feels it."""

from typing import Any

import lightning as L
import torch

from trellis.lightning_modules.base import Stage
from trellis.lightning_modules.sampling import draw_samples, require_samples
from trellis.metrics.modes import mode_coverage
from trellis.nn.checks import at_least_one


class ModeCoverage(L.Callback):
    """How many modes of the data samples reach: ``val/modes``, and ``val/high_quality``, the
    share of samples within three standard deviations of a mode; ``test/...`` in a test.

    A mode is reached if a quarter of its fair share of the samples is near it: see
    ``mode_coverage``.

    Args:
        num_samples: to draw each time.
        seed: of the draws; they are the same in each validation and each process.
    Raises:
        ValueError: the objective has no ``sample``, the data no ``centres`` and ``scale``.
    """

    def __init__(self, num_samples: int = 2000, seed: int = 0) -> None:
        self.num_samples, self.seed = at_least_one("num_samples", num_samples), seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        require_samples("ModeCoverage", pl_module)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "centres", None) is None or getattr(data, "scale", None) is None:
            raise ValueError(
                f"ModeCoverage needs data with centres and a scale, such as SyntheticDensities of "
                f"eight Gaussians; {type(data).__name__} has none"
            )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: Stage) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            x = draw_samples(pl_module, self.num_samples, seed=self.seed)
        centres = torch.as_tensor(data.centres)
        found = mode_coverage(x.float().cpu(), centres, data.scale)
        # Every process has drawn and counted the same.
        pl_module.log_dict(
            {f"{stage}/modes": float(found.modes), f"{stage}/high_quality": found.high_quality},
            prog_bar=stage == "val",
            sync_dist=True,
        )
