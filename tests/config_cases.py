"""Runs of the shipped configs that are short: parsed, stopped after a few steps, begun anew."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from image_files import write_idx_files

from trellis.lightning_modules.commands.ledger import whole_configs
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

CONFIGS = whole_configs()
NAMES = [f"{path.parent.name}/{path.name}" for path in CONFIGS]


class StopAfter(L.Callback):
    """Press Ctrl-C once as the given step ends; a GAN may take several batches for one."""

    def __init__(self, step: int) -> None:
        self.step, self.pressed = step, False

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


# Batches as large as the published ones show nothing more, and take minutes.
SMALLER = {"batch_size": 8, "max_tokens": 256, "num_val_episodes": 2}


# Data that are not among the raw files of the tests: a small copy in their layout stands for them.
LOOK_ALIKES = {"FashionMNIST": partial(write_idx_files, num_train=408)}


def parsed(path: Path, folder: Path, *further: str) -> TrellisCLI:
    quieten()
    options = yaml.safe_load(path.read_text())["data"]
    given = options.get("init_args", {}) if isinstance(options, dict) else {}
    name = options["class_path"] if isinstance(options, dict) else options
    if name in LOOK_ALIKES:
        LOOK_ALIKES[name](folder / "data", name)
        further = (f"--data.data_dir={folder / 'data'}", "--data.num_val=8", *further)
    words = [
        f"--config={path}",
        "--seed_everything=0",
        f"--trainer.default_root_dir={folder}",
        "--trainer.run_name=test",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.limit_val_batches=1",
        "--trainer.num_sanity_val_steps=0",
        *(f"--data.{name}={size}" for name, size in SMALLER.items() if name in given),
        *further,
    ]
    return TrellisCLI(words, run=False)


def fit(cli: TrellisCLI, stop: int, ckpt_path: str | None = None) -> dict[str, torch.Tensor]:
    cli.trainer.callbacks.insert(0, StopAfter(stop))
    with pytest.raises(SystemExit):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=ckpt_path)
    several = cli.trainer.world_size > 1  # which hear of each other's signals a batch later
    assert cli.trainer.global_step in (stop, stop + several)
    return cli.model.state_dict()


def anew(cli: TrellisCLI) -> TrellisCLI:
    """The same command once more: reading the words again would take longer than the steps."""
    cli.save_config_callback = None
    L.seed_everything(0, workers=True, verbose=False)
    cli.instantiate_classes()
    return cli
