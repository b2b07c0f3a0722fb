"""Reconstruction, noise and penalties: against formulas, and on real digits."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.datasets import load_digits
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import Bernoulli, Normal, kl_divergence

import trellis
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.networks.generative.autoencoder import ConvolutionalAutoencoder, MLPAutoencoder
from trellis.spec import TensorSpec

adam = partial(torch.optim.Adam, lr=0.01)
small = partial(MLPAutoencoder, latent_dim=6, hidden_channels=(32,))
sigmoid = partial(MLPAutoencoder, latent_dim=6, hidden_channels=(), code_activation="sigmoid")


class Digits(DataModule):
    """Real digits of 8x8 pixels in [0, 1]: 1,000 to train on, 200 to validate, 300 to test."""

    def __init__(self, shape: tuple[int, ...] = (64,)) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        digits = load_digits()
        self.x = torch.from_numpy(digits.data).float().div(16).view(-1, *shape)
        self.y = torch.from_numpy(digits.target).long()
        self.spec = TensorSpec(shape[0], 10, shape[1:], values="unit")

    def loader(self, split: str) -> Loader:
        part = {"train": slice(1000), "val": slice(1000, 1200), "test": slice(1200, 1500)}[split]
        return tensor_loader(self.x[part], self.y[part], batch_size=100, train=split == "train")


def learnt(objective: Autoencoder, data: DataModule, root: Path, epochs: int = 15) -> dict:
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(root, max_epochs=epochs, enable_checkpointing=False)
    trainer.fit(objective, datamodule=data)
    (result,) = trainer.test(objective, datamodule=data, verbose=False)
    return result


def ready(**options: object) -> Autoencoder:
    """An objective with its networks, without a trainer."""
    torch.manual_seed(0)
    spec = TensorSpec(64, 10, values="unit")
    objective = Autoencoder(**{"network": small, "spec": spec, **options})
    objective.configure_model()
    return objective


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    data = Digits()
    return data.x[:20], data.y[:20]


# --- the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["unit_gaussian", "bernoulli"])
def test_the_loss_is_the_likelihood_of_the_example(likelihood: str, batch) -> None:
    objective, x = ready(likelihood=likelihood), batch[0]
    outputs = objective.network(x)
    if likelihood == "bernoulli":
        family = Bernoulli(logits=outputs, validate_args=False)
        assert objective(x).equal(outputs.sigmoid())
    else:
        family = Normal(outputs, 1.0)
        assert objective(x).equal(outputs)
    expected = -family.log_prob(x).sum(1).mean()
    torch.testing.assert_close(objective.training_step(batch, 0), expected)


def test_penalties_are_added_with_their_weights(batch) -> None:
    x = batch[0]
    plain = ready(network=sigmoid)
    base, code = plain.training_step(batch, 0), plain.network.encode(x)
    lasso = ready(network=sigmoid, sparsity=0.3).training_step(batch, 0)
    torch.testing.assert_close(lasso - base, 0.3 * code.abs().sum(1).mean(), rtol=1e-3, atol=1e-5)
    drawn = ready(network=sigmoid, sparsity=0.3, sparsity_target=0.1).training_step(batch, 0)
    kl = kl_divergence(Bernoulli(torch.tensor(0.1)), Bernoulli(code.mean(0))).sum()
    torch.testing.assert_close(drawn - base, 0.3 * kl, rtol=1e-3, atol=1e-5)
    contracted = ready(network=sigmoid, contraction=2.0).training_step(batch, 0)
    rows = [jacobian(plain.network.encode, one[None]).square().sum() for one in x]
    torch.testing.assert_close(
        contracted - base, 2 * torch.stack(rows).mean(), rtol=1e-3, atol=1e-5
    )


def test_the_corrupted_example_is_encoded_and_the_clean_one_reconstructed(batch) -> None:
    x = batch[0]
    for options, corrupt in (
        ({"gaussian_noise": 0.5}, lambda: x + 0.5 * torch.randn_like(x)),
        ({"masking": 0.3}, lambda: x * (torch.rand_like(x) >= 0.3)),
    ):
        objective = ready(**options)
        torch.manual_seed(3)
        loss = objective.training_step(batch, 0)
        torch.manual_seed(3)
        expected = -Normal(objective.network(corrupt()), 1.0).log_prob(x).sum(1).mean()
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("masking", [0.0, 0.25, 1.0])
def test_the_share_of_entries_that_is_masked(masking: float) -> None:
    hidden = (ready(masking=masking)._corrupted(torch.ones(200, 64)) == 0).float().mean().item()
    assert hidden == pytest.approx(masking, abs=0.02)


# --- learning -----------------------------------------------------------------------------------


def test_evaluation_is_without_noise_and_penalties(tmp_path: Path) -> None:
    data, results = Digits(), []
    for options in (
        {},
        {"masking": 0.5, "gaussian_noise": 1.0, "contraction": 1.0, "sparsity": 1.0},
    ):
        objective = ready(network=sigmoid, **options)
        trainer = quiet_trainer(tmp_path, enable_checkpointing=False)
        (result,) = trainer.test(objective, datamodule=data, verbose=False)
        results.append(result)
    assert results[0] == results[1]
    x = data.x[1200:1500]
    squared = (objective(x) - x).square().sum(1).mean().item()
    assert result["test/squared_error"] == pytest.approx(squared, rel=1e-5)
    nats = squared / 2 + 32 * math.log(2 * math.pi)
    assert result["test/reconstruction_nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "likelihood", "shape"),
    [
        (small, "unit_gaussian", (64,)),
        (small, "bernoulli", (64,)),
        (
            partial(ConvolutionalAutoencoder, latent_dim=6, channels=(8, 16)),
            "bernoulli",
            (1, 8, 8),
        ),
    ],
    ids=["squares", "bernoulli", "convolutional"],
)
def test_real_digits_are_learnt(network, likelihood: str, shape, tmp_path: Path) -> None:
    data = Digits(shape)
    result = learnt(Autoencoder(network, adam, likelihood=likelihood), data, tmp_path)
    x, mean = data.x[1200:1500], data.x[:1000].mean(0)
    assert result["test/squared_error"] < 0.6 * (x - mean).square().flatten(1).sum(1).mean()


def test_a_denoising_autoencoder_restores_masked_pixels(tmp_path: Path) -> None:
    data = Digits()
    x = data.x[1200:1500]
    hidden = x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.4)
    errors = []
    for masking in (0.0, 0.4):
        objective = Autoencoder(small, adam, masking=masking)
        learnt(objective, data, tmp_path, 15)
        with torch.no_grad():
            errors.append((objective(hidden) - x).square().sum(1).mean().item())
    assert errors[1] < 0.8 * errors[0]


def test_penalties_do_what_they_are_for(tmp_path: Path) -> None:
    data, seen = Digits(), {}
    for name, options in {
        "plain": {},
        "target": {"sparsity": 5.0, "sparsity_target": 0.1},
        "lasso": {"sparsity": 2.0},
        "contractive": {"contraction": 20.0},
    }.items():
        objective = Autoencoder(sigmoid, adam, **options)
        learnt(objective, data, tmp_path)
        x = data.x[1200:1230].clone()
        rows = [jacobian(objective.network.encode, one[None]).square().sum() for one in x]
        seen[name] = objective.network.encode(data.x).mean().item(), sum(rows).item()
    assert abs(seen["target"][0] - 0.1) < 0.05 < seen["plain"][0] - 0.1
    assert seen["lasso"][0] < 0.5 * seen["plain"][0]
    assert seen["contractive"][1] < 0.3 * seen["plain"][1]


def test_a_checkpoint_brings_it_back(tmp_path: Path) -> None:
    data, objective = Digits(), Autoencoder(sigmoid, adam, masking=0.1, contraction=0.1)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    x = data.x[1200:1300]
    assert loaded(x).equal(objective(x))
    assert (loaded.masking, loaded.contraction) == (0.1, 0.1)
    codes = quiet_trainer(tmp_path).predict(objective, datamodule=data)
    torch.testing.assert_close(codes[0], objective.network.encode(x))


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "categorical"}, "likelihood='categorical': choose from unit_gaussian"),
        ({"masking": 1.5}, "masking=1.5"),
        ({"gaussian_noise": -0.1}, "gaussian_noise=-0.1: give at least 0"),
        ({"sparsity": math.nan}, "sparsity=nan"),
        ({"contraction": -1.0}, "contraction=-1.0"),
        ({"sparsity_target": 1.0}, r"sparsity_target=1.0: give a number between 0 and 1"),
        ({"network": partial(MLPAutoencoder, latent_dim=0)}, "latent_dim=0"),
        (
            {"likelihood": "bernoulli", "spec": TensorSpec(64, 10)},
            "'bernoulli' is not defined for 'real' values.*pixels='unit'",
        ),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(**options)


def test_pixels_and_codes_outside_the_unit_interval_are_refused(batch) -> None:
    x, y = batch
    with pytest.raises(ValueError, match=r"x lies in .*a bernoulli likelihood takes \[0, 1\]"):
        ready(likelihood="bernoulli").training_step((x * 3 - 1, y), 0)
    with pytest.raises(ValueError, match="code lies in .*code_activation='sigmoid'"):
        ready(sparsity=1.0, sparsity_target=0.1).training_step(batch, 0)
