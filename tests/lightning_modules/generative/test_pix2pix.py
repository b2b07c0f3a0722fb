"""Pix2Pix: a step by hand, what is measured, steps and schedules, resuming, learning, refusals."""

from functools import partial

import pytest
import torch
from every_objective import OBJECTIVES
from learning_cases import Case, Kill, assert_equal_weights, quiet_trainer, run
from torch import Tensor
from translation_cases import Negatives, Pairs, pixelwise, sgd

import trellis
from trellis.generative.adversarial import MinimaxLoss
from trellis.lightning_modules.generative.pix2pix import Pix2Pix
from trellis.optim.schedule import Schedule
from trellis.spec import TensorPairSpec, TensorSpec

torch.set_num_threads(1)
CASE = OBJECTIVES["Pix2Pix"]


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_a_step_by_hand(tmp_path) -> None:
    """Pixels are examples: linear functions of them have gradients that are written out."""
    torch.manual_seed(0)
    x, y = torch.randn(4, 2, 3, 3), torch.randn(4, 1, 3, 3)
    objective = Pix2Pix(pixelwise, pixelwise, sgd, sgd, loss=MinimaxLoss, l1_weight=7.0)
    objective.spec = Pairs(x, y).spec
    objective.configure_model()
    weights = [
        part.detach().clone().flatten()
        for network in (objective.generator, objective.discriminator)
        for part in (network.weight, network.bias)
    ]
    quiet_trainer(tmp_path, max_epochs=1).fit(objective, datamodule=Pairs(x, y))
    g, c, d, e = (each.requires_grad_() for each in weights)
    inputs, targets = x.movedim(1, 3).reshape(-1, 2), y.flatten()
    fakes = inputs @ g + c

    def real(candidates: Tensor) -> Tensor:
        return torch.sigmoid(torch.cat([inputs, candidates[:, None]], 1) @ d + e)

    value = real(targets).log().mean() + (1 - real(fakes.detach())).log().mean()
    up = torch.autograd.grad(value, (d, e))
    with torch.no_grad():
        d += 0.1 * up[0]
        e += 0.1 * up[1]
    value = (1 - real(fakes)).log().mean() + 7 * (targets - fakes).abs().mean()
    down = torch.autograd.grad(value, (g, c))
    expected = (g - 0.1 * down[0], c - 0.1 * down[1], d, e)
    found = (
        part.flatten()
        for network in (objective.generator, objective.discriminator)
        for part in (network.weight, network.bias)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_error_is_the_mean_over_pixels_of_all_images(tmp_path) -> None:
    done = run(CASE, tmp_path, max_epochs=1)
    data = Negatives()
    done.objective.eval()
    with torch.no_grad():
        expected = float((done.objective(data.x) - data.y).abs().mean())
    assert done.recorder.metrics[-1]["val/mean_absolute_error"] == pytest.approx(expected)
    [tested] = done.trainer.test(done.objective, datamodule=data, verbose=False)
    assert tested == {"test/mean_absolute_error": pytest.approx(expected)}
    predicted = torch.cat(done.trainer.predict(done.objective, datamodule=data))
    torch.testing.assert_close(predicted, done.objective(data.x))
    torch.testing.assert_close(trellis.load(done.best)(data.x), predicted)


def test_steps_are_the_generators(tmp_path) -> None:
    schedule = partial(Schedule, warmup_steps=0, decay="linear")
    done = run(Case(partial(CASE.objective, lr_scheduler=schedule), Negatives), tmp_path)
    batches = len(done.recorder.batches)
    assert done.trainer.global_step == batches
    for optimizer in done.trainer.optimizers:
        assert optimizer.state_dict()["state"][0]["step"] == batches
    schedulers = [config.scheduler for config in done.trainer.lr_scheduler_configs]
    assert [(s.total_steps, s.last_epoch) for s in schedulers] == [(batches, batches)] * 2


@pytest.mark.parametrize("batch", [pytest.param(2, marks=pytest.mark.long), 4])
def test_stopped_and_resumed_is_uninterrupted(batch: int, tmp_path) -> None:
    case = Case(partial(CASE.objective, lr_scheduler=partial(Schedule, decay="cosine")), Negatives)
    whole = run(case, tmp_path, max_epochs=2)
    stopped = run(case, tmp_path, callbacks=[Kill(batch)], max_epochs=2)
    resumed = run(case, tmp_path, seed=99, ckpt_path=stopped.last, max_epochs=2)
    assert resumed.error is None
    assert_equal_weights(whole, resumed)


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_it_learns_a_negative_with_and_without_the_discriminator(tmp_path) -> None:
    fast = partial(torch.optim.Adam, lr=0.05)
    torch.manual_seed(0)
    y = torch.rand(40, 1, 8, 8) ** 2
    errors = {}
    for weight in (0.0, 10.0):
        objective = Pix2Pix(pixelwise, pixelwise, fast, fast, l1_weight=weight)
        trainer = quiet_trainer(tmp_path, max_epochs=25, check_val_every_n_epoch=25)
        trainer.fit(objective, datamodule=Pairs(1 - y, y, 10))
        errors[weight] = float(trainer.callback_metrics["val/mean_absolute_error"])
    assert errors[10.0] < 0.02
    # A linear discriminator sees no more than means: it says little about the pixels.
    assert errors[0.0] > 0.05


def test_what_cannot_be_is_refused(tmp_path) -> None:
    image = TensorSpec(1, 0, (8, 8))
    with pytest.raises(ValueError, match="paired=False: choose paired=True, or CycleGAN"):
        Pix2Pix(spec=TensorPairSpec(image, image, paired=False)).configure_model()
    for other in (TensorSpec(1, 0, (8, 4)), TensorSpec(8, 0)):
        with pytest.raises(ValueError, match=r"Pix2Pix translates images .* inputs are \[1, 8, 8"):
            Pix2Pix(spec=TensorPairSpec(image, other)).configure_model()
    with pytest.raises(ValueError, match="l1_weight=-1"):
        Pix2Pix(l1_weight=-1)
    trainer = quiet_trainer(tmp_path, gradient_clip_val=0.5)
    with pytest.raises(ValueError, match=r"gradient_clip_val=0.5: .*max_grad_norm=0.5"):
        trainer.fit(CASE.objective(), datamodule=Negatives())
