"""Bounds in training and evaluation: against torch.distributions, and on real digits."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

import trellis
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.generative import variational
from trellis.lightning_modules.generative.variational import Variational
from trellis.networks.generative.hierarchical_vae import HierarchicalVAE
from trellis.networks.generative.vae import VAE, ConvolutionalVAE
from trellis.spec import TensorSpec

adam = partial(torch.optim.Adam, lr=0.005)
fast = partial(torch.optim.Adam, lr=0.01)
small = partial(VAE, latent_dim=6, hidden_channels=(64,))


class Digits(DataModule):
    """Real digits of 8x8 pixels: 1,000 to train on, 200 to validate, 300 to test."""

    def __init__(self, values: str = "binary", shape: tuple[int, ...] = (64,)) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        digits = load_digits()
        x = torch.from_numpy(digits.data).float().div(16)
        self.x = (x > 0.5).float() if values == "binary" else x
        self.x, self.y = self.x.view(-1, *shape), torch.from_numpy(digits.target).long()
        self.spec = TensorSpec(shape[0], 10, shape[1:], values=values)

    def loader(self, split: str) -> Loader:
        part = {"train": slice(1000), "val": slice(1000, 1200), "test": slice(1200, 1500)}[split]
        return tensor_loader(self.x[part], self.y[part], batch_size=100, train=split == "train")


def fitted(objective: Variational, data: DataModule, root: Path, epochs: int = 15) -> L.Trainer:
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(root, max_epochs=epochs, enable_checkpointing=False)
    trainer.fit(objective, datamodule=data)
    return trainer


def evaluated(trainer: L.Trainer, objective: Variational, data: DataModule) -> dict[str, float]:
    (result,) = trainer.test(objective, datamodule=data, verbose=False)
    return result


def ready(spec: TensorSpec | None = None, seed: int = 0, **options: object) -> Variational:
    """An objective with its networks, without a trainer."""
    torch.manual_seed(seed)
    spec = spec or TensorSpec(64, 10, values="binary")
    objective = Variational(**{"network": small, "spec": spec, **options})
    objective.configure_model()
    return objective


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    data = Digits()
    return data.x[:20], data.y[:20]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[L.Trainer, Variational, Digits]:
    objective, data = Variational(small, fast, beta_steps=150), Digits()
    return fitted(objective, data, tmp_path_factory.mktemp("vae")), objective, data


def naive(objective: Variational, x: Tensor, seed: int, beta: float = 1.0) -> Tensor:
    """The loss of one batch by torch.distributions, with the same samples of z."""
    mean, log_scale = objective.network.encode(x)
    posterior = Independent(Normal(mean, log_scale.exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.manual_seed(seed)
    z = posterior.rsample()
    logits = objective.network.decoder(z)
    log_likelihood = Independent(Bernoulli(logits=logits), 1).log_prob(x)
    return (beta * kl_divergence(posterior, prior) - log_likelihood).mean()


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0])
def test_the_loss_and_its_gradient_are_those_of_the_formula(beta: float, batch) -> None:
    objective = ready(beta=beta)
    expected = naive(objective, batch[0], 7, beta)
    gradients = torch.autograd.grad(expected, list(objective.parameters()))
    torch.manual_seed(7)
    loss = objective.training_step(batch, 0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for parameter, gradient in zip(objective.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.0, 4.0])
def test_the_importance_weighted_loss_is_that_of_the_formula(beta: float, batch) -> None:
    objective, x = ready(num_samples=3, beta=beta), batch[0]
    torch.manual_seed(7)
    loss = objective.training_step(batch, 0)
    mean, log_scale = objective.network.encode(x)
    posterior = Normal(mean, log_scale.exp())
    torch.manual_seed(7)
    z = mean + log_scale.exp() * torch.randn(3, 20, 6)
    weights = (
        Bernoulli(logits=objective.network.decoder(z.flatten(0, 1)).view(3, 20, 64)).log_prob(x)
    ).sum(-1) + beta * (Normal(0.0, 1.0).log_prob(z) - posterior.log_prob(z)).sum(-1)
    torch.testing.assert_close(loss, -weights.exp().mean(0).log().mean(), rtol=1e-4, atol=0)


def test_one_sample_trains_the_evidence_lower_bound(batch) -> None:
    """In expectation: the closed form of the KL divergence against log weights of one sample."""
    objective, x = ready(), batch[0]
    with torch.no_grad():
        losses = torch.stack([objective.training_step(batch, 0) for _ in range(300)])
        singles = -torch.stack(
            [objective.log_likelihood(x, num_samples=1).mean() for _ in range(300)]
        )
    error = math.sqrt((losses.var() + singles.var()).item() / 300)
    assert abs(losses.mean() - singles.mean()) < 4 * error
    assert losses.std() < singles.std()


class Betas(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, *args) -> None:
        self.seen.append(pl_module._current_beta())


def test_beta_grows_over_its_steps_and_stays(tmp_path: Path) -> None:
    betas = Betas()
    trainer = quiet_trainer(
        tmp_path, max_epochs=1, callbacks=[betas], enable_checkpointing=False, limit_val_batches=0
    )
    trainer.fit(Variational(small, adam, beta=2.0, beta_steps=4), datamodule=Digits())
    assert betas.seen == [0.0, 0.5, 1.0, 1.5, *[2.0] * 6]


def test_beta_presses_on_the_code(tmp_path: Path) -> None:
    data, kl = Digits(), {}
    for beta in (0.2, 1.0, 5.0):
        objective = Variational(small, adam, beta=beta)
        kl[beta] = evaluated(fitted(objective, data, tmp_path, 5), objective, data)["test/kl_nats"]
    assert kl[0.2] > 1.5 * kl[1.0] > 2 * kl[5.0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (small, (64,)),
        (partial(ConvolutionalVAE, latent_dim=6, channels=(8, 16)), (1, 8, 8)),
        (
            partial(
                HierarchicalVAE, latent_dim=3, lower_dim=6, hidden_channels=(64,),
                upper_channels=(16,),
            ),
            (64,),
        ),
    ],
    ids=["perceptrons", "convolutional", "hierarchical"],
)  # fmt: skip
def test_real_digits_are_learnt(network, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Better than the best factorised model, which knows the mean of each pixel."""
    data = Digits(shape=shape)
    objective = Variational(network, fast, beta_steps=150)
    result = evaluated(fitted(objective, data, tmp_path), objective, data)
    shares = data.x[:1000].mean(0).clamp(0.001, 0.999)
    blind = -Bernoulli(shares).log_prob(data.x[1200:1500]).flatten(1).sum(1).mean().item()
    assert result["test/neg_elbo_nats"] < blind - 2
    assert result["test/reconstruction_nats"] < blind - 5
    x = data.x[1200:1500]
    with torch.no_grad():
        error = (objective(x) - x).square().mean()
    assert error < 0.75 * (shares - x).square().mean()


# --- evaluation ---------------------------------------------------------------------------------


def test_evaluation_reports_the_bound_and_its_parts_whatever_beta(batch, tmp_path: Path) -> None:
    data, results = Digits(), []
    for beta in (1.0, 7.0):
        objective = ready(beta=beta, beta_steps=100)
        trainer = quiet_trainer(tmp_path, enable_checkpointing=False)
        torch.manual_seed(1)
        results.append(evaluated(trainer, objective, data))
    assert results[0] == results[1]
    parts = results[0]
    assert parts["test/neg_elbo_nats"] == pytest.approx(
        parts["test/reconstruction_nats"] + parts["test/kl_nats"]
    )
    bits = parts["test/neg_elbo_nats"] / (64 * math.log(2))
    assert parts["test/bits_per_dim_bound"] == pytest.approx(bits)
    x = data.x[1200:1500]
    mean, log_scale = objective.network.encode(x)
    kl = kl_divergence(Normal(mean, log_scale.exp()), Normal(0.0, 1.0)).sum(1).mean().item()
    assert parts["test/kl_nats"] == pytest.approx(kl, rel=1e-4)
    exact = [naive(objective, x, seed).item() for seed in range(30)]
    assert parts["test/neg_elbo_nats"] == pytest.approx(sum(exact) / 30, rel=0.01)


def test_the_bound_tightens_with_more_codes(trained) -> None:
    """On the same weights: k = 1, 5, 50 and 500, and the ELBO is that of k = 1."""
    trainer, objective, data = trained
    objective.test_samples = 50
    logged = evaluated(trainer, objective, data)
    x = data.x[1200:1500]
    with torch.no_grad():
        bounds = {k: -objective.log_likelihood(x, num_samples=k).mean() for k in (1, 5, 50, 500)}
    assert bounds[1].item() == pytest.approx(logged["test/neg_elbo_nats"], abs=0.4)
    assert bounds[50].item() == pytest.approx(logged["test/nll_is50_nats"], abs=0.1)
    assert bounds[1] - 0.3 > bounds[5] > bounds[50] + 0.05 > bounds[500] + 0.05
    assert "nll_is50_nats" not in objective.val_metrics


def test_many_codes_are_drawn_a_few_at_a_time(trained, monkeypatch: pytest.MonkeyPatch) -> None:
    _, objective, data = trained
    x, asked = data.x[1200:1300], []
    with torch.no_grad():
        whole = objective.log_likelihood(x, num_samples=400)
        monkeypatch.setattr(variational, "CHUNK", 7 * x.numel())
        objective.network.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[2]))
        parts = objective.log_likelihood(x, num_samples=400)
        monkeypatch.setattr(variational, "CHUNK", 1)
        objective.log_likelihood(x, num_samples=2)
    objective.network._forward_pre_hooks.clear()
    assert asked == [7] * 57 + [1] + [1, 1]
    assert (whole - parts).abs().mean() < 0.2


def test_a_run_with_several_codes_reports_both_bounds(tmp_path: Path) -> None:
    data, objective = Digits(), Variational(small, adam, num_samples=5, test_samples=20)
    trainer = fitted(objective, data, tmp_path, 3)
    logged = trainer.callback_metrics
    assert logged["val/nll_is5_nats"] < logged["val/neg_elbo_nats"]
    assert "val/nll_is20_nats" not in logged
    result = evaluated(trainer, objective, data)
    ordered = [
        result[f"test/{name}"] for name in ("nll_is20_nats", "nll_is5_nats", "neg_elbo_nats")
    ]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("likelihood", "values", "extra"),
    [
        ("bernoulli", "binary", 0.0),
        ("bernoulli", "unit", None),
        ("gaussian", "dequantized", 8.0),
        ("unit_gaussian", "dequantized", 8.0),
        ("gaussian", "real", None),
        ("gaussian", "unit", None),
        ("discretized_logistic", "unit", 0.0),
        ("categorical", "unit", 0.0),
    ],
)
def test_bits_where_the_likelihood_has_them(
    likelihood: str, values: str, extra: float | None, tmp_path: Path
) -> None:
    data, spec = Digits(values="binary"), TensorSpec(64, 10, values=values)
    data.spec = spec
    objective = ready(spec, likelihood=likelihood)
    result = evaluated(quiet_trainer(tmp_path, enable_checkpointing=False), objective, data)
    assert ("test/bits_per_dim_bound" in result) == (extra is not None)
    if extra is not None:
        bits = result["test/neg_elbo_nats"] / (64 * math.log(2)) + extra
        assert result["test/bits_per_dim_bound"] == pytest.approx(bits, rel=1e-5)


# --- labels, samples, checkpoints ---------------------------------------------------------------


def test_labels_matter_to_a_conditional_one(tmp_path: Path) -> None:
    data, objective = Digits(), Variational(small, fast, conditional=True)
    fitted(objective, data, tmp_path, 15)
    x, y = data.x[1200:1500], data.y[1200:1500]
    with torch.no_grad():
        right, wrong = (
            objective.log_likelihood(x, labels, 50).mean() for labels in (y, (y + 1) % 10)
        )
        samples = objective.sample(500)
    assert right > wrong + 1
    means = torch.stack([data.x[:1000][data.y[:1000] == digit].mean(0) for digit in range(10)])
    near = torch.cdist(samples, means).argmin(1)
    assert (near == torch.arange(500) % 10).float().mean() > 0.7
    ones = objective.sample(100, torch.ones(100, dtype=torch.long))
    assert (torch.cdist(ones, means).argmin(1) == 1).float().mean() > 0.7


def test_samples_are_means_in_the_units_of_the_data(trained) -> None:
    _, objective, data = trained
    x = objective.sample(300, generator=torch.Generator().manual_seed(0))
    assert x.shape == (300, 64)
    assert not x.requires_grad
    assert x.min() >= 0
    assert x.max() <= 1
    torch.testing.assert_close(x.mean(0), data.x[:1000].mean(0), atol=0.15, rtol=0)
    assert x.equal(objective.sample(300, generator=torch.Generator().manual_seed(0)))


def test_labels_are_for_conditional_ones_alone() -> None:
    with pytest.raises(ValueError, match="y is given, but conditional=False"):
        ready().sample(2, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="conditional=True: out_channels=1: give at least 2"):
        ready(TensorSpec(64, 1, values="binary"), conditional=True)


def test_a_checkpoint_brings_the_same_bound_back(tmp_path: Path) -> None:
    data, objective = Digits(), Variational(small, adam, conditional=True, test_samples=3)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=data)
    results = []
    for model in (objective, trellis.load(trainer.checkpoint_callback.last_model_path)):
        torch.manual_seed(0)
        results.append(evaluated(quiet_trainer(tmp_path), model, data))
    assert results[0] == results[1]
    codes = quiet_trainer(tmp_path).predict(objective, datamodule=data)
    x, y = next(iter(data.loader("test")))
    torch.testing.assert_close(codes[0], objective.network.encode(x, y)[0])


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood='poisson': choose from bernoulli, gaussian"),
        ({"beta": -1.0}, "beta=-1.0: give at least 0"),
        ({"beta": math.nan}, "beta=nan"),
        ({"beta_steps": -1}, "beta_steps=-1"),
        ({"num_samples": 0}, "num_samples=0: give at least 1"),
        ({"test_samples": -5}, "test_samples=-5"),
        ({"network": partial(VAE, latent_dim=0)}, "latent_dim=0: give at least 1"),
        ({"network": torch.nn.Linear}, "calls network.shape=..., num_parameters="),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(**options)


@pytest.mark.parametrize(
    ("likelihood", "values"),
    [
        ("bernoulli", "real"),
        ("bernoulli", "logit"),
        ("categorical", "dequantized"),
        ("discretized_logistic", "real"),
    ],
)
def test_values_of_another_kind_are_refused_before_training(likelihood: str, values: str) -> None:
    spec = TensorSpec(64, 10, values=values, alpha=0.1)
    with pytest.raises(ValueError, match=f"'{likelihood}' is not def.*'{values}'.*pixels='unit'"):
        ready(spec, likelihood=likelihood)


def test_pixels_outside_the_unit_interval_are_refused(batch) -> None:
    x, y = batch
    with pytest.raises(ValueError, match=r"x lies in \[0, 2\]: a bernoulli likelihood"):
        ready().training_step((2 * x, y), 0)
