"""Pictures of samples, densities and flows, against values of the networks themselves."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from short_runs import run
from torch import Tensor, nn

from trellis.analysis.images import image_grid
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.generative.simulated_posteriors import SimulatedPosteriors
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.vector.digits import Digits
from trellis.generative.transform import Transform
from trellis.lightning_modules.callbacks import after_fit, generative_pictures
from trellis.lightning_modules.callbacks.generative_pictures import (
    CompletionGrid,
    DensityPicture,
    FlowGrid,
    SampleGrid,
)
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.sampling import draw_samples
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.generative.flow_autoregressive import MAF
from trellis.networks.generative.pixel_cnn import PixelCNN
from trellis.spec import TensorSpec


class Slanted(Transform):
    """x = mean + root z with a triangular root."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.linspace(0, 1, width))
        self.root = nn.Parameter(torch.eye(width) + 0.2 * torch.ones(width, width).tril(-1))

    def forward(self, x: Tensor, context: Tensor | None = None):
        log_det = -self.root.diagonal().abs().log().sum()
        z = torch.linalg.solve_triangular(self.root.tril(), (x - self.mean).T, upper=False).T
        return z, log_det.expand(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None):
        return z @ self.root.tril().T + self.mean, z.new_zeros(len(z))


class Gaussian(nn.Module):
    """A density through a transform, or (plain) one that says so nowhere."""

    def __init__(self, shape, num_classes: int = 0, plain: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.transform = nn.ModuleList([Slanted(int(np.prod(shape)))])
        if plain:
            self.transform = nn.Linear(int(np.prod(shape)), 1)
        self.dropout = nn.Dropout(0.5)
        self.plain = plain

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.plain:
            return self.transform(x.flatten(1))[:, 0]
        z, log_det = self.transform[0](x.flatten(1))
        return torch.distributions.Normal(0, 1).log_prob(self.dropout(z)).sum(1) + log_det

    def sample(self, num_samples: int, y: Tensor | None = None) -> Tensor:
        noise = torch.randn(num_samples, int(np.prod(self.shape)))
        if y is not None:
            noise = noise * 0 + y[:, None]
        return self.transform[0].inverse(self.dropout(noise))[0].view(-1, *self.shape)


class Plane(DataModule):
    """70 points around (1, 1) in batches of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.x = 1 + torch.randn(70, 2, generator=torch.Generator().manual_seed(0))
        self.y = torch.arange(70) % 2
        self.spec = TensorSpec(2, 2)

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=16, train=split == "train")


def density(**options) -> DensityEstimation:
    return DensityEstimation(Gaussian, partial(torch.optim.SGD, lr=1e-4), **options)


@pytest.fixture
def drawn(monkeypatch):
    """Names and figures in the order in which they are logged."""
    figures, log = [], after_fit.log_picture

    def keep(trainer, name, figure):
        figures.append((name, figure, trainer.current_epoch))
        log(trainer, name, figure)

    for module in (after_fit, generative_pictures):
        monkeypatch.setattr(module, "log_picture", keep)
    return figures


def dots(figure, panel: int = 0) -> np.ndarray:
    return figure.axes[panel].collections[0].get_offsets()


def test_samples_are_drawn_every_n_epochs_and_at_the_end(tmp_path, drawn) -> None:
    model = density()
    trainer = run(tmp_path, model, Plane(), SampleGrid(20, every_n_epochs=2, seed=3), max_epochs=5)
    assert [(name, epoch) for name, _, epoch in drawn] == [
        ("val/samples", 1), ("val/samples", 3), ("val/samples", 5),
    ]  # fmt: skip
    expected = draw_samples(model, 20, seed=3)
    np.testing.assert_allclose(dots(drawn[-1][1]), expected, rtol=1e-5)
    assert not np.allclose(dots(drawn[0][1]), expected, atol=1e-6), "training moved them"
    np.testing.assert_allclose(dots(drawn[0][1]), expected, atol=0.2)
    assert (trainer.run_dir / "pictures/val/samples.png").stat().st_size > 5_000


def test_images_stand_in_a_grid(tmp_path, drawn) -> None:
    model = density()
    run(tmp_path, model, Digits(), SampleGrid(9))
    shown = torch.as_tensor(drawn[-1][1].axes[0].images[0].get_array())
    expected = image_grid(draw_samples(model, 9, seed=0), model.spec, columns=3)
    torch.testing.assert_close(shown, expected.permute(1, 2, 0).expand(-1, -1, 3))


def test_a_conditional_model_draws_a_class_a_column(tmp_path, drawn) -> None:
    model = density(conditional=True)
    run(tmp_path, model, Digits(), SampleGrid(20))
    x = draw_samples(model, 20, seed=0, labels=torch.arange(20) % 10)
    expected = image_grid(x, model.spec, columns=10)
    shown = torch.as_tensor(drawn[-1][1].axes[0].images[0].get_array())
    torch.testing.assert_close(shown, expected.permute(1, 2, 0).expand(-1, -1, 3))
    run(tmp_path, density(conditional=True), Plane(), SampleGrid(6))
    assert len(np.unique(drawn[-1][1].axes[0].collections[0].get_facecolors(), axis=0)) == 2


def test_the_density_is_the_networks_beside_validation_points(tmp_path, drawn) -> None:
    model, data = density(), Plane()
    run(tmp_path, model, data, DensityPicture(num_points=40, resolution=30))
    [(name, figure, _)] = drawn
    assert name == "val/density"
    np.testing.assert_allclose(dots(figure, 1), data.x[:40])
    image = figure.axes[0].images[0]
    x0, x1, y0, y1 = image.get_extent()
    point = torch.tensor([[x0 + 20.5 / 30 * (x1 - x0), y0 + 7.5 / 30 * (y1 - y0)]])
    found = float(np.asarray(image.get_array())[7, 20])
    with torch.no_grad():
        assert found == pytest.approx(float(model.eval()(point).exp()), rel=1e-4)


def test_the_grid_is_bent_from_noise_to_data(tmp_path, drawn) -> None:
    model = density()
    run(tmp_path, model, Plane(), FlowGrid(reach=2.0, lines=3))
    [(name, figure, _)] = drawn
    assert name == "val/flow_grid"
    transform = model.network.transform[0]
    for before, after in zip(figure.axes[0].lines, figure.axes[1].lines, strict=True):
        z = torch.as_tensor(before.get_xydata()).float()
        expected = z @ transform.root.tril().T + transform.mean
        np.testing.assert_allclose(after.get_xydata(), expected.detach(), atol=1e-5)


def test_images_are_completed_from_their_upper_half(tmp_path, drawn) -> None:
    pixel_cnn = partial(PixelCNN, num_levels=17, channels=4, num_layers=1, first_kernel_size=3)
    model = DensityEstimation(pixel_cnn, partial(torch.optim.SGD, lr=1e-4))
    data = Digits(flatten=False)
    run(tmp_path, model, data, CompletionGrid(3, 2), max_epochs=1)
    [(name, figure, _)] = drawn
    assert name == "val/completions"
    x, _ = next(iter(data.val_dataloader()))
    torch.manual_seed(0)
    expected = model.network.complete(x[:3].repeat_interleave(3, 0), 4 * 8)
    expected[::3] = x[:3]
    assert not expected[1].equal(expected[2])
    grid = image_grid(expected, model.spec, columns=3)
    shown = torch.as_tensor(figure.axes[0].images[0].get_array())
    torch.testing.assert_close(shown, grid.permute(1, 2, 0).expand(-1, -1, 3))


def test_pictures_leave_no_trace_in_the_run(tmp_path) -> None:
    extra = SampleGrid(8), DensityPicture(resolution=9), FlowGrid(lines=2)
    trainers = [run(tmp_path, density(), Plane(), *some, max_epochs=2) for some in ((), extra)]
    states = [torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True) for t in trainers]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])
    assert trainers[1].lightning_module.network.dropout.training


@pytest.mark.long
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_pictures_in_other_precisions(tmp_path, drawn, precision) -> None:
    extra = SampleGrid(8), DensityPicture(resolution=9), FlowGrid(lines=2)
    run(tmp_path, density(), Plane(), *extra, precision=precision)
    assert len({name for name, *_ in drawn}) == 3


def test_a_trial_run_or_one_without_validation_draws_no_density(tmp_path, drawn) -> None:
    extra = SampleGrid(8), DensityPicture(), FlowGrid()
    run(tmp_path, density(), Plane(), *extra, fast_dev_run=True)
    assert not drawn
    options = {"limit_val_batches": 0, "enable_checkpointing": False}
    run(tmp_path, density(), Plane(), *extra, **options)
    assert [name for name, *_ in drawn] == ["val/samples", "val/flow_grid"]


Images = partial(Digits, flatten=False)
plain = partial(DensityEstimation, partial(Gaussian, plain=True))


@pytest.mark.parametrize(
    ("callback", "model", "data", "match"),
    [
        (SampleGrid, Classification, Plane, "SampleGrid needs samples.*not with Classificat"),
        (SampleGrid, NodeClassification, KarateClub, "SampleGrid needs samples"),
        (SampleGrid, partial(DensityEstimation, MAF, conditional=True), SimulatedPosteriors,
         "SampleGrid shows samples of all classes, but this model is conditional on real targets"),
        (CompletionGrid, Classification, Plane, "CompletionGrid works with DensityEst"),
        (CompletionGrid, density, Plane, "CompletionGrid"),
        (CompletionGrid, density, Images, "needs a network with complete.*not Gaussian: leave"),
        (partial(CompletionGrid, known_rows=9), density, Images, "known_rows=9 of examples"),
        (DensityPicture, Classification, Plane, "DensityPicture works with DensityEstimation"),
        (FlowGrid, partial(density, conditional=True), Plane,
         "FlowGrid works with DensityEstimation without labels, not with conditional Density"),
        (DensityPicture, density, Digits, r"needs points in the plane; .* have shape \[64\]"),
        (FlowGrid, density, Digits, r"needs points in the plane; examples have shape \[64\]"),
        (FlowGrid, plain, Plane, "FlowGrid shows the transform of a flow, but Gaussian is no"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_before_training(
    tmp_path, callback, model, data, match
) -> None:
    with pytest.raises(ValueError, match=match):
        run(tmp_path, model(), data(), callback())
    assert not list(tmp_path.rglob("*.ckpt"))


class Odd(Plane):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (TensorSpec(3, 2), r"SampleGrid: examples of shape \[3\] are not images"),
        (TensorSpec(2, 2, (4, 4)), "SampleGrid: images of 2 channels cannot be shown"),
    ],
)
def test_examples_must_be_visible(tmp_path, spec, match) -> None:
    with pytest.raises(ValueError, match=match):
        run(tmp_path, density(), Odd(spec), SampleGrid())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(SampleGrid, 0), "num_samples=0"),
        (partial(SampleGrid, every_n_epochs=0), "every_n_epochs=0"),
        (partial(DensityPicture, 0), "num_points=0"),
        (partial(DensityPicture, resolution=0), "resolution=0"),
        (partial(FlowGrid, 0.0), "reach=0.0"),
        (partial(FlowGrid, lines=0), "lines=0"),
    ],
)
def test_sizes_are_positive(make, match) -> None:
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("callback", [SampleGrid, DensityPicture, FlowGrid])
def test_missing_matplotlib_is_found_before_training(tmp_path, monkeypatch, callback) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-trellis\[viz\]"):
        run(tmp_path, density(), Plane(), callback())
