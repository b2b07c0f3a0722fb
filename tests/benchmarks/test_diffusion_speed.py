"""Flow matching and diffusion beside bare loops, and the U-Net beside that of diffusers.

The loops are written as in tutorials, with torch's DataLoader over points that are there already,
and ``Adam(lr)``; ours draws new points in each epoch and has the fused Adam of the configs. Sides
take turns of 20 steps.

``pytest tests/benchmarks/test_diffusion_speed.py -m "" -s`` shows the numbers.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from measurements import report
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from turns import Ticks, Turns, in_turns

from trellis import Trainer
from trellis.datamodules.generative import SyntheticDensities
from trellis.lightning_modules.generative.diffusion import Diffusion
from trellis.lightning_modules.generative.flow_matching import FlowMatching
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.networks.generative.unet import UNet

pytestmark = pytest.mark.slow
BATCH, STEPS, WIDTH = 512, 300, 128
adam = partial(torch.optim.Adam, lr=1e-3)


class BareDenoiser(nn.Module):
    """The layers of ``MLPDenoiser``, and its waves of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 13, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(),
            nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 2),
        )  # fmt: skip
        self.register_buffer("frequencies", torch.pi * 2.0 ** torch.arange(6))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return self.layers(torch.cat([x, t[:, None], angles.sin(), angles.cos()], dim=-1))


def flow_matching_loss(network: nn.Module, x: Tensor) -> Tensor:
    """As in torchcfm's tutorial, without noise around the line."""
    noise, t = torch.randn_like(x), torch.rand(len(x))
    at = t[:, None] * x + (1 - t[:, None]) * noise
    return torch.mean((network(at, t) - (x - noise)) ** 2)


def diffusion_loss(network: nn.Module, x: Tensor, alpha_bars: Tensor) -> Tensor:
    """Algorithm 1 of Ho et al. 2020."""
    steps, noise = torch.randint(len(alpha_bars), (len(x),)), torch.randn_like(x)
    signal = alpha_bars[steps][:, None]
    noisy = signal.sqrt() * x + (1 - signal).sqrt() * noise
    return torch.mean((network(noisy, (steps + 1) / len(alpha_bars)) - noise) ** 2)


def bare_loop(loss_of: Callable[..., Tensor], root: Path, ticks: Ticks) -> None:
    data = SyntheticDensities("moons", num_train=BATCH * STEPS, batch_size=BATCH, seed=0)
    points = torch.cat([x for x, _ in data.train_dataloader()])
    loader = DataLoader(TensorDataset(points), batch_size=BATCH, shuffle=True)
    model = BareDenoiser()
    optimizer = adam(model.parameters())
    ticks.on_train_start()
    for (x,) in loader:
        loss = loss_of(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ticks.on_train_batch_end()


def ours(kind: Callable[..., Any], root: Path, ticks: Ticks) -> None:
    network = partial(MLPDenoiser, hidden_channels=(WIDTH,) * 3)
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_epochs=1, limit_val_batches=0,
        enable_model_summary=False, callbacks=[ticks],
    )  # fmt: skip
    data = SyntheticDensities("moons", num_train=BATCH * STEPS, batch_size=BATCH, seed=0)
    trainer.fit(kind(network, partial(adam, fused=True)), datamodule=data)


ALPHA_BARS = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
PAIRS = {
    "flow matching on two moons": (FlowMatching, flow_matching_loss),
    "diffusion on two moons": (Diffusion, partial(diffusion_loss, alpha_bars=ALPHA_BARS)),
}


@pytest.mark.parametrize("what", PAIRS)
def test_training_is_no_slower_than_a_bare_loop(what: str, tmp_path: Path) -> None:
    kind, loss_of = PAIRS[what]
    sides = {"trellis": partial(ours, kind), "bare loop": partial(bare_loop, loss_of)}
    rates = {}

    def take_part(name: str, turns: Turns) -> float:
        ticks = Ticks(turns, name, BATCH)
        sides[name](tmp_path, ticks)
        rates[name] = [BATCH / seconds for seconds in ticks.steps]
        return ticks.per_second()

    speeds = in_turns(sides, take_part)
    report(what, "points/s", rates)
    print(f"\n{what}: {speeds['trellis'] / speeds['bare loop']:.2f}x the bare loop")
    assert speeds["trellis"] >= speeds["bare loop"]


def test_a_u_net_is_no_slower_than_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is in the extra peers")
    down, up = ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"], ["UpBlock2D", "UpBlock2D"]
    theirs = diffusers.UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, layers_per_block=1,
        block_out_channels=(32, 64, 64), down_block_types=down,
        up_block_types=["AttnUpBlock2D", *up], norm_num_groups=8, attention_head_dim=16,
    )  # fmt: skip
    network = UNet((1, 28, 28), channels=32, multipliers=(1, 2, 2), attention=(2,))
    sizes = [sum(p.numel() for p in each.parameters()) for each in (network, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    x, t = torch.randn(64, 1, 28, 28), torch.rand(64)
    sides: dict[str, Callable[[], Tensor]] = {
        "trellis": lambda: network(x, t),
        "diffusers": lambda: theirs(x, 1000 * t).sample,
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(9):
        for name, forward in sides.items():
            start = time.perf_counter()
            forward().square().mean().backward()
            if turn:  # the first prepares the others
                seconds[name].append(1000 * (time.perf_counter() - start))
    report("U-Net of a million parameters, forward and back", "ms", seconds)
    ratio = median(seconds["diffusers"]) / median(seconds["trellis"])
    print(f"\nU-Net: {ratio:.2f}x diffusers' of {sizes[1] / sizes[0]:.2f} times the parameters")
    assert ratio >= 1.0
