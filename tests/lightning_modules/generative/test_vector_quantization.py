"""Discrete codes in training and evaluation: the formula, perplexity, real digits."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from learning_cases import quiet_trainer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.generative import VectorQuantization
from trellis.lightning_modules.generative.vector_quantization import CodePerplexity
from trellis.networks.generative import VQVAE
from trellis.spec import TensorSpec

SPEC = TensorSpec(1, 10, (8, 8), values="unit")
small = partial(VQVAE, num_codes=16, code_dim=8, channels=(16, 32), num_residuals=1)


def ready(spec: TensorSpec = SPEC, **options: object) -> VectorQuantization:
    torch.manual_seed(0)
    objective = VectorQuantization(**{"network": small, "spec": spec, **options})
    objective.configure_model()
    return objective


class Digits(DataModule):
    """Real digits of 8x8 pixels: 1,200 to train on, 500 to test."""

    def __init__(self) -> None:
        super().__init__()
        digits = load_digits()
        self.x = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
        self.y, self.spec = torch.from_numpy(digits.target).long(), SPEC

    def loader(self, split: str) -> Loader:
        part = slice(1200) if split == "train" else slice(1200, 1700)
        return tensor_loader(self.x[part], self.y[part], batch_size=50, train=split == "train")


def test_the_loss_is_that_of_the_formula() -> None:
    objective, x = ready(commitment=0.4), torch.rand(5, 1, 8, 8)
    network = objective.network
    nn.init.normal_(network.quantizer.codes.weight, std=0.1)
    z = network.encoder(x)  # [5, 8, 2, 2]
    distances = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 8), network.quantizer.codes.weight)
    nearest = distances.argmin(1)
    logits = network.decode(nearest.view(5, 2, 2)).squeeze(1)
    error = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    distance = distances.min(1).values.square().sum()
    expected = (error + 1.4 * distance) / 5
    torch.testing.assert_close(objective.training_step((x, x), 0), expected)
    assert objective.predict_step((x, x), 0).equal(nearest.view(5, 2, 2))
    torch.testing.assert_close(objective(x), logits.sigmoid())


def test_each_part_of_the_network_learns() -> None:
    objective = ready()
    objective.training_step((torch.rand(5, 1, 8, 8), torch.zeros(5)), 0).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_perplexity_is_the_number_of_equally_frequent_codes() -> None:
    metric = CodePerplexity(10)
    metric.update(torch.tensor([[1, 3], [3, 1]]))
    assert metric.compute().item() == pytest.approx(2)
    metric.update(torch.tensor([5, 5]))
    assert metric.compute().item() == pytest.approx(3)
    metric.update(torch.zeros(18, dtype=torch.long))
    entropy = -(0.75 * math.log(0.75) + 3 * math.log(1 / 12) / 12)
    assert metric.compute().item() == pytest.approx(math.exp(entropy))


@pytest.mark.long
def test_sixteen_bits_keep_more_of_digits_than_four_components(tmp_path: Path) -> None:
    data = Digits()
    L.seed_everything(0, verbose=False)
    objective = VectorQuantization(small, partial(torch.optim.Adam, lr=0.003))
    trainer = quiet_trainer(tmp_path, max_epochs=25, enable_checkpointing=False)
    trainer.fit(objective, datamodule=data)
    (result,) = trainer.test(objective, datamodule=data, verbose=False)
    flat = data.x.flatten(1).numpy()
    components = PCA(4).fit(flat[:1200])
    test = flat[1200:1700]
    left = ((components.inverse_transform(components.transform(test)) - test) ** 2).sum(1).mean()
    assert result["test/squared_error"] < left
    assert result["test/perplexity"] > 6


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="likelihood='poisson': choose from"):
        ready(likelihood="poisson")
    with pytest.raises(ValueError, match="commitment=-1: give at least 0"):
        ready(commitment=-1)
    with pytest.raises(ValueError, match="'bernoulli' is not defined"):
        ready(TensorSpec(1, 10, (8, 8)))
    with pytest.raises(ValueError, match="2 convolutions take images"):
        ready(TensorSpec(64, 10, values="unit"))
    with pytest.raises(ValueError, match="num_residuals=-1"):
        ready(network=partial(small, num_residuals=-1))
