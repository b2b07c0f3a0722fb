"""Metrics of the samples of a run, at each validation and test.

Samples are drawn by ``draw_samples``, which leaves the random state of the run alone.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.checks import at_least_one
from trellis.labels import balanced_labels
from trellis.lightning_modules.callbacks.image_classifier import (
    ImageClassifier,
    cache_folder,
    check_classifiable,
    image_classifier,
    split_images,
)
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.sampling import draw_samples, require_samples
from trellis.metrics.coverage import class_coverage, mode_coverage
from trellis.metrics.frechet import frechet_distance, kernel_distance, moments


class ModeCoverage(L.Callback):
    """Mode coverage of samples, ``val/modes`` and ``val/high_quality``, or ``test/...`` in a test.

    ``modes`` is the number of modes of the data that the samples cover, ``high_quality`` the
    fraction of samples within three standard deviations of a mode; see ``mode_coverage``.

    Args:
        num_samples: drawn each time.
        seed: of the random numbers, which are the same in each validation and each process.
    Raises:
        ValueError: the objective has no ``sample``, or the data no ``centres`` and ``scale``.
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
        # All processes have drawn the same samples.
        pl_module.log_dict(
            {f"{stage}/modes": float(found.modes), f"{stage}/high_quality": found.high_quality},
            prog_bar=stage == "val",
            sync_dist=True,
        )


class ClassifierScores(L.Callback):
    """Metrics of samples by the features and predictions of a small classifier of the same data.

    The classifier is a ``SmallCNN``, trained on the training split before the run begins and kept
    with the raw data for later runs: see ``image_classifier``. It has 128 features, not the 2,048
    of Inception. Its distances are comparable only between runs on the same data with the same
    number of samples.

    ========================== ================================================================
    key                        meaning
    ========================== ================================================================
    val/fid_smallcnn           Fréchet distance of its features to those of validation images
    val/kid_smallcnn           kernel distance of the same
    val/classes                number of classes that the samples cover, see ``class_coverage``
    val/class_ratio            largest factor between a class's frequencies in samples and data
    val/classifier_accuracy    of the classifier on the validation images
    val/label_accuracy         share of the samples of a conditional objective that the classifier
                               assigns to the class that was asked for
    ========================== ================================================================

    A test logs ``test/...`` and compares with test images.

    Args:
        num_samples: drawn each time, and at most as many real images to compare with.
        seed: of the random numbers, which are the same in each validation and each process.
        steps: training steps of the classifier.
        cache_dir: folder of the trained classifiers; ``None`` takes ``classifiers`` in the folder
            of the raw data.
    Raises:
        ValueError: the objective has no ``sample``, or the data no images or no labels.

    Source: Heusel et al. 2017 (FID); Bińkowski et al. 2018 (KID).
    """

    def __init__(
        self,
        num_samples: int = 2000,
        seed: int = 0,
        steps: int = 450,
        cache_dir: str | None = None,
    ) -> None:
        if num_samples < 2:
            raise ValueError(f"num_samples={num_samples}: give at least 2, for a covariance")
        self.num_samples, self.seed = num_samples, seed
        self.steps, self.cache_dir = at_least_one("steps", steps), cache_dir
        self._classifier: ImageClassifier | None = None
        self._real: dict[str, Tensor] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        require_samples("ClassifierScores", pl_module)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        check_classifiable("ClassifierScores", data)
        self._classifier, self._real = None, {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._train(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._train(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._train(trainer)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def _train(self, trainer: L.Trainer) -> None:
        if self._classifier is not None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        folder = Path(self.cache_dir).expanduser() if self.cache_dir else cache_folder(data)
        if trainer.is_global_zero:
            self._classifier = image_classifier(data, folder, self.steps)
        trainer.strategy.barrier()  # the other processes read what the first has written
        if self._classifier is None:
            self._classifier = image_classifier(data, folder, self.steps)
        accuracy = self._classifier.accuracy
        rank_zero_info(
            f"ClassifierScores: features of a SmallCNN with a validation accuracy of "
            f"{accuracy:.1%}; its distances are not those of Inception"
        )

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: Stage) -> None:
        if (classifier := self._classifier) is None:
            return
        with trainer.precision_plugin.forward_context():
            x = draw_samples(pl_module, self.num_samples, seed=self.seed)
        classifier.network.to(pl_module.device)
        if stage not in self._real:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            real = split_images(data, stage, self.num_samples)
            self._real[stage] = classifier(real.to(pl_module.device))[0]
        features, predicted = classifier(x.float())
        coverage = class_coverage(predicted, classifier.shares)
        real = self._real[stage]
        values = {
            "fid_smallcnn": frechet_distance(*moments(features), *moments(real)),
            "kid_smallcnn": kernel_distance(features, real),
            "classes": float(coverage.classes),
            "class_ratio": coverage.ratio,
            "classifier_accuracy": classifier.accuracy,
        }
        if getattr(pl_module, "conditional", False):
            asked = balanced_labels(self.num_samples, len(classifier.shares))  # of draw_samples
            values["label_accuracy"] = float((predicted == asked).float().mean())
        # All processes have drawn the same samples.
        named = {f"{stage}/{name}": value for name, value in values.items()}
        pl_module.log_dict(named, sync_dist=True)
