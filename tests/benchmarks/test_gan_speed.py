"""Training a DCGAN on MNIST through ``Trainer.fit``, beside plain loops over the same networks.

All run in turns in one process, on one thread, over the same batches, with logger and progress
line on; ``pytest tests/benchmarks/test_gan_speed.py -m "" -s`` shows the numbers.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from measurements import report
from torch import Tensor, nn

from trellis import Trainer
from trellis.datamodules.image.mnist import MNIST
from trellis.lightning_modules.generative.gan import GAN
from trellis.networks.generative.gan import DCGANDiscriminator, DCGANGenerator

pytestmark = [pytest.mark.slow, pytest.mark.data]
BATCH, STEPS, ROUNDS, LATENT = 128, 20, 5, 64

adam = partial(torch.optim.Adam, lr=5e-4, betas=(0.5, 0.999), fused=True)
generator = partial(DCGANGenerator, channels=32, latent_dim=LATENT)
discriminator = partial(DCGANDiscriminator, channels=32)


class Stopwatch(L.Callback):
    """When each step began, and when the last one ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, *args: Any) -> None:
        self.times.append(time.perf_counter())


def trained(data: MNIST, root: Path) -> list[float]:
    """When each step through ``Trainer.fit`` began, and when the last one ended."""
    watch = Stopwatch()
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_steps=STEPS, limit_val_batches=0,
        enable_model_summary=False, callbacks=[watch],
    )  # fmt: skip
    trainer.fit(GAN(generator, discriminator, adam, adam), datamodule=data)
    assert trainer.global_step == STEPS
    return watch.times


def tutorial_step(
    g: nn.Module, d: nn.Module, g_step: Any, d_step: Any, x: Tensor
) -> tuple[Tensor, Tensor]:
    """As PyTorch's DCGAN tutorial has it: the generator's loss goes back through D's weights."""
    real, fake_label = torch.ones(len(x)), torch.zeros(len(x))
    d.zero_grad()
    on_real = F.binary_cross_entropy_with_logits(d(x), real)
    on_real.backward()
    fake = g(torch.randn(len(x), LATENT))
    on_fake = F.binary_cross_entropy_with_logits(d(fake.detach()), fake_label)
    on_fake.backward()
    d_step.step()
    g.zero_grad()
    loss = F.binary_cross_entropy_with_logits(d(fake), real)
    loss.backward()
    g_step.step()
    return loss.detach(), (on_real + on_fake).detach()


def lean_step(
    g: nn.Module, d: nn.Module, g_step: Any, d_step: Any, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Without anything that is not needed."""
    fake = g(torch.randn(len(x), LATENT))
    d_step.zero_grad()
    d_loss = F.softplus(-d(x)).mean() + F.softplus(d(fake.detach())).mean()
    d_loss.backward()
    d_step.step()
    d.requires_grad_(False)
    g_step.zero_grad()
    g_loss = F.softplus(-d(fake)).mean()
    g_loss.backward()
    g_step.step()
    d.requires_grad_(True)
    return g_loss.detach(), d_loss.detach()


def plain(data: MNIST, step: Callable[..., tuple[Tensor, Tensor]]) -> list[float]:
    """The same without any trainer."""
    g, d = generator((1, 28, 28)), discriminator((1, 28, 28))
    g_step, d_step = adam(g.parameters()), adam(d.parameters())
    times = []
    for x, _ in islice(data.train_dataloader(), STEPS):
        times.append(time.perf_counter())
        step(g, d, g_step, d_step, x)
    return [*times, time.perf_counter()]


def images_per_second(times: list[float]) -> float:
    """Of the median step: now and then the machine itself holds one up."""
    return BATCH / median(b - a for a, b in pairwise(times))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_dcgan_images(tmp_path: Path, data_dir: Path) -> None:
    data = MNIST(str(data_dir), batch_size=BATCH, pixels="unit")
    data.setup()
    over_tutorial, over_lean = [], []
    rates: dict[str, list[float]] = {"trellis": [], "tutorial": [], "lean loop": []}
    for _ in range(ROUNDS):
        fit = images_per_second(trained(data, tmp_path))
        tutorial = images_per_second(plain(data, tutorial_step))
        lean = images_per_second(plain(data, lean_step))
        over_tutorial.append(fit / tutorial)
        over_lean.append(fit / lean)
        for side, rate in zip(rates.values(), (fit, tutorial, lean), strict=True):
            side.append(rate)
        print(f"DCGAN: fit {fit:,.0f} images/s, tutorial {tutorial:,.0f}, lean {lean:,.0f}")
    print(f"{median(over_tutorial):.2f} of the tutorial, {median(over_lean):.2f} of the lean loop")
    report("DCGAN on MNIST", "images/s", rates)
    assert median(over_tutorial) >= 1.0
    assert median(over_lean) >= 0.97
