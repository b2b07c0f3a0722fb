"""CycleGAN: a step by hand, what is measured, its pool after a resume, learning, refusals."""

from functools import partial

import pytest
import torch
from every_objective import OBJECTIVES
from learning_cases import Kill, assert_equal_weights, quiet_trainer, run
from torch import Tensor, nn
from translation_cases import Negatives, Pairs, pixelwise, sgd

from trellis.lightning_modules.generative.cycle_gan import CycleGAN
from trellis.spec import TensorPairSpec, TensorSpec

torch.set_num_threads(1)
CASE = OBJECTIVES["CycleGAN"]
NAMES = ("generator", "generator_back", "discriminator", "discriminator_back")


def lines(objective: CycleGAN) -> list[Tensor]:
    """Slope and shift of each of the four networks."""
    networks = [getattr(objective, name) for name in NAMES]
    return [torch.cat([n.weight.flatten(), n.bias]).detach().clone() for n in networks]


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
@pytest.mark.parametrize("pool_size", [0, 8])
def test_a_step_by_hand(pool_size: int, tmp_path) -> None:
    """Networks are lines through pixels; a pool is filled in the first step, and shows nothing."""
    torch.manual_seed(0)
    x, y = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    objective = CycleGAN(
        pixelwise, pixelwise, sgd, sgd, cycle_weight=3.0, identity_weight=2.0, pool_size=pool_size
    )
    objective.spec = Pairs(x, y).spec
    objective.configure_model()
    there, back, of_y, of_x = (each.requires_grad_() for each in lines(objective))
    quiet_trainer(tmp_path, max_epochs=1).fit(objective, datamodule=Pairs(x, y))

    def on(line: Tensor, pixels: Tensor) -> Tensor:
        return line[0] * pixels + line[1]

    fake_y, fake_x = on(there, x), on(back, y)
    value = (on(of_y, fake_y) - 1).square().mean() / 2 + (on(of_x, fake_x) - 1).square().mean() / 2
    value = value + 3 * (
        (on(back, fake_y) - x).abs().mean() + (on(there, fake_x) - y).abs().mean()
    )
    value = value + 2 * ((on(there, y) - y).abs().mean() + (on(back, x) - x).abs().mean())
    down = torch.autograd.grad(value, (there, back), retain_graph=True)
    value = sum(
        ((on(line, real) - 1).square().mean() + on(line, fake.detach()).square().mean()) / 2
        for line, real, fake in ((of_y, y, fake_y), (of_x, x, fake_x))
    )
    down += torch.autograd.grad(value, (of_y, of_x))
    for line, gradient, found in zip(
        (there, back, of_y, of_x), down, lines(objective), strict=True
    ):
        torch.testing.assert_close(found, (line - 0.1 * gradient).detach())


def test_what_is_measured(tmp_path) -> None:
    done = run(CASE, tmp_path, max_epochs=2)
    data, objective = Negatives(), done.objective.eval()
    with torch.no_grad():
        fake_y, fake_x = objective(data.x), objective.generator_back(data.y)
        there_and_back = objective.generator_back(fake_y), objective(fake_x)
    cycle = sum(
        float((one - other).abs().mean()) / 2
        for one, other in zip(there_and_back, (data.x, data.y), strict=True)
    )
    found = done.recorder.metrics[-1]
    assert found["val/mean_absolute_error"] == pytest.approx(float((fake_y - data.y).abs().mean()))
    assert found["val/mean_absolute_error_back"] == pytest.approx(
        float((fake_x - data.x).abs().mean())
    )
    assert found["val/cycle_error"] == pytest.approx(cycle)
    assert found["val/generator_steps"] == done.trainer.global_step == len(done.recorder.batches)


@pytest.mark.parametrize("batch", [pytest.param(3, marks=pytest.mark.long), 4])
def test_stopped_and_resumed_is_uninterrupted_with_its_pools(batch: int, tmp_path) -> None:
    whole = run(CASE, tmp_path, max_epochs=2)
    assert whole.objective.pool.filled.all()
    stopped = run(CASE, tmp_path, callbacks=[Kill(batch)], max_epochs=2)
    resumed = run(CASE, tmp_path, seed=99, ckpt_path=stopped.last, max_epochs=2)
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    assert torch.equal(whole.objective.pool_back.images, resumed.objective.pool_back.images)


def test_the_generators_step_leaves_the_discriminators_alone(tmp_path) -> None:
    def trained(objective: CycleGAN) -> list[bool]:
        return [p.requires_grad for n in objective.discriminators for p in n.parameters()]

    done = run(CASE, tmp_path, max_epochs=1)
    assert all(trained(done.objective))
    shared = {id(p) for n in done.objective.generators for p in n.parameters()}
    first, second = (
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in done.trainer.optimizers
    )
    assert first == shared
    assert second == {id(p) for n in done.objective.discriminators for p in n.parameters()}


def half_a_negative(in_channels: int, out_channels: int) -> nn.Module:
    """Of the lines with a falling slope, which training does not turn around, a wrong one."""
    network = pixelwise(in_channels, out_channels)
    nn.init.constant_(network.weight, -0.5)
    nn.init.constant_(network.bias, 0.5)
    return network


def curved(in_channels: int) -> nn.Module:
    """A discriminator of pixels that can tell a distribution from its mirror image."""
    return nn.Sequential(nn.Conv2d(in_channels, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 1))


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_it_learns_a_negative_without_pairs(tmp_path) -> None:
    """The only line from the negatives of squared uniform numbers to such numbers is 1 - x."""
    slow, fast = (partial(torch.optim.Adam, lr=lr, betas=(0.5, 0.9)) for lr in (0.01, 0.05))
    torch.manual_seed(0)
    y, other = torch.rand(2, 20, 1, 8, 8).square()
    objective = CycleGAN(half_a_negative, curved, slow, fast, cycle_weight=1.0)
    trainer = quiet_trainer(tmp_path, max_epochs=60, limit_val_batches=0)
    trainer.fit(objective, datamodule=Pairs(1 - other, y, 10, paired=False))
    with torch.no_grad():
        for found, expected in (
            (objective(1 - other), other),
            (objective.generator_back(y), 1 - y),
        ):
            assert (found - expected).abs().mean() < 0.05


def test_what_cannot_be_is_refused() -> None:
    grey, colours = TensorSpec(1, 0, (8, 8)), TensorSpec(3, 0, (8, 8))
    with pytest.raises(ValueError, match=r"identity_weight=1.0: inputs of 1 channels and targets"):
        CycleGAN(spec=TensorPairSpec(grey, colours), identity_weight=1.0).configure_model()
    for name in ("cycle_weight", "identity_weight", "pool_size"):
        with pytest.raises(ValueError, match=f"{name}=-1"):
            CycleGAN(**{name: -1})
    CycleGAN(spec=TensorPairSpec(grey, colours)).configure_model()
