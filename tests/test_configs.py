"""Every config trains, reloads and resumes; every config has a row in the ledger."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import trellis
from trellis.lightning_modules.commands.ledger import configs_dir, ledger
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

CONFIGS = sorted(configs_dir().glob("*/*.yaml"))
NAMES = [f"{path.parent.name}/{path.name}" for path in CONFIGS]


class StopAfter(L.Callback):
    """Press Ctrl-C as the given step ends; a GAN may take several batches for one."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def fit(path: Path, folder: Path, stop: int, ckpt_path: Any = None, seed: int = 0) -> Any:
    quieten()
    words = [
        f"--config={path}",
        f"--seed_everything={seed}",
        f"--trainer.default_root_dir={folder}",
        "--trainer.run_name=test",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.limit_val_batches=1",
        "--trainer.num_sanity_val_steps=0",
    ]
    cli = TrellisCLI(words, run=False)
    cli.trainer.callbacks.insert(0, StopAfter(stop))
    with pytest.raises(SystemExit):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=ckpt_path)
    assert cli.trainer.global_step == stop
    return cli


@pytest.mark.data
@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_config_trains_reloads_and_resumes(path: Path, tmp_path: Path, data_dir: Path) -> None:
    first = fit(path, tmp_path, stop=2)
    last = first.trainer.checkpoint_callback.last_model_path
    loaded = trellis.load(last)
    assert type(loaded) is type(first.model)
    weights = first.model.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in loaded.state_dict().items())

    # Resuming under another seed must not matter: the checkpoint brings its random states.
    resumed = fit(path, tmp_path, stop=4, ckpt_path=last, seed=0)
    straight = fit(path, tmp_path, stop=4)
    expected = straight.model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in resumed.model.state_dict().items())
    moved = [k for k, v in weights.items() if not torch.equal(expected[k], v)]
    assert moved, "two more steps must change the weights, or the comparison shows nothing"


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_config_says_what_it_shows_and_has_a_row(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"{path.parent.name}/{path.name}" in {row.config for row in ledger().values()}
