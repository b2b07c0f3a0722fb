"""Linear models from the command line beside scikit-learn's, with equal regularisation."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import trellis
from trellis.datamodules.engine.division import Division
from trellis.datamodules.vector.sklearn_data import SklearnData
from trellis.lightning_modules import cli

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.default_root_dir=.")
WHOLE = Division(val_share=0.0)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fitted(config: str, *options: str, capsys) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, biases and the test's score of a run from the command line."""
    cli.main(["fit", f"--config={config}", *QUIET, "--trainer.run_name=fit", *options])
    path = "fit/0/checkpoints/best.ckpt"
    capsys.readouterr()
    cli.main(["test", path, *QUIET])
    name = "test/accuracy" if "logistic" in config else "test/rmse"
    [line] = [line for line in capsys.readouterr().out.splitlines() if name in line]
    weights, biases = trellis.load(path).network.parameters()
    return (
        weights.detach().numpy(),
        biases.detach().numpy(),
        float(re.findall(r"[-\d.e]+", line)[-1]),
    )


def raw(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Features and targets as scikit-learn loads them, and the rows of our splits."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    data = SklearnData(name, WHOLE)
    data.setup()
    strata = torch.from_numpy(y).long() if data.spec.targets == "labels" else torch.zeros(len(y))
    rows = {split: part.numpy() for split, part in WHOLE.rows(strata.long()).items()}
    scaler = StandardScaler().fit(x[rows["train"]])
    return scaler.transform(x), y, rows


@pytest.mark.long
@pytest.mark.parametrize(("name", "inverse"), [("breast_cancer", 1.0), ("wine", 0.5)])
def test_logistic_regression_is_that_of_scikit_learn(name: str, inverse: float, capsys) -> None:
    x, y, rows = raw(name)
    train, test = rows["train"], rows["test"]
    oracle = LogisticRegression(C=inverse, tol=1e-8, max_iter=10_000).fit(x[train], y[train])
    # With two classes scikit-learn has one row of weights, here there are two.
    decay = (2 if name == "breast_cancer" else 1) / (inverse * len(train))
    options = (f"--data.name={name}", f"--model.optimizer.weight_decay={decay}")
    weights, biases, accuracy = fitted("logistic_breast_cancer", *options, capsys=capsys)
    if name == "breast_cancer":  # our classes are in the order of their names
        weights, biases = weights[:1] - weights[1:], biases[:1] - biases[1:]
    else:  # a softmax stays the same if all of its inputs are shifted
        biases = biases - biases.mean() + oracle.intercept_.mean()
    np.testing.assert_allclose(weights, oracle.coef_, atol=1e-3)
    np.testing.assert_allclose(biases, oracle.intercept_, atol=1e-3)
    assert accuracy == pytest.approx(oracle.score(x[test], y[test]), abs=0.005)


@pytest.mark.long
def test_logistic_regression_of_digits_is_that_of_scikit_learn(capsys) -> None:
    x, y, rows = raw("digits")
    train, test = rows["train"], rows["test"]
    oracle = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(x[train], y[train])
    options = ("--data.name=digits", f"--model.optimizer.weight_decay={10 / len(train)}")
    weights, _, accuracy = fitted("logistic_breast_cancer", *options, capsys=capsys)
    np.testing.assert_allclose(weights, oracle.coef_, atol=1e-3)
    assert accuracy == pytest.approx(oracle.score(x[test], y[test]), abs=0.005)


def test_ridge_regression_is_that_of_scikit_learn(capsys) -> None:
    x, y, rows = raw("diabetes")
    train, test = rows["train"], rows["test"]
    scale, mean = y[train].std(), y[train].mean()
    oracle = Ridge(alpha=1.0).fit(x[train], (y[train] - mean) / scale)
    weights, biases, rmse = fitted("ridge_diabetes", capsys=capsys)
    np.testing.assert_allclose(weights[0], oracle.coef_, atol=1e-3)
    assert abs(biases[0]) < 1e-3
    errors = oracle.predict(x[test]) * scale + mean - y[test]
    assert rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.005)


@pytest.mark.parametrize("name", ["iris", "linnerud", "wine"])
def test_features_of_the_training_rows_are_standardised(name: str) -> None:
    data = SklearnData(name)
    data.setup()
    x, y = data.splits["train"]
    torch.testing.assert_close(x.mean(0), torch.zeros(x.size(1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(x.size(1)))
    assert y.shape == ((14, 3) if name == "linnerud" else (len(x),))
    raw_x, raw_y = getattr(datasets, f"load_{name}")(return_X_y=True)
    assert sum(len(x) for x, _ in data.splits.values()) == len(raw_x)
    if name == "wine":
        counts = data.splits["test"][1].bincount() / len(data.splits["test"][1])
        np.testing.assert_allclose(counts, np.bincount(raw_y) / len(raw_y), atol=0.02)
