"""Checkpoints of every earlier layout load, go on as they would have gone on, and predict.

``layouts/flat`` was written before families became folders: a tiny run of each objective, stopped
after step 3, and the sums of its weights' absolute values after step 6.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from config_cases import StopAfter
from learning_cases import Lines, quiet_trainer

import trellis
from trellis.index import RENAMED, current_path, public_names
from trellis.lightning_modules.commands.command_line import with_checkpoint
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

LAYOUTS = Path(__file__).parents[1] / "layouts"
EXPECTED = json.loads((LAYOUTS / "flat" / "expected.json").read_text())

# This account did not write the checkpoints: what files they read is said once more.
FILES = {
    "GraphClassification": ("data_dir=.",),
    "CausalLM": ("path=lines.txt",),
    "MaskedLM": ("path=lines.txt",),
    "SequenceClassification": ("train=train.tsv", "val=val.tsv"),
    "Tagging": ("train=train.conll", "val=val.conll"),
}


@pytest.fixture
def _beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(LAYOUTS / "data", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def resumed(name: str, path: Path) -> tuple[Any, Any, Any]:
    """The run that goes on from a checkpoint, before it does: trainer, objective, data."""
    options: dict[str, Any] = {
        "max_epochs": 4, "val_check_interval": 2, "limit_val_batches": 2, "log_every_n_steps": 1,
        "num_sanity_val_steps": 0, "accelerator": "cpu", "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    if name == "Regression":  # its data belong to these tests, and no stranger may name them
        return quiet_trainer(Path("runs"), **options), trellis.load(path), Lines()
    words = [f"--trainer.{option}={value}" for option, value in options.items()]
    _, *config, _ = with_checkpoint(["fit", f"--ckpt_path={path}"])
    files = [f"--data.{option}" for option in FILES.get(name, ())]
    cli = TrellisCLI([*config, "--seed_everything=5", *words, *files], run=False)
    return cli.trainer, cli.model, cli.datamodule


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*an earlier version wrote it")
@pytest.mark.filterwarnings("ignore:.*was written by another account")
@pytest.mark.usefixtures("_beside_the_data")
@pytest.mark.parametrize("name", EXPECTED)
def test_a_checkpoint_of_the_flat_layout_goes_on_and_predicts(name: str) -> None:
    quieten()
    path = LAYOUTS / "flat" / f"{name}.ckpt"
    loaded = trellis.load(path)
    assert type(loaded).__name__ == RENAMED.get(name, name)
    trainer, objective, data = resumed(name, path)
    trainer.callbacks.insert(0, StopAfter(6))
    with pytest.raises(SystemExit):
        trainer.fit(objective, datamodule=data, ckpt_path=path)
    assert trainer.global_step == 6
    assert trainer.checkpoint_callback.best_model_score is not None, (
        "the best state so far was forgotten"
    )
    sums = {k: float(v.double().abs().sum()) for k, v in objective.state_dict().items()}
    assert sums == pytest.approx(EXPECTED[name]["weights"], rel=1e-5)
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    if hasattr(objective, "predict_step") and name not in CANNOT_PREDICT:
        with torch.no_grad():
            assert loaded.predict_step(batch, 0) is not None


# Objectives without predictions of a batch.
CANNOT_PREDICT = {
    "CausalLM", "PolicyGradient", "ActorCritic", "PPO", "TRPO", "DQN", "DDPG", "TD3", "SAC",
}  # fmt: skip


def test_every_rename_leads_to_a_name_of_today() -> None:
    machinery = {"BestAndLastCheckpoint"}
    assert set(RENAMED.values()) - machinery <= set(public_names())
    assert not set(RENAMED) & set(public_names())


def test_a_name_of_another_package_is_none_of_ours() -> None:
    assert current_path("torch_geometric.nn.models.GCN") is None
    assert current_path("trellis.nowhere.Nothing") is None
