"""A quiet run of one epoch on the CPU, to test callbacks."""

from pathlib import Path
from typing import Any

import lightning as L

from trellis.lightning_modules.engine.trainer import Trainer


def run(root: Path, model: Any, data: Any, *callbacks: L.Callback, **options: Any) -> Trainer:
    L.seed_everything(0, verbose=False)
    options = {"max_epochs": 1, "log_every_n_steps": 1, **options}
    trainer = Trainer(
        run_name="r",
        default_root_dir=root,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        **options,
    )
    trainer.fit(model, datamodule=data)
    return trainer
