"""Every logger that is installed, by its short name: its metrics and its pictures, read back."""

import csv
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import offline_wandb
import pytest

from trellis.lightning_modules import cli

FIT = ["fit", "--model", "NodeClassification", "--data", "KarateClub", "--trainer.max_epochs=3",
       "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
       "--trainer.log_every_n_steps=1", "--trainer.callbacks", "ConfusionMatrix",
       "--trainer.callbacks+=LearningCurves"]  # fmt: skip
RUN = Path("runs/nodeclassification_karateclub/0")
SLOW = ("MLFlowLogger", "WandbLogger")
Found = tuple[dict[int, float], set[str]]  # values of val/loss by step, names of pictures


def from_csv() -> Found:
    with next(Path("logs").rglob("metrics.csv")).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    return {int(row["step"]): float(row["val/loss"]) for row in rows}, set()


def from_tensorboard() -> Found:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = events.EventAccumulator(str(next(Path("logs").rglob("events.*")).parent)).Reload()
    return {e.step: e.value for e in read.Scalars("val/loss")}, set(read.Tags()["images"])


def from_wandb() -> Found:
    import wandb

    wandb.finish()
    run = offline_wandb.read_run(offline_wandb.folders(".")[-1])
    names = {key for row in run.history for key in row if "_type" in str(row[key])}
    names |= {key.partition("/filenames")[0] for row in run.history for key in row}
    return dict(run.values("val/loss")), {name for name in names if name in PICTURES}


def from_mlflow() -> Found:
    client = pytest.importorskip("mlflow.tracking").MlflowClient(
        f"sqlite:///{Path('runs/mlflow.db').absolute()}"
    )
    (experiment,) = client.search_experiments(filter_string="name = 'karate'")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "val/loss")
    kept = Path("runs/mlflow", run.info.run_id, "artifacts", "pictures")
    names = {path.relative_to(kept).with_suffix("").as_posix() for path in kept.rglob("*.png")}
    assert run.data.params["network/class_path"] == "trellis.networks.graph.GCN"
    return {each.step: each.value for each in history}, names


PICTURES = {"val/confusion_matrix", "learning_curves"}
LOGGERS: dict[str, tuple[list[str], Callable[[], Found], set[str]]] = {
    "CSVLogger": (["--trainer.logger.save_dir=logs"], from_csv, set()),
    "TensorBoardLogger": (["--trainer.logger.save_dir=logs"], from_tensorboard, PICTURES),
    "WandbLogger": (["--trainer.logger.offline=true"], from_wandb, PICTURES),
    "MLFlowLogger": (["--trainer.logger.experiment_name=karate"], from_mlflow, PICTURES),
}
PACKAGES = {"TensorBoardLogger": "tensorboard", "WandbLogger": "wandb", "MLFlowLogger": "mlflow"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in LOGGERS],
)
def test_metrics_and_pictures_arrive(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason="an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    options, found, pictures = LOGGERS[name]
    cli.main([*FIT, "--trainer.logger", name, *options])
    values, names = found()
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    expected = {int(row["step"]): float(row["val/loss"]) for row in rows}
    assert len(expected) == 3
    assert values == pytest.approx(expected, rel=1e-6)
    assert names >= pictures
    pictures_of = RUN / "pictures"
    kept = {path.relative_to(pictures_of).as_posix() for path in pictures_of.rglob("*.png")}
    assert kept == {f"{each}.png" for each in PICTURES}


@pytest.mark.skipif(find_spec("comet_ml") is not None, reason="Comet is installed")
def test_a_logger_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main([*FIT, "--trainer.logger", "CometLogger"])
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "error:" in each]
    assert stop.value.code == 2
    assert "pip install -U 'comet-ml" in line
