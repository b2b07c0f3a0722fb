"""Regression from the command line, on both data sets that have real targets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.lightning_modules import cli

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
LINEAR = ("--model=Regression", "--model.network=MLP", "--model.network.hidden_channels=[]")


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (SyntheticPoints("plane"), ("--data=SyntheticPoints", "--data.kind=plane")),
        (Digits(targets="real"), ("--data=Digits", "--data.targets=real")),
    ],
    ids=["points", "digits"],
)
def test_a_linear_model_is_fitted_tested_and_predicts(data, options, tmp_path: Path) -> None:
    fit = ("--trainer.max_epochs=8", "--model.optimizer=Adam", "--model.optimizer.lr=0.05")
    cli.main(["fit", *LINEAR, *options, *fit, *QUIET])
    (best,) = tmp_path.glob("runs/*/*/checkpoints/best.ckpt")
    cli.main(["test", f"--ckpt_path={best}", *QUIET])
    cli.main(["predict", f"--ckpt_path={best}", *QUIET])
    (path,) = tmp_path.rglob("predictions.csv")
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=1)).float()
    means, deviations = table[:, :1], table[:, 1:]
    data.setup()
    (x, y), (x_test, y_test) = (
        (torch.cat([torch.ones(len(part), 1), data.x[part]], dim=1), data.y[part])
        for part in (data.splits["train"], data.splits["test"])
    )
    # The solution of least norm: some pixels are always 0.
    solution = torch.linalg.lstsq(x.double(), y.double()[:, None], driver="gelsd").solution
    best_rmse = (x_test.double() @ solution - y_test[:, None]).square().mean().sqrt()
    rmse = (means - y_test[:, None]).square().mean().sqrt()
    assert rmse < 1.15 * best_rmse < 0.9 * y_test.std()
    assert torch.equal(deviations, torch.ones(len(y_test), 1))


@pytest.mark.parametrize(
    ("model", "options", "fix"),
    [
        ("Regression", ("--data=Digits",), "use Classification"),
        ("Classification", ("--data=Digits", "--data.targets=real"), "use Regression"),
    ],
)
def test_the_other_kind_of_targets_is_refused_in_one_line(model, options, fix, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", f"--model={model}", *options, "--trainer.max_epochs=1", *QUIET])
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert stop.value.code == 2
    assert fix in line
