"""``trellis fit --ckpt_path`` goes on with the run that a checkpoint belongs to."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Timer

from trellis.datamodules.graph import KarateClub
from trellis.lightning_modules import cli
from trellis.lightning_modules.engine.run_config import KEY, resumed_run
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.graph import NodeClassification

CONFIG = {
    "seed_everything": 3,
    "trainer": {
        "max_epochs": 6, "gradient_clip_val": 0.01, "enable_progress_bar": False,
        "enable_model_summary": False, "log_every_n_steps": 1,
        "callbacks": [{"class_path": "EarlyStopping",
                       "init_args": {"monitor": "val/loss", "patience": 50}}],
    },
    "model": {"class_path": "NodeClassification"},
    "data": {"class_path": "KarateClub"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("karate.yaml").write_text(yaml.safe_dump(CONFIG))


def weights(version: int) -> dict[str, torch.Tensor]:
    path = f"runs/karate/{version}/checkpoints/last.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def config(version: int) -> dict[str, Any]:
    return yaml.safe_load(Path(f"runs/karate/{version}/config.yaml").read_text())


def test_the_checkpoint_alone_resumes_the_whole_run() -> None:
    cli.main(["fit", "--config=karate.yaml"])
    cli.main(["fit", "--config", "karate.yaml", "--trainer.max_epochs=3"])
    last = "runs/karate/1/checkpoints/last.ckpt"
    cli.main(["fit", "--ckpt_path", last, "--trainer.max_epochs=6"])
    whole, resumed = weights(0), weights(2)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert config(2)["seed_everything"] == 3
    trainer = config(2)["trainer"]
    assert trainer["gradient_clip_val"] == 0.01
    assert trainer["callbacks"][0]["init_args"]["patience"] == 50
    # Unless it is told otherwise, a run ends where it was to end.
    cli.main(["fit", last])
    assert config(3)["trainer"]["max_epochs"] == 3


def test_of_another_accounts_run_only_plain_options_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.main(["fit", "--config", "karate.yaml", "--trainer.max_epochs=1"])
    checkpoint = torch.load("runs/karate/0/checkpoints/last.ckpt", weights_only=True)
    assert resumed_run(checkpoint) == checkpoint[KEY]["config"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    found = resumed_run(checkpoint)
    assert found["trainer"]["gradient_clip_val"] == 0.01
    assert not {"callbacks", "logger", "default_root_dir", "run_name"} & set(found["trainer"])
    checkpoint[KEY]["config"]["trainer"]["precision"] = "{class_path: os.system}"
    assert "precision" not in resumed_run(checkpoint)["trainer"]


def in_python(kind: type[L.Trainer] = Trainer, **options: Any) -> str:
    """The last checkpoint of a run that no command started."""
    L.seed_everything(3)
    trainer = kind(enable_progress_bar=False, enable_model_summary=False, **options)
    trainer.fit(NodeClassification(), datamodule=KarateClub())
    trainer.save_checkpoint("last.ckpt")
    return "last.ckpt"


def test_a_run_of_python_goes_on_with_its_plain_options() -> None:
    in_python(max_epochs=6, gradient_clip_val=0.01)
    whole = torch.load("last.ckpt", weights_only=True)["state_dict"]
    last = in_python(max_epochs=3, gradient_clip_val=0.01, callbacks=[Timer()])
    with pytest.warns(
        UserWarning,
        match=r"last.ckpt: its run was started from Python; of its trainer only max_epochs=3 and "
        r"gradient_clip_val=0.01 are stored: type its callbacks and all else that is to go on",
    ):
        cli.main(["fit", last, "--trainer.max_epochs=6", "--trainer.run_name=karate"])
    resumed = weights(0)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert config(0)["trainer"]["gradient_clip_val"] == 0.01


def test_of_a_run_of_lightnings_trainer_nothing_is_stored() -> None:
    last = in_python(L.Trainer, max_epochs=2, logger=False)
    with pytest.warns(UserWarning, match="last.ckpt: .*of its trainer nothing is stored: type"):
        cli.main(["fit", last, "--trainer.max_epochs=3", "--trainer.run_name=karate"])
    assert config(0)["trainer"]["max_epochs"] == 3


def test_a_run_of_a_command_lacks_nothing(recwarn: pytest.WarningsRecorder) -> None:
    cli.main(["fit", "--config=karate.yaml", "--trainer.max_epochs=1"])
    cli.main(["fit", "runs/karate/0/checkpoints/last.ckpt", "--trainer.max_epochs=2"])
    assert not [each for each in recwarn if "stored" in str(each.message)]


def failing(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([*words])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_failed_start_takes_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert "steps_per_epoch=0" in failing(
        capsys, "fit", "--config", "karate.yaml", "--data.steps_per_epoch=0"
    )
    assert not Path("runs").exists() or not list(Path("runs").rglob("*.yaml"))
    cli.main(["fit", "--config", "karate.yaml", "--trainer.max_epochs=1"])
    assert Path("runs/karate/0/config.yaml").is_file()


def test_a_run_stays_below_its_root(capsys: pytest.CaptureFixture[str]) -> None:
    text = failing(capsys, "fit", "--config", "karate.yaml", "--trainer.run_name=..")
    assert "run_name='..'" in text


def test_lightnings_checkpoints_lie_in_the_numbered_run() -> None:
    cli.main(["fit", "--config", "karate.yaml", "--trainer.max_epochs=1",
              "--trainer.callbacks=ModelCheckpoint"])  # fmt: skip
    found = [path.parent for path in Path().rglob("*.ckpt")]
    assert found == [Path("runs/karate/0/checkpoints")]


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_an_untrained_network_is_not_evaluated(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = failing(capsys, command, "--config", "karate.yaml")
    assert f"trellis {command} evaluates a checkpoint: give --ckpt_path" in text
