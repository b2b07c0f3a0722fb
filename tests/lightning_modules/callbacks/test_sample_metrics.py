"""Mode coverage of the samples of a run, which does not change the run."""

import csv
from functools import partial

import pytest
import torch
from short_runs import run
from torch import Tensor, nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.callbacks.sample_metrics import ModeCoverage
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.vector.classification import Classification
from trellis.metrics.coverage import mode_coverage
from trellis.spec import TensorSpec

CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


class Corners(DataModule):
    """Points around four corners."""

    def __init__(self, num_examples: int = 40) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.centres, self.scale = CORNERS, 0.1
        self.y = torch.arange(num_examples) % 4
        noise = torch.randn(num_examples, 2, generator=torch.Generator().manual_seed(0))
        self.x = CORNERS[self.y] + self.scale * noise
        self.spec = TensorSpec(2, 4)

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=8, train=split == "train")


class Bag(Objective):
    """Draws from chosen corners with a learnt shift, through dropout, which sampling must not."""

    spec_type = TensorSpec

    def __init__(self, corners: int = 4, conditional: bool = False, lr: float = 0.001) -> None:
        super().__init__(partial(torch.optim.Adam, lr=lr))
        self.save_hyperparameters()
        self.corners, self.conditional = corners, conditional
        self.drawn: list[Tensor] = []

    def build(self, spec: TensorSpec) -> None:
        self.shift = nn.Parameter(torch.zeros(2))
        self.dropout = nn.Dropout(0.5)

    def metrics(self, spec: TensorSpec):
        return {"loss": BatchMean()}

    def training_step(self, batch, batch_idx: int) -> Tensor:
        return (self.dropout(batch[0] + 0.1 * torch.randn(2)) - self.shift).square().mean()

    def evaluate(self, batch, stage) -> None:
        self.evaluated(stage)["loss"].update(
            (batch[0] - self.shift).square().mean(), len(batch[0])
        )

    def sample(self, num_samples: int, y: Tensor | None = None) -> Tensor:
        chosen = torch.randint(self.corners, (num_samples,)) if y is None else y
        x = CORNERS[chosen] + 0.1 * torch.randn(num_samples, 2)
        x = self.dropout(x) + self.shift
        self.drawn.append(x)
        assert not torch.is_grad_enabled()
        return x


def logged(trainer, key: str) -> list[float]:
    with (trainer.run_dir / "metrics.csv").open(newline="") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


@pytest.mark.parametrize("corners", [4, 3, 1])
def test_modes_are_counted_at_each_validation(tmp_path, corners) -> None:
    model = Bag(corners)
    trainer = run(tmp_path, model, Corners(), ModeCoverage(num_samples=300), max_epochs=2)
    assert logged(trainer, "val/modes") == [corners] * 2
    expected = [mode_coverage(x, CORNERS, 0.1).high_quality for x in model.drawn]
    assert logged(trainer, "val/high_quality") == pytest.approx(expected)
    assert [len(x) for x in model.drawn] == [300, 300]
    assert min(expected) > 0.9


def test_a_test_counts_too(tmp_path) -> None:
    model, data = Bag(2), Corners()
    trainer = run(tmp_path, model, data, ModeCoverage(num_samples=1200), max_epochs=1)
    model.drawn.clear()
    [found] = trainer.test(model, datamodule=data, verbose=False)
    assert found["test/modes"] == 2
    x = torch.cat(model.drawn)
    assert [len(part) for part in model.drawn] == [500, 500, 200]  # memory has an end
    assert found["test/high_quality"] == pytest.approx(mode_coverage(x, CORNERS, 0.1).high_quality)


def test_the_draws_are_those_of_the_seed(tmp_path) -> None:
    def first(seed: int, **options) -> Tensor:
        model = Bag()
        run(tmp_path, model, Corners(), ModeCoverage(50, seed), max_epochs=1, **options)
        return model.drawn[0] - model.shift.detach()

    assert torch.equal(first(1), first(1))
    assert not torch.allclose(first(1), first(2))


def test_counting_leaves_no_trace_in_the_run(tmp_path) -> None:
    plain = run(tmp_path, Bag(), Corners(), max_epochs=2)
    counted = run(tmp_path, Bag(), Corners(), ModeCoverage(100), max_epochs=2)
    states = [
        torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True)
        for t in (plain, counted)
    ]
    assert torch.equal(*(state["state_dict"]["shift"] for state in states))
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])
    assert counted.lightning_module.dropout.training
    assert logged(plain, "val/loss") == logged(counted, "val/loss")


def test_an_objective_that_is_conditional_gets_each_class(tmp_path) -> None:
    model = Bag(corners=1, conditional=True)
    trainer = run(tmp_path, model, Corners(), ModeCoverage(100), max_epochs=1)
    assert logged(trainer, "val/modes") == [4]


def test_the_modes_may_choose_the_best_state(tmp_path) -> None:
    from trellis.lightning_modules.engine.checkpointing import BestAndLastCheckpoint

    saving = BestAndLastCheckpoint(monitor="val/modes", mode="max")
    trainer = run(tmp_path, Bag(3), Corners(), ModeCoverage(100), saving, max_epochs=2)
    assert saving.best_model_score == 3
    assert (trainer.run_dir / "checkpoints/best.ckpt").is_file()


class NoCentres(Corners):
    def __init__(self) -> None:
        super().__init__()
        self.centres = None


@pytest.mark.parametrize(
    ("model", "data", "match"),
    [
        (Classification, Corners, r"ModeCoverage needs samples.*not with Classification"),
        (Bag, Digits, "ModeCoverage needs data with centres and a scale.*Digits has none"),
        (Bag, NoCentres, "NoCentres has none"),
    ],
)
def test_what_cannot_be_counted_is_refused_before_training(tmp_path, model, data, match) -> None:
    with pytest.raises(ValueError, match=match):
        run(tmp_path, model(), data(), ModeCoverage())
    with pytest.raises(ValueError, match="num_samples=0"):
        ModeCoverage(num_samples=0)
