"""M2 against mixtures of Gaussians, whose likelihood and posterior are exact."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from learning_cases import quiet_trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import trellis
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.few_labels import LabelledDraw, few_labels
from trellis.lightning_modules.generative import SemiSupervised, Variational
from trellis.networks.generative import VAE
from trellis.networks.vector import MLP
from trellis.spec import TensorSpec

D, C, B = 4, 3, 12
SPEC = TensorSpec(D, C)
linear = partial(VAE, latent_dim=1, hidden_channels=())
classifier = partial(MLP, hidden_channels=(8,))


def ready(spec: TensorSpec = SPEC, **options: object) -> SemiSupervised:
    torch.manual_seed(0)
    defaults = {"network": classifier, "latent": linear, "likelihood": "unit_gaussian"}
    objective = SemiSupervised(**{**defaults, "spec": spec, **options})
    objective.configure_model()
    return objective


def exact(objective: SemiSupervised) -> MixtureSameFamily:
    """Sets q(z | x, y) to the posterior of a linear model; returns its p(x).

    Given the class, x is Gaussian: the mean is the decoder's for z = 0.
    """
    decoder = objective.latent.decoder.layers[0]
    encoder = objective.latent.encoder.layers[0]
    with torch.no_grad():
        nn.init.normal_(decoder.weight)
        loadings, offsets = decoder.weight[:, :1], decoder.weight[:, 1:]
        precision = 1 + loadings.square().sum()
        encoder.weight.zero_()
        encoder.weight[0, :D] = loadings[:, 0] / precision
        encoder.weight[0, D:] = -(loadings[:, 0] @ offsets) / precision
        encoder.bias[:] = torch.stack(
            [-(loadings[:, 0] @ decoder.bias) / precision, -0.5 * precision.log()]
        )
        covariance = loadings @ loadings.t() + torch.eye(D)
        means = offsets.t() + decoder.bias
    parts = MultivariateNormal(means, covariance.expand(C, D, D))
    return MixtureSameFamily(Categorical(torch.ones(C)), parts)


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, D), torch.tensor([0, 1, 2, 1] + [-100] * (B - 4))


def mean_bound(objective: SemiSupervised, x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
    """The mean over 4,000 samples of z, whose error is about 0.01."""
    repeated = (each.repeat_interleave(4000, 0) for each in (x, y, logits))
    with torch.no_grad():
        return objective.bound(*repeated).view(-1, 4000).mean(1)


assert_near = partial(torch.testing.assert_close, atol=0.05, rtol=0)


# --- the bound ----------------------------------------------------------------------------------


def test_the_bound_is_exact_where_both_posteriors_are() -> None:
    objective = ready()
    mixture, (x, y) = exact(objective), batch()
    given = mixture.component_distribution.log_prob(x.unsqueeze(1)) - math.log(C)  # ln p(x, y)
    bound = mean_bound(objective, x, y, given)
    known = given[torch.arange(4), y[:4]]
    assert_near(bound, torch.cat([known, mixture.log_prob(x[4:])]))


def test_another_classifier_loses_its_divergence_from_the_exact_one() -> None:
    objective = ready()
    mixture, (x, y) = exact(objective), batch()
    logits = torch.randn(B, C)
    given = mixture.component_distribution.log_prob(x.unsqueeze(1))
    lost = torch.distributions.kl_divergence(Categorical(logits=logits), Categorical(logits=given))
    bound = mean_bound(objective, x, y, logits)
    assert_near(bound[4:], (mixture.log_prob(x) - lost)[4:])
    assert lost[4:].max() > 0.5
    assert_near(
        bound[:4], given[torch.arange(4), y[:4]] - math.log(C)
    )  # whatever the classifier says


def test_the_loss_is_the_bound_and_the_cross_entropy_of_the_labelled() -> None:
    objective = ready(alpha=0.7)
    exact(objective)
    x, y = batch()
    logits, unlabelled = objective(x), torch.full_like(y, -100)
    for labels, entropy in ((y, F.cross_entropy(logits[:4], y[:4])), (unlabelled, 0.0)):
        torch.manual_seed(2)
        expected = 0.7 * entropy - objective.bound(x, labels, logits).mean()
        torch.manual_seed(2)
        torch.testing.assert_close(objective.training_step((x, labels), 0), expected)


def test_unlabelled_examples_teach_the_classifier() -> None:
    objective = ready(alpha=0.0)
    x, y = batch()
    objective.training_step((x[4:], y[4:]), 0).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    objective.zero_grad()
    objective.training_step((x[:4], y[:4]), 0).backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in objective.network.parameters())


# --- features -----------------------------------------------------------------------------------

m1 = partial(VAE, latent_dim=2, hidden_channels=(6,))


def test_features_are_codes_that_stay_as_they_are() -> None:
    objective = ready(features=m1, likelihood="gaussian")
    x, y = batch()
    before = {name: value.clone() for name, value in objective.features.state_dict().items()}
    optimizer = torch.optim.Adam(objective.parameters(), 0.1)
    objective.train()
    assert not objective.features.training
    objective.training_step((x, y), 0).backward()
    optimizer.step()
    assert all(
        value.equal(before[name]) for name, value in objective.features.state_dict().items()
    )
    assert objective.network.in_channels == 2
    assert not objective(x).equal(objective(x))  # drawn anew
    objective.eval()
    mean, _ = objective.features.encode(x)
    torch.testing.assert_close(objective(x), objective.network(mean))


def test_features_come_from_a_checkpoint_of_a_vae(tmp_path: Path) -> None:
    data = FewDigits()
    first = Variational(m1, partial(torch.optim.Adam, lr=0.01))
    trainer = quiet_trainer(tmp_path, max_steps=2)
    trainer.fit(first, datamodule=data)
    second = SemiSupervised(
        classifier, linear, partial(torch.optim.Adam, lr=0.01), likelihood="gaussian", features=m1
    )
    path = trainer.checkpoint_callback.last_model_path
    trainer = quiet_trainer(tmp_path, max_steps=2)
    trainer.fit(second, datamodule=data, init_from=path, init_map={"network": "features"})
    for name, value in first.network.state_dict().items():
        assert value.equal(second.features.state_dict()[name]), name
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)
    x = data.x[:5]
    torch.testing.assert_close(loaded(x), second.eval()(x))


# --- learning -----------------------------------------------------------------------------------


class FewDigits(DataModule):
    """Real digits of 8x8 pixels: 1,200 to train on, 30 of them with labels, and 500 to test."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        digits = load_digits()
        self.x = torch.from_numpy(digits.data).float().div(16)
        self.y = torch.from_numpy(digits.target).long()
        self.few = few_labels(self.y[:1200], 30, 10)
        self.spec = TensorSpec(64, 10, values="unit")

    def loader(self, split: str) -> Loader:
        if split != "train":
            return tensor_loader(self.x[1200:1700], self.y[1200:1700], batch_size=100, train=False)
        draw = LabelledDraw(self.few, 10)

        def fetch(indices: Tensor) -> tuple[Tensor, Tensor]:
            indices = torch.cat([indices, draw(loader.epoch, int(indices[0]))])
            return self.x[indices], self.few[indices]

        loader = Loader(1200, fetch, batch_size=100, shuffle=True)
        return loader


@pytest.mark.long
def test_unlabelled_digits_save_errors(tmp_path: Path) -> None:
    """A quarter of those of the same classifier for which the bound has no weight."""
    errors = {}
    for alpha in (1.0, 1e4):
        L.seed_everything(0, verbose=False)
        objective = SemiSupervised(
            partial(MLP, hidden_channels=(64,)),
            partial(VAE, latent_dim=2, hidden_channels=(64,)),
            partial(torch.optim.Adam, lr=0.003),
            alpha=alpha,
        )
        trainer = quiet_trainer(tmp_path, max_epochs=60, enable_checkpointing=False)
        trainer.fit(objective, datamodule=FewDigits())
        (result,) = trainer.test(objective, datamodule=FewDigits(), verbose=False)
        errors[alpha] = 1 - result["test/accuracy"]
    assert errors[1.0] < 0.75 * errors[1e4] < 0.15


# --- errors -------------------------------------------------------------------------------------


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="alpha=-1: give at least 0"):
        ready(alpha=-1)
    with pytest.raises(ValueError, match="SemiSupervised predicts class labels, but the data has"):
        ready(TensorSpec(D, 1, targets="real"))
    with pytest.raises(ValueError, match="'bernoulli' is not defined"):
        ready(likelihood="bernoulli")
    with pytest.raises(ValueError, match="'bernoulli' is not defined"):
        ready(TensorSpec(D, C, values="unit"), likelihood="bernoulli", features=m1)
