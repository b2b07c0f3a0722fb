"""Every config trains, reloads and resumes; every config has a row in the ledger."""

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml

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


# Siblings of another config, which runs in `make test`; these run in `make test-all`.
SIBLINGS = {
    "generative/maf_mnist.yaml",
    "generative/realnvp_mnist.yaml",
    "generative/vae_mnist_static.yaml",
    "generative/wgan_gp_8gaussians.yaml",
    "graph/mlp_cora.yaml",
    "rl/ddpg_pendulum.yaml",
    "rl/ppo_acrobot.yaml",
    "sequence/gru_multi30k.yaml",
    "sequence/lstm_shakespeare.yaml",
    "sequence/transformer_multi30k.yaml",
}
# Batches as large as the published ones show nothing more, and take minutes.
SMALLER = {"batch_size": 8, "max_tokens": 256, "num_val_episodes": 2}


def parsed(path: Path, folder: Path, *further: str) -> TrellisCLI:
    quieten()
    options = yaml.safe_load(path.read_text())["data"]
    given = options.get("init_args", {}) if isinstance(options, dict) else {}
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
    assert cli.trainer.global_step == stop
    return cli.model.state_dict()


def anew(cli: TrellisCLI) -> TrellisCLI:
    """The same command once more: reading the words again would take longer than the steps."""
    cli.save_config_callback = None
    L.seed_everything(0, workers=True, verbose=False)
    cli.instantiate_classes()
    return cli


@pytest.mark.data
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=pytest.mark.long if name in SIBLINGS else ())
        for path, name in zip(CONFIGS, NAMES, strict=True)
    ],
)
def test_config_trains_reloads_and_resumes(path: Path, tmp_path: Path, data_dir: Path) -> None:
    cli = parsed(path, tmp_path)
    weights = fit(cli, stop=2)
    last = cli.trainer.checkpoint_callback.last_model_path
    loaded = trellis.load(last)
    assert type(loaded) is type(cli.model)
    assert all(torch.equal(weights[k], v) for k, v in loaded.state_dict().items())

    straight = fit(anew(cli), stop=4)
    resumed = fit(anew(cli), stop=4, ckpt_path=last)
    assert all(torch.equal(straight[k], v) for k, v in resumed.items())
    moved = [k for k, v in weights.items() if not torch.equal(straight[k], v)]
    assert moved, "two more steps must change the weights, or the comparison shows nothing"


def test_siblings_are_configs() -> None:
    assert set(NAMES) >= SIBLINGS


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_config_says_what_it_shows_and_has_a_row(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"{path.parent.name}/{path.name}" in {row.config for row in ledger().values()}
