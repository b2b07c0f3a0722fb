"""Pictures of the latent space against codes and images that are computed here."""

import sys
from functools import partial

import pytest
import torch
from short_runs import run
from torch import Tensor

from trellis.analysis.images import image_grid
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.lightning_modules.callbacks import after_fit
from trellis.lightning_modules.callbacks.latent_pictures import (
    Interpolations,
    LatentTraversals,
    Reconstructions,
)
from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.lightning_modules.generative.variational import Variational
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.generative.autoencoder import MLPAutoencoder
from trellis.networks.generative.vae import VAE
from trellis.spec import TensorSpec


class Shades(DataModule):
    """Random images of 4x6 pixels in [0, 1], 7 to validate in batches of 3."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.x = torch.rand(7, 1, 4, 6, generator=torch.Generator().manual_seed(0))
        self.y = torch.arange(7) % 2
        self.spec = TensorSpec(1, 2, (4, 6), values="unit")

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=3, train=split == "train")


sgd = partial(torch.optim.SGD, lr=1e-3)


def plain() -> Autoencoder:
    network = partial(MLPAutoencoder, latent_dim=3, hidden_channels=(8,))
    return Autoencoder(network, sgd, likelihood="bernoulli")


def squares() -> Autoencoder:
    return Autoencoder(partial(MLPAutoencoder, latent_dim=3, hidden_channels=(8,)), sgd)


def variational(**options) -> Variational:
    return Variational(partial(VAE, latent_dim=3, hidden_channels=(8,)), sgd, **options)


@pytest.fixture
def drawn(monkeypatch):
    """Images ``[C, H, W]`` by the name under which they are logged."""
    shown, log = {}, after_fit.log_picture

    def keep(trainer, name, figure):
        shown[name] = torch.as_tensor(figure.axes[0].images[0].get_array()).permute(2, 0, 1)
        log(trainer, name, figure)

    monkeypatch.setattr(after_fit, "log_picture", keep)
    return shown


def grid(images: Tensor, columns: int) -> Tensor:
    spec = TensorSpec(1, 2, (4, 6), values="unit")
    return image_grid(images.detach(), spec, columns=columns).expand(3, -1, -1)


@pytest.mark.parametrize(
    "make", [plain, squares, variational, partial(variational, conditional=True)]
)
def test_reconstructions_stand_below_their_images(tmp_path, drawn, make) -> None:
    model, data = make(), Shades()
    trainer = run(tmp_path, model, data, Reconstructions(5))
    x, y = data.x[:5], data.y[:5]
    again = model(x, y) if isinstance(model, Variational) else model(x)
    torch.testing.assert_close(drawn["val/reconstructions"], grid(torch.cat([x, again]), 5))
    assert (trainer.run_dir / "pictures/val/reconstructions.png").stat().st_size > 1_000
    run(tmp_path, make(), data, Reconstructions(50))
    assert drawn["val/reconstructions"].shape[2] == 1 + 7 * 7  # as many as there are


@pytest.mark.parametrize("make", [plain, variational, partial(variational, conditional=True)])
def test_interpolations_go_from_image_to_image(tmp_path, drawn, make) -> None:
    model, data = make(), Shades()
    run(tmp_path, model, data, Interpolations(num_pairs=2, steps=5))
    rows = []
    for first, second in ((0, 1), (2, 3)):
        for step in range(5):
            pair = []
            for index in (first, second):
                x, y = data.x[index : index + 1], data.y[index : index + 1]
                pair.append(model.predict_step((x, y), 0))
            code = pair[0] + step / 4 * (pair[1] - pair[0])
            if isinstance(model, Variational):
                label = data.y[first : first + 1] if model.conditional else None
                parameters = model.network.decode(code, label)[:, 0]
            else:
                parameters = model.network.decode(code)
            rows.append(parameters.sigmoid())
    expected = grid(torch.cat(rows).view(-1, 1, 4, 6), 5)
    torch.testing.assert_close(drawn["val/interpolations"], expected)


def test_an_image_without_a_partner_is_left_out(tmp_path, drawn) -> None:
    run(tmp_path, plain(), Shades(), Interpolations(num_pairs=20, steps=2))
    assert drawn["val/interpolations"].shape[1:] == (1 + 3 * 5, 1 + 2 * 7)  # 3 pairs of 7 images


@pytest.mark.parametrize("conditional", [False, True])
def test_traversals_change_one_entry_a_row_those_in_use_first(
    tmp_path, drawn, conditional
) -> None:
    model, data = variational(conditional=conditional), Shades()
    callback = LatentTraversals(num_entries=2, steps=3, reach=2.0)
    run(tmp_path, model, data, callback)
    codes = model.predict_step((data.x, data.y), 0)
    order = sorted(range(3), key=lambda entry: -codes[:, entry].var().item())
    rows = []
    for entry in order[:2]:
        for value in (-2.0, 0.0, 2.0):
            code = torch.zeros(1, 3)
            code[0, entry] = value
            label = torch.zeros(1, dtype=torch.long) if conditional else None
            rows.append(model.network.decode(code, label)[:, 0].sigmoid())
    expected = grid(torch.cat(rows).view(-1, 1, 4, 6), 3)
    torch.testing.assert_close(drawn["val/latent_traversals"], expected)
    run(tmp_path, variational(), data, LatentTraversals(num_entries=99, steps=2))
    assert drawn["val/latent_traversals"].shape[1] == 1 + 3 * 5


def test_pictures_leave_no_trace_in_the_run(tmp_path) -> None:
    extra = Reconstructions(), Interpolations(), LatentTraversals()
    trainers = [run(tmp_path, variational(), Shades(), *some) for some in ((), extra)]
    states = [torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True) for t in trainers]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])


@pytest.mark.long
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_pictures_in_other_precisions(tmp_path, drawn, precision) -> None:
    extra = Reconstructions(), Interpolations(), LatentTraversals()
    run(tmp_path, variational(), Shades(), *extra, precision=precision)
    assert len(drawn) == 3


def test_a_trial_run_or_one_without_validation_draws_nothing(tmp_path, drawn) -> None:
    extra = Reconstructions(), Interpolations(), LatentTraversals()
    run(tmp_path, variational(), Shades(), *extra, fast_dev_run=True)
    options = {"limit_val_batches": 0, "enable_checkpointing": False}
    run(tmp_path, variational(), Shades(), *extra, **options)
    assert not drawn


of_points = partial(variational, likelihood="unit_gaussian")


@pytest.mark.parametrize(
    ("callback", "model", "data", "match"),
    [
        (
            Reconstructions,
            Classification,
            Digits,
            "Reconstructions works with Autoencoder and Var",
        ),
        (Interpolations, Classification, Digits, "and Variational, not with Classification"),
        (LatentTraversals, squares, Shades, "LatentTraversals works with Variational, not with A"),
        (Interpolations, of_points, SyntheticPoints, r"Interpolations: .*shape \[2\] are not ima"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_training(
    tmp_path, callback, model, data, match
) -> None:
    with pytest.raises(ValueError, match=match):
        run(tmp_path, model(), data(), callback())
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(Reconstructions, 0), "num_images=0"),
        (partial(Interpolations, 0), "num_pairs=0"),
        (partial(Interpolations, steps=1), "steps=1: give at least 2"),
        (partial(LatentTraversals, 0), "num_entries=0"),
        (partial(LatentTraversals, steps=0), "steps=0"),
        (partial(LatentTraversals, reach=0.0), "reach=0.0"),
        (partial(LatentTraversals, num_images=0), "num_images=0"),
    ],
)
def test_sizes_are_positive(make, match) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_missing_matplotlib_is_found_before_training(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-trellis\[viz\]"):
        run(tmp_path, plain(), Shades(), Reconstructions())
