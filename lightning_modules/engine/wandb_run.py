"""What Lightning's stock ``WandbLogger`` leaves out of a run."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from trellis.lightning_modules.engine.checkpoint import read
from trellis.lightning_modules.engine.lightning_private import WandbSettings, spawns_processes
from trellis.lightning_modules.engine.logging import run_dir


class WandbRun(L.Callback):
    """A complete W&B run: named, configured, with its best checkpoint, continued on resumption.

    - project ``trellis``, name ``RUN_NAME/VERSION`` and files in the run folder, unless the
      logger, ``WANDB_PROJECT``, ``WANDB_NAME`` or ``WANDB_DIR`` say otherwise;
    - the config holds ``model`` and ``data`` as class path and arguments, and with the command
      line everything that was chosen there;
    - the best checkpoint is the artifact ``model-ID``, aliases ``best`` and ``latest``, offline
      too; its score is the summary ``best/MONITOR``;
    - the run's id lies in every checkpoint, and ``fit(ckpt_path=...)`` continues that run. An
      offline run continues in a further folder of the same id, to be synchronised after the first.

    A fit that begins finishes the run of an earlier fit in this process: stock Lightning would
    log both into one.

    Args:
        logger: Lightning's logger, before its run exists.
    """

    _begun: ClassVar[set[str]] = set()  # ids of the runs begun here, which the next may finish

    def __init__(self, logger: WandbLogger) -> None:
        self.logger, self._settings, self._begins = logger, WandbSettings(logger), False
        if self._settings.project == "lightning_logs" and "WANDB_PROJECT" not in os.environ:
            self._settings.use(project="trellis")

    @classmethod
    def beside(cls, loggers: Iterable[Logger]) -> "list[WandbRun]":
        """A callback for the first ``WandbLogger`` among ``loggers``, if there is one."""
        return [cls(logger) for logger in loggers if isinstance(logger, WandbLogger)][:1]

    @rank_zero_only
    def begin(self, trainer: L.Trainer, ckpt_path: str | Path | None = None) -> None:
        """Settle what must be known before the run exists; called before Lightning's ``fit``.

        Args:
            trainer: of the run.
            ckpt_path: checkpoint to resume from; the run it was saved by goes on.
        """
        settings = self._settings
        if settings.has_run or self.logger not in trainer.loggers:
            return
        self._finish_previous()
        # metrics.csv before W&B's files: its logger warns of a folder that is not empty. But
        # spawned workers must not inherit the logger in use.
        for other in trainer.loggers:
            if isinstance(other, CSVLogger) and not spawns_processes(trainer):
                _ = other.experiment
        folder = run_dir(trainer)
        if settings.given("dir") in (None, "."):
            settings.use(folder=os.environ.get("WANDB_DIR") or str(folder))
        if not (settings.given("name") or os.environ.get("WANDB_NAME")):
            settings.use(name=f"{folder.parent.name}/{folder.name}")
        if not (settings.given("id") or os.environ.get("WANDB_RUN_ID")):
            settings.use(run_id=_run_id(ckpt_path, self.state_key) or "")

    def _finish_previous(self) -> None:
        """End the run of an earlier fit in this process; the logger would continue it."""
        import wandb

        if wandb.run is not None and wandb.run.id in self._begun:
            wandb.finish()
        self._begins = wandb.run is None  # else the user's own run, which the logger will use

    @rank_zero_only
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.logger not in trainer.loggers:  # fast_dev_run
            return
        run = self.logger.experiment
        if self._begins:
            self._begun.add(run.id)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        run.config.update(_config(trainer, pl_module), allow_val_change=True)

    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.logger not in trainer.loggers:
            return
        saved = trainer.checkpoint_callback
        path = Path(getattr(saved, "best_model_path", "") or "")
        if not path.is_file():
            return
        run, score = self.logger.experiment, getattr(saved, "best_model_score", None)
        monitor = getattr(saved, "monitor", None)
        about = {} if score is None else {"monitor": monitor, "score": float(score)}
        if about:
            run.summary[f"best/{monitor}"] = about["score"]
        if self._settings.uploads_checkpoints and isinstance(saved, ModelCheckpoint):
            return  # the logger uploads by itself
        import wandb

        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=about)
        artifact.add_file(str(path), name="model.ckpt")
        run.log_artifact(artifact, aliases=["best", "latest"])

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.logger.version}


def _run_id(ckpt_path: str | Path | None, key: str) -> str | None:
    if ckpt_path is None or not Path(ckpt_path).is_file():
        return None
    try:
        return read(ckpt_path, weights=False).get("callbacks", {}).get(key, {}).get("run_id")
    except (OSError, ValueError):  # resuming itself says what is wrong with the file
        return None


def _config(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
    """``model`` and ``data`` as the command line writes them, and its config if there is one."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    parts = {"model": pl_module, "data": datamodule}
    config = {name: _section(part) for name, part in parts.items() if part is not None}
    chosen = getattr(trainer, "cli_config", None)
    folder = getattr(trainer, "run_folder", None)
    if chosen is None and folder is not None and folder.exists:
        file = folder.path / "config.yaml"
        chosen = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return {**config, **(chosen or {})}


def _section(part: Any) -> dict[str, Any]:
    hparams: Mapping[str, Any] = part.hparams
    cls = f"{type(part).__module__}.{type(part).__qualname__}"
    return {
        "class_path": hparams.get("_class_path", cls),
        "init_args": {k: v for k, v in hparams.items() if not k.startswith("_")},
    }
