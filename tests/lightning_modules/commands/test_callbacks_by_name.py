"""Lightning's own callbacks and torch's schedules by their short names, on the command line."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from trellis.lightning_modules import cli

FIT = ["fit", "--model=Classification", "--model.network=MLP", "--data=Digits",
       "--data.batch_size=200", "--trainer.max_epochs=3", "--trainer.log_every_n_steps=1",
       "--trainer.run_name=here", "--trainer.enable_progress_bar=false",
       "--trainer.enable_model_summary=false"]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def weights(*options: str) -> torch.Tensor:
    cli.main([*FIT, *options])
    newest = max(Path("runs/here").iterdir(), key=lambda path: int(path.name))
    saved = torch.load(newest / "checkpoints" / "last.ckpt", weights_only=True)
    return saved["state_dict"]["network.layers.0.weight"]


def callback(name: str, **options: object) -> list[str]:
    given = [f"--trainer.callbacks.{option}={value}" for option, value in options.items()]
    return [f"--trainer.callbacks={name}", *given]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_averages_of_weights_and_pruning_change_what_is_saved() -> None:
    plain = weights()
    assert not torch.equal(weights(*callback("EMAWeightAveraging", decay=0.7)), plain)
    swa = callback("StochasticWeightAveraging", swa_lrs=0.1, swa_epoch_start=1)
    assert not torch.equal(weights(*swa), plain)
    pruned = weights(*callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.5))
    share = float((pruned == 0).float().mean())
    assert share > 0.2 > float((plain == 0).float().mean())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_finders_change_what_is_trained_with(capsys: pytest.CaptureFixture[str]) -> None:
    plain = weights()
    assert not torch.equal(weights(*callback("LearningRateFinder", num_training_steps=20)), plain)
    finder = callback("BatchSizeFinder", init_val=50, max_trials=2, steps_per_trial=1)
    assert not torch.equal(weights(*finder), plain)


def rates(*options: str) -> list[float]:
    """The learning rate of each epoch."""
    cli.main([*FIT, "--model.optimizer=SGD", "--model.optimizer.lr=1.0",
              *callback("LearningRateMonitor", logging_interval="epoch"), *options])  # fmt: skip
    with open("runs/here/0/metrics.csv", newline="") as file:
        return [float(row["lr-SGD"]) for row in csv.DictReader(file) if row["lr-SGD"]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["ExponentialLR", "gamma=0.5"], [1, 0.5, 0.25]),
        (["LinearLR", "start_factor=1.0", "end_factor=0.5", "total_iters=2"], [1, 0.75, 0.5]),
        (["MultiStepLR", "milestones=[1, 2]", "gamma=0.1"], [1, 0.1, 0.01]),
        (["LambdaLR", "lr_lambda=decays.of_epoch"], [1, 1 / 2, 1 / 3]),
        (["ReduceLROnPlateau", "patience=0", "factor=0.5", "threshold=1e6",
          "threshold_mode=abs", "monitor=val/accuracy", "mode=max"], [1, 1, 0.5]),
    ],
    ids=lambda each: each[0] if isinstance(each[0], str) else "",
)  # fmt: skip
def test_decays_by_name(options: list[str], expected: list[float]) -> None:
    Path("decays.py").write_text("def of_epoch(epoch):\n    return 1 / (1 + epoch)\n")
    name, *given = options
    found = rates(f"--model.lr_scheduler={name}", *(f"--model.lr_scheduler.{g}" for g in given),
                  "--import=decays")  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-6)


def test_early_stopping(capsys: pytest.CaptureFixture[str]) -> None:
    stop = callback("EarlyStopping", monitor="val/loss", min_delta=9.0, patience=1)
    cli.main([*FIT, *stop, "--trainer.max_epochs=9"])
    with open("runs/here/0/metrics.csv", newline="") as file:
        assert max(int(row["epoch"]) for row in csv.DictReader(file)) == 1
