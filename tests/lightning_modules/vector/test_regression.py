"""Regression from the command line, on both data sets that have real targets."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import quiet_trainer
from torch.distributions import Normal

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.lightning_modules import cli
from trellis.lightning_modules.vector.regression import Moments, Regression
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
LINEAR = ("--model=Regression", "--model.network=MLP", "--model.network.hidden_channels=[]")


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.long
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


class Standardized(SyntheticPoints):
    """Heights in a unit in which they are far from 0 and large."""

    unit, zero = 250.0, 9000.0

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.y = self.y * self.unit + self.zero
        y = self.y[self.splits["train"]]
        self.spec = replace(
            self.spec, target_means=(float(y.mean()),), target_scales=(float(y.std()),)
        )


def outcome(
    model: Regression, data: SyntheticPoints, folder: Path
) -> tuple[dict[str, float], Any]:
    trainer = quiet_trainer(folder, max_epochs=20, check_val_every_n_epoch=20)
    trainer.fit(model, datamodule=data)
    [scores] = trainer.test(model, datamodule=data, verbose=False)
    return scores, Moments(
        *map(torch.cat, zip(*trainer.predict(model, datamodule=data), strict=True))
    )


def test_scores_and_predictions_are_in_the_unit_of_the_targets(tmp_path: Path) -> None:
    network, adam = partial(MLP, hidden_channels=()), partial(torch.optim.Adam, lr=0.05)
    data = Standardized("plane")
    model = Regression(network, adam, likelihood="heteroscedastic")
    scores, (mean, std) = outcome(model, data, tmp_path)
    y = data.y[data.splits["test"], None]
    rmse = (mean - y).square().mean().sqrt()
    nats = -Normal(mean.double(), std.double()).log_prob(y.double()).mean()
    assert scores["test/rmse"] == pytest.approx(float(rmse), rel=1e-3)
    assert scores["test/nll_nats"] == pytest.approx(float(nats), rel=1e-3)
    assert rmse < 1.3 * data.noise * data.unit  # the noise in this unit


@pytest.mark.long
def test_draws_of_dropout_are_a_mixture(tmp_path: Path) -> None:
    network = partial(MLP, hidden_channels=(64,), dropout=0.5)
    adam = partial(torch.optim.Adam, lr=0.01)
    data = Standardized("saddle")
    model = Regression(network, adam, likelihood="heteroscedastic", dropout_samples=400)
    scores, (mean, std) = outcome(model, data, tmp_path)
    x, y = data.x[data.splits["test"]], data.y[data.splits["test"], None].double()
    model.network.train()
    with torch.no_grad():
        draws = [model(x).double().chunk(2, dim=-1) for _ in range(400)]
    location, log_scale = map(torch.stack, zip(*draws, strict=True))
    unit, zero = data.spec.target_scales[0], data.spec.target_means[0]
    normals = Normal(location * unit + zero, log_scale.exp() * unit)
    nats = -(normals.log_prob(y).exp().mean(0).log()).mean()
    spread = (normals.mean.var(0) + normals.variance.mean(0)).sqrt()
    assert scores["test/nll_nats"] == pytest.approx(float(nats), abs=0.02)
    torch.testing.assert_close(std.double(), spread, rtol=0.2, atol=0)
    off = -normals.log_prob(y).mean()  # the mean of the draws' scores is worse, by Jensen
    assert scores["test/nll_nats"] < off - 0.05
    assert not model.network.eval().training


def test_beta_learns_a_mean_that_the_likelihood_gives_up(tmp_path: Path) -> None:
    """At 1 the gradient of the mean is that of least squares."""
    y, mean, log_scale = torch.randn(3, 6, 1, dtype=torch.float64)
    mean.requires_grad_()
    model = Regression(
        likelihood="heteroscedastic", beta=1.0, spec=TensorSpec(2, 1, targets="real")
    )
    model.configure_model()
    model.network = Returns(torch.cat([mean, log_scale], dim=1))
    model.training_step((torch.zeros(6, 2), y), 0).backward()
    torch.testing.assert_close(mean.grad, (mean - y).detach() / 6)


@pytest.mark.parametrize("step", ["training_step", "validation"])
def test_targets_of_another_number_are_refused(step: str) -> None:
    """One target would broadcast to two, without an error."""
    model = Regression(spec=TensorSpec(2, 2, targets="real"))
    model.configure_model()
    batch = torch.zeros(6, 2), torch.zeros(6)
    with pytest.raises(ValueError, match="give a parameter for each target"):
        model.training_step(batch, 0) if step == "training_step" else model.evaluate(batch, "val")


class Returns(torch.nn.Module):
    """A network that says the same of everything."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outputs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.5}, "beta=0.5: give .* with likelihood=heteroscedastic alone"),
        ({"beta": 2.0, "likelihood": "heteroscedastic"}, "beta=2.0: give a number from 0 to 1"),
        ({"dropout_samples": -1}, "dropout_samples=-1: give at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Regression(**options)


def test_draws_need_dropout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MLP has no dropout to draw from"):
        outcome(Regression(dropout_samples=3), SyntheticPoints("plane"), tmp_path)
