"""What every objective shares: networks and optimisers from outside, sizes from the data."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from trellis.hyperparameters import PlainHyperparameters, class_path, to_plain
from trellis.lightning_modules.callbacks.finite_guard import FiniteGuard
from trellis.lightning_modules.callbacks.resume import ExactResume
from trellis.spec import differences

FORMAT = 1  # of what a checkpoint holds beside Lightning's own keys


class NetworkFactory(Protocol):
    """Builds a network from the sizes of its data; called by keyword."""

    def __call__(self, in_channels: int, out_channels: int) -> nn.Module: ...


class Objective(PlainHyperparameters, L.LightningModule, ABC):
    """Base of the objectives: builds networks when the data is known, logs, evaluates.

    A subclass takes its networks as factories, calls ``save_hyperparameters`` in ``__init__`` and
    defines ``build`` (its networks) and ``metrics`` (what to report); with several optimisers it
    sets ``automatic_optimization`` to false and overrides ``configure_optimizers``.

    Args:
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once an epoch.
        spec: sizes of the data; ``None`` asks the data module. They are kept in ``hparams``, so
            a checkpoint is rebuilt without its data.
    """

    spec_type: ClassVar[type]
    monitor: ClassVar[str] = "val/loss"
    monitor_mode: ClassVar[Literal["min", "max"]] = "min"

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: Any = None,
    ) -> None:
        super().__init__()
        self.optimizer, self.lr_scheduler, self.spec = optimizer, lr_scheduler, spec
        self._built = False

    @abstractmethod
    def build(self, spec: Any) -> None:
        """Create the networks for data of these sizes."""

    @abstractmethod
    def metrics(self, spec: Any) -> Mapping[str, Metric]:
        """Fresh metrics of one evaluation, by name without the split's prefix."""

    def configure_model(self) -> None:
        """Build networks and metrics once; Lightning calls this before anything needs them."""
        if self._built:
            return
        self.spec = self._agreed_spec()
        self.hparams["spec"] = self._hparams_initial["spec"] = to_plain(self.spec)
        self.build(self.spec)
        self.val_metrics = MetricCollection(dict(self.metrics(self.spec)), prefix="val/")
        self.test_metrics = MetricCollection(dict(self.metrics(self.spec)), prefix="test/")
        # The metrics of one evaluation need not look for shared states: they differ by design.
        for collection in (self.val_metrics, self.test_metrics):
            collection._enable_compute_groups = False
        self._built = True

    def _agreed_spec(self) -> Any:
        datamodule = getattr(self._trainer, "datamodule", None) if self._trainer else None
        offered = getattr(datamodule, "spec", None)
        name = type(self).__name__
        if offered is None:
            if self.spec is None:
                raise ValueError(
                    f"{name}: the sizes of the data are unknown; give spec= or train with a "
                    f"trellis data module"
                )
            return self.spec
        if not isinstance(offered, self.spec_type):
            raise ValueError(
                f"{name} learns from data with a {self.spec_type.__name__}; "
                f"{type(datamodule).__name__} has a {type(offered).__name__}"
            )
        if self.spec is not None and (wrong := differences(self.spec, offered)):
            raise ValueError(
                f"{name}: spec contradicts {type(datamodule).__name__} ({'; '.join(wrong)}); "
                f"leave spec out or use the data it was made for"
            )
        return offered

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        config: dict[str, Any] = {"scheduler": scheduler}
        if hasattr(scheduler, "monitor"):  # Lightning's ReduceLROnPlateau
            config["monitor"] = scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}

    def configure_callbacks(self) -> list[L.Callback]:
        return [ExactResume(), FiniteGuard()]

    def log_train(self, **values: Tensor) -> None:
        """Log ``train/NAME`` on the steps that reach a logger; a call on others costs nothing.

        ``self.log`` costs about a millisecond even on the steps whose value nobody keeps.
        """
        if self.trainer._logger_connector.should_update_logs:
            self.log_dict(
                {f"train/{name}": value.detach() for name, value in values.items()},
                prog_bar=True,
            )

    def evaluated(self, stage: Literal["val", "test"]) -> MetricCollection:
        """Metrics of the evaluation under way, to update batch by batch."""
        return self.val_metrics if stage == "val" else self.test_metrics

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute(), prog_bar=True)
        self.val_metrics.reset()

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_metrics.compute())
        self.test_metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        datamodule = self.trainer.datamodule if self._trainer else None  # type: ignore[attr-defined]
        checkpoint["trellis"] = {
            "format": FORMAT,
            "objective": class_path(type(self)),
            "spec": to_plain(self.spec),
            "data": None if datamodule is None else class_path(type(datamodule)),
            "unsaved": list(self.unsaved),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = [
            name
            for name in checkpoint.get("trellis", {}).get("unsaved", ())
            if self._trainer is None and name not in checkpoint["hyper_parameters"]
        ]
        if missing:
            raise ValueError(
                f"this checkpoint was saved without {', '.join(missing)}, which had no plain "
                f"form: load it with {missing[0]}=..."
            )


def fitting(network: nn.Module, *inputs: str, objective: L.LightningModule) -> nn.Module:
    """``network``, once it is known to take ``inputs`` in its forward call.

    Raises:
        ValueError: it does not; names both.
    """
    signature = inspect.signature(network.forward)
    try:
        signature.bind(*inputs)
    except TypeError:
        raise ValueError(
            f"{type(objective).__name__} calls network({', '.join(inputs)}), but "
            f"{type(network).__name__}.forward takes {signature}: choose a network that fits"
        ) from None
    return network
