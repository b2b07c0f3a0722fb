import base64
import csv
import hashlib
import os
import warnings
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

wandb = pytest.importorskip("wandb")

from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger, WandbLogger  # noqa: E402
from offline_wandb import folders, read_run  # noqa: E402

from trellis.datamodules.graph.karate_club import KarateClub  # noqa: E402
from trellis.lightning_modules.callbacks.pictures import (  # noqa: E402
    ConfusionMatrix,
    GraphPicture,
    LearningCurves,
)
from trellis.lightning_modules.engine.checkpoint import read  # noqa: E402
from trellis.lightning_modules.engine.trainer import Trainer  # noqa: E402
from trellis.lightning_modules.engine.wandb_run import WandbRun  # noqa: E402
from trellis.lightning_modules.graph.node_classification import NodeClassification  # noqa: E402
from trellis.networks.graph.gnn import GCN  # noqa: E402

SILENT = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
UNSET = ("WANDB_DIR", "WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID")


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SILENT.items():
            patch.setenv(name, value)
        for name in UNSET:
            patch.delenv(name, raising=False)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.chdir(tmp_path_factory.mktemp("working_directory"))
        yield
        wandb.finish()
    assert not Path("wandb").exists()


def fit(root, *, epochs=3, logger=None, callbacks=(), ckpt_path=None, **options):
    """A trainer after a short fit that logged to W&B."""
    logger = WandbLogger() if logger is None else logger
    trainer = Trainer(
        max_epochs=epochs,
        run_name="karate",
        default_root_dir=root,
        logger=logger,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        **options,
    )
    trainer.cli_config = getattr(logger, "cli_config", None)
    model = NodeClassification(network=partial(GCN, hidden_channels=4), optimizer=adam(lr=0.05))
    with warnings.catch_warnings():  # of W&B's files where metrics.csv is to be
        warnings.filterwarnings("error", message=".*exists and is not empty")
        trainer.fit(model, datamodule=KarateClub(steps_per_epoch=2), ckpt_path=ckpt_path)
    return trainer


def adam(lr):
    return partial(torch.optim.Adam, lr=lr)


@pytest.fixture(scope="module")
def fitted(_offline, tmp_path_factory):
    """The first fit's trainer, the run it wrote, and the run that resumed it."""
    root = tmp_path_factory.mktemp("runs")
    trainer = fit(root, callbacks=[ConfusionMatrix(), GraphPicture(), LearningCurves()])
    wandb.finish()
    logger = WandbLogger()
    logger.cli_config = {"seed_everything": 3, "data": {"class_path": "KarateClub"}}
    again = fit(root, epochs=5, logger=logger, ckpt_path=trainer.run_dir / "checkpoints/last.ckpt")
    wandb.finish()
    return trainer, *(read_run(next(iter(folders(t.run_dir)))) for t in (trainer, again)), again


def test_a_run_is_named_after_its_folder_and_lies_in_it(fitted):
    trainer, run, *_ = fitted
    assert run.project == "trellis"
    assert run.name == "karate/0"
    assert len(folders(trainer.run_dir)) == 1
    assert trainer.run_dir.name == "0"


def test_the_config_says_what_was_run(fitted):
    _, run, *_ = fitted
    model, data = run.config["model"], run.config["data"]
    arguments = model["init_args"]
    assert model["class_path"].endswith("graph.NodeClassification")
    assert arguments["network"]["class_path"] == "trellis.networks.graph.GCN"
    assert arguments["network"]["init_args"] == {"hidden_channels": 4}
    assert arguments["optimizer"]["init_args"]["lr"] == 0.05
    assert data["class_path"].endswith("graph.KarateClub")
    assert data["init_args"]["steps_per_epoch"] == 2


def test_the_history_is_what_the_csv_says_on_one_axis(fitted):
    trainer, run, *_ = fitted
    with (trainer.run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for key in ("train/loss", "val/accuracy", "val/loss"):
        expected = [(int(row["step"]), float(row[key])) for row in rows if row[key]]
        assert dict(run.values(key)) == pytest.approx(dict(expected))
        assert len(run.values(key)) == len(expected) >= 3
    steps = [row["trainer/global_step"] for row in run.history]
    assert steps == sorted(steps)
    assert steps[-1] == 6
    assert axes(run) == {"trainer/global_step"}


def axes(run):
    return {metric.step_metric for metric in run.metrics if metric.glob_name == "*"}


def test_pictures_and_tables_are_in_the_run_and_beside_it(fitted):
    trainer, run, *_ = fitted
    for name in ("val/confusion_matrix", "graph", "learning_curves"):
        ((step, value),) = run.values(name)
        assert step == 6
        (shown,) = (folders(trainer.run_dir)[0] / "files" / f for f in value["filenames"])
        assert shown.read_bytes() == (trainer.run_dir / f"pictures/{name}.png").read_bytes()
    ((_, table),) = run.values("val/confusion_counts")
    assert table["ncols"] == 5
    assert table["nrows"] == 4


def test_the_best_checkpoint_is_an_artifact_also_offline(fitted):
    trainer, run, *_ = fitted
    (model,) = (artifact for artifact in run.artifacts if artifact.type == "model")
    assert model.name == f"model-{run.id}"
    assert set(model.aliases) == {"best", "latest"}
    (entry,) = model.manifest.contents
    best = Path(trainer.checkpoint_callback.best_model_path)
    digest = base64.b64encode(hashlib.md5(best.read_bytes()).digest()).decode()
    assert (entry.path, entry.digest) == ("model.ckpt", digest)
    best_loss = min(loss for _, loss in run.values("val/loss"))
    assert run.summary["best/val/loss"] == pytest.approx(best_loss)


def test_resuming_continues_the_same_run(fitted):
    trainer, first, second, again = fitted
    saved = read(trainer.run_dir / "checkpoints/last.ckpt")
    assert saved["callbacks"]["WandbRun"] == {"run_id": first.id}
    assert second.id == first.id
    assert again.run_dir != trainer.run_dir
    steps = [step for step, _ in second.values("train/loss")]
    assert steps == [6, 7, 8, 9]  # the first ended with step 5
    assert read(again.run_dir / "checkpoints/last.ckpt")["callbacks"]["WandbRun"] == {
        "run_id": first.id
    }


def test_the_config_of_the_command_line_is_kept(fitted):
    _, first, second, _ = fitted
    assert "seed_everything" not in first.config
    assert second.config["seed_everything"] == 3
    assert second.config["data"] == {"class_path": "KarateClub"}  # as it was typed
    assert second.config["model"] == first.config["model"]


def test_each_fit_of_a_process_has_a_run_of_its_own_but_users_runs_are_shared(tmp_path):
    first = fit(tmp_path).loggers[0].experiment
    second = fit(tmp_path).loggers[0].experiment
    assert first.id != second.id
    assert wandb.run is second
    wandb.finish()
    own = wandb.init(dir=str(tmp_path))
    with pytest.warns(UserWarning, match="wandb run already in progress"):
        folds = [fit(tmp_path, epochs=1).loggers[0].experiment for _ in range(2)]
    assert [run.id for run in folds] == [own.id] * 2
    wandb.finish()
    shared = read_run(Path(own.dir).parent)
    assert axes(shared) == {"trainer/global_step"}  # Lightning leaves this to the user
    assert [step for step, _ in shared.values("train/loss")] == [0, 1, 0, 1]


def begun(root, logger, **options):
    """``logger`` after ``begin``, before any run exists."""
    trainer = Trainer(run_name="a", default_root_dir=root, logger=logger, accelerator="cpu")
    (callback,) = (c for c in trainer.callbacks if isinstance(c, WandbRun))
    callback.begin(trainer, **options)
    assert logger._experiment is None
    return logger


def test_what_the_user_chose_stays(tmp_path, monkeypatch):
    chosen = {"name": "n", "project": "p", "save_dir": str(tmp_path), "version": "i"}
    options = begun(tmp_path, WandbLogger(**chosen))._wandb_init
    assert (options["name"], options["project"]) == ("n", "p")
    assert (options["dir"], options["id"], options["resume"]) == (str(tmp_path), "i", "allow")
    for name, value in {"DIR": "/d", "PROJECT": "lightning_logs", "NAME": "n"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logger = begun(tmp_path, WandbLogger())
    assert (logger._wandb_init["dir"], logger.save_dir) == ("/d", "/d")
    assert logger._wandb_init["name"] is None  # W&B itself reads WANDB_NAME
    assert logger.name == "lightning_logs"


def test_the_defaults_name_folder_and_project(tmp_path):
    logger = begun(tmp_path, WandbLogger())
    options = logger._wandb_init
    assert "anonymous" not in options  # W&B warns of it whatever its value
    assert options["name"] == "a/0"
    assert options["dir"] == logger.save_dir == str(tmp_path / "a" / "0")
    assert options["project"] == logger.name == "trellis"
    assert options["id"] is None


def test_a_checkpoint_that_knows_no_run_starts_a_new_one(tmp_path):
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"nothing")
    plain = tmp_path / "plain.ckpt"
    torch.save({"trellis": {"format": 1}, "callbacks": {}}, plain)
    for path in (bad, plain, tmp_path / "missing.ckpt", "best", None):
        assert begun(tmp_path, WandbLogger(), ckpt_path=path).version is None
    known = tmp_path / "known.ckpt"
    torch.save({"trellis": {"format": 1}, "callbacks": {"WandbRun": {"run_id": "abc"}}}, known)
    assert begun(tmp_path, WandbLogger(), ckpt_path=known).version == "abc"
    assert begun(tmp_path, WandbLogger(version="mine"), ckpt_path=known).version == "mine"


def test_fast_dev_run_leaves_nothing_behind(tmp_path):
    fit(tmp_path, fast_dev_run=True, callbacks=[ConfusionMatrix(), GraphPicture()])
    assert wandb.run is None
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_the_logger_uploads_is_not_uploaded_twice(tmp_path):
    logger = WandbLogger()
    logger._log_model = True  # its constructor refuses this offline
    saving = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/loss")
    trainer = fit(tmp_path, logger=logger, callbacks=[saving])
    wandb.finish()
    run = read_run(folders(trainer.run_dir)[0])
    models = [artifact for artifact in run.artifacts if artifact.type == "model"]
    assert len(models) == 1
    assert [entry.path for entry in models[0].manifest.contents] == ["model.ckpt"]
    assert run.summary["best/val/loss"] == pytest.approx(float(saving.best_model_score))


class WritesConfig(L.Callback):
    """Leaves a config file in the run folder, as a command line may."""

    def setup(self, trainer, pl_module, stage):
        (trainer.run_dir / "config.yaml").write_text("seed_everything: 5\n")


def test_the_config_file_of_the_run_is_read_where_nothing_else_is_known(tmp_path):
    trainer = fit(tmp_path, epochs=1, callbacks=[WritesConfig()])
    assert trainer.loggers[0].experiment.config["seed_everything"] == 5
    wandb.finish()


def test_only_wandb_loggers_get_the_callback(tmp_path):
    assert WandbRun.beside([CSVLogger(tmp_path)]) == []
    logger = WandbLogger()
    (callback,) = WandbRun.beside([CSVLogger(tmp_path), logger, WandbLogger()])
    assert callback.logger is logger
    assert os.environ["WANDB_MODE"] == "offline"
