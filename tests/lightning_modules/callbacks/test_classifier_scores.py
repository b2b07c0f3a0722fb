"""Scores of samples by a classifier: real images, one class, noise; and what is refused."""

import csv
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from short_runs import run
from torch import Tensor, nn

from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.lightning_modules.callbacks import image_classifier
from trellis.lightning_modules.callbacks.sample_metrics import ClassifierScores
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification
from trellis.metrics.frechet import frechet_distance, kernel_distance, moments
from trellis.spec import TensorSpec

STEPS = 60


class Replay(Objective):
    """Samples that repeat the training split, one class of it, or are noise."""

    spec_type = TensorSpec

    def __init__(self, kind: str = "all") -> None:
        super().__init__(partial(torch.optim.SGD, lr=0.1))
        self.save_hyperparameters()
        self.kind = kind
        self.drawn: list[Tensor] = []

    def build(self, spec: TensorSpec) -> None:
        self.weight = nn.Parameter(torch.zeros(()))

    def metrics(self, spec: TensorSpec):
        return {"loss": BatchMean()}

    def training_step(self, batch, batch_idx: int) -> Tensor:
        return (torch.rand(()) - self.weight).square()

    def evaluate(self, batch, stage) -> None:
        self.evaluated(stage)["loss"].update(self.weight, 1)

    def sample(self, num_samples: int) -> Tensor:
        data = self.trainer.datamodule
        chosen = data.splits["train"]
        if self.kind == "threes":
            chosen = chosen[data.y[chosen] == 3]
        x = data.x[chosen[torch.randint(len(chosen), (num_samples,))]]
        self.drawn.append(torch.rand(x.shape) if self.kind == "noise" else x)
        return self.drawn[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("classifiers"))


def scores(trainer: Trainer, split: str = "val") -> dict[str, float]:
    with (trainer.run_dir / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(f"{split}/fid_smallcnn")]
    prefix = f"{split}/"
    return {k[len(prefix) :]: float(v) for k, v in rows[-1].items() if k.startswith(prefix) and v}


def test_real_images_are_near_noise_and_single_classes_are_far(tmp_path, folder) -> None:
    found = {}
    for kind in ("all", "threes", "noise"):
        callback = ClassifierScores(400, steps=STEPS, cache_dir=folder)
        found[kind] = scores(run(tmp_path, Replay(kind), Digits(), callback))
    real, threes, noise = found.values()
    assert real["classes"] == 10
    assert real["class_ratio"] < 1.7
    assert threes["classes"] == 1
    assert threes["class_ratio"] == math.inf
    assert abs(real["kid_smallcnn"]) < 0.1 * min(noise["kid_smallcnn"], threes["kid_smallcnn"])
    assert real["fid_smallcnn"] < 0.1 * min(noise["fid_smallcnn"], threes["fid_smallcnn"])
    assert real["classifier_accuracy"] == noise["classifier_accuracy"] > 0.9


@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_are_those_of_the_features(tmp_path, folder, split) -> None:
    model, data = Replay(), Digits()
    callback = ClassifierScores(150, steps=STEPS, cache_dir=folder)
    trainer = run(tmp_path, model, data, callback)
    if split == "test":
        found = trainer.test(model, datamodule=data, verbose=False)[0]
        found = {key.removeprefix("test/"): value for key, value in found.items()}
    else:
        found = scores(trainer)
    classifier = image_classifier.image_classifier(data, Path(folder), STEPS)
    features = classifier(model.drawn[-1])[0]
    real = classifier(image_classifier.split_images(data, split, 150))[0]
    expected = frechet_distance(*moments(features), *moments(real))
    assert found["fid_smallcnn"] == pytest.approx(expected, rel=1e-4)
    assert found["kid_smallcnn"] == pytest.approx(kernel_distance(features, real), rel=1e-3)
    assert found["classifier_accuracy"] == pytest.approx(classifier.accuracy)


def test_scores_leave_no_trace_in_the_run(tmp_path, folder) -> None:
    scored = ClassifierScores(50, steps=3, cache_dir=str(tmp_path / "new"))
    trainers = [run(tmp_path, Replay(), Digits(), *extra) for extra in ((), (scored,))]
    states = [torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True) for t in trainers]
    assert torch.equal(*(state["state_dict"]["weight"] for state in states))
    assert states[0]["state_dict"].keys() == states[1]["state_dict"].keys(), "it is no part of it"
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])


def test_it_is_trained_before_the_run_and_once(tmp_path, folder, monkeypatch, capsys) -> None:
    calls, train = [], image_classifier._train
    monkeypatch.setattr(image_classifier, "_train", lambda *args: calls.append(1) or train(*args))
    options = {"steps": 4, "cache_dir": str(tmp_path / "new")}
    for epochs in (1, 3):
        run(tmp_path, Replay(), Digits(), ClassifierScores(20, **options), max_epochs=epochs)
    assert calls == [1]
    trainer = Trainer(run_name="v", default_root_dir=tmp_path, accelerator="cpu", logger=False)
    trainer.callbacks.append(ClassifierScores(20, steps=5, cache_dir=options["cache_dir"]))
    [found] = trainer.validate(Replay(), datamodule=Digits(), verbose=False)  # no gradients there
    assert calls == [1, 1]
    assert found["val/classes"] >= 1


def test_a_trial_run_trains_no_classifier(tmp_path) -> None:
    callback = ClassifierScores(cache_dir=str(tmp_path / "new"))
    run(tmp_path, Replay(), Digits(), callback, fast_dev_run=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("model", "data", "match"),
    [
        (Classification, Digits, "ClassifierScores needs samples.*not with Classification"),
        (Replay, SyntheticPoints, r"ClassifierScores, SyntheticPoints: .*\[2\] are not images"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_training(tmp_path, model, data, match) -> None:
    with pytest.raises(ValueError, match=match):
        run(tmp_path, model(), data(), ClassifierScores())


def test_counts_must_suffice() -> None:
    with pytest.raises(ValueError, match="num_samples=1: give at least 2, for a covariance"):
        ClassifierScores(num_samples=1)
    with pytest.raises(ValueError, match="steps=0"):
        ClassifierScores(steps=0)
