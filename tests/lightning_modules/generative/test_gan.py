"""A GAN's two optimisers: step counts, resuming, stopping and checkpoints."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import Case, Kill, Points, Run, assert_equal_weights, quiet_trainer, run
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

import trellis
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.generative.adversarial import (
    HingeLoss,
    LeastSquaresLoss,
    MinimaxLoss,
    NonSaturatingLoss,
    WassersteinLoss,
)
from trellis.lightning_modules.generative.gan import GAN
from trellis.networks.generative.gan import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
)
from trellis.networks.vector.mlp import MLP
from trellis.optim.schedule import Schedule
from trellis.spec import TensorSpec

torch.set_num_threads(1)
adam = partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.9))
sgd = partial(torch.optim.SGD, lr=0.1)
generator = partial(MLPGenerator, latent_dim=3, hidden_channels=(8,), batch_norm=True)
discriminator = partial(MLPDiscriminator, hidden_channels=(8,), dropout=0.3, spectral_norm=True)
gan = partial(
    GAN, generator=generator, discriminator=discriminator, generator_optimizer=adam,
    discriminator_optimizer=adam,
)  # fmt: skip
wgan = partial(
    gan, discriminator=partial(MLPDiscriminator, hidden_channels=(8,)), loss=WassersteinLoss,
    critic_steps=3, gradient_penalty=10.0,
)  # fmt: skip
CASES = {
    "gan": Case(
        partial(gan, generator=partial(generator, class_embed_dim=2), conditional=True), Points
    ),
    "schedule": Case(partial(gan, lr_scheduler=partial(Schedule, warmup_steps=2)), Points),
    "epochs": Case(partial(gan, lr_scheduler=partial(StepLR, step_size=1, gamma=0.5)), Points),
    "critic": Case(wgan, Points),
    "noise": Case(partial(gan, critic_steps=2, instance_noise=0.2, max_grad_norm=0.5), Points),
}


class Given(DataModule):
    """The same examples for everything, in order."""

    def __init__(self, x: Tensor, num_classes: int = 1, batch_size: int = 4) -> None:
        super().__init__()
        self.x, self.y, self.batch_size = x, torch.arange(len(x)) % num_classes, batch_size
        self.spec = TensorSpec(x.size(1), num_classes, tuple(x.shape[2:]))

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=self.batch_size, train=False)


@pytest.fixture(scope="module", params=CASES)
def uninterrupted(request, tmp_path_factory) -> tuple[Case, Run]:
    case = CASES[request.param]
    return case, run(case, tmp_path_factory.mktemp("whole"), max_epochs=3)


# Epochs have five batches: in the midst of one, its last, the first of the next.
@pytest.mark.parametrize(
    "batch", [2, 4, 5, *(pytest.param(b, marks=pytest.mark.long) for b in (3, 8))]
)
def test_stopped_and_resumed_is_uninterrupted(uninterrupted, batch, tmp_path):
    case, whole = uninterrupted
    stopped = run(case, tmp_path, callbacks=[Kill(batch)], max_epochs=3)
    assert stopped.error is not None
    assert len(stopped.recorder.batches) == batch + 1
    resumed = run(case, tmp_path, seed=99, ckpt_path=stopped.last, max_epochs=3)
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    assert resumed.trainer.global_step == whole.trainer.global_step
    for one, other in zip(whole.trainer.optimizers, resumed.trainer.optimizers, strict=True):
        assert_equal_states(one.state_dict(), other.state_dict())
    for one, other in zip(schedulers(whole), schedulers(resumed), strict=True):
        assert one.state_dict() == other.state_dict()


def assert_equal_states(one: dict, other: dict) -> None:
    assert one["param_groups"] == other["param_groups"]
    assert one["state"].keys() == other["state"].keys()
    for index, state in one["state"].items():
        assert state
        assert all(torch.equal(value, other["state"][index][key]) for key, value in state.items())


def schedulers(done) -> list:
    return [config.scheduler for config in done.trainer.lr_scheduler_configs]


@pytest.mark.parametrize("name", ["critic", "epochs"])
def test_resumed_from_the_best_and_at_the_end_of_an_epoch(name, tmp_path):
    whole = run(CASES[name], tmp_path, max_epochs=3)
    stopped = run(CASES[name], tmp_path, max_epochs=2)
    for path in (stopped.best, stopped.last):
        resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=path, max_epochs=3)
        assert_equal_weights(whole, resumed)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_more_steps_after_max_steps(steps, tmp_path):
    options = {"max_epochs": -1, "max_steps": 5}
    whole = run(CASES["critic"], tmp_path, **options)
    stopped = run(CASES["critic"], tmp_path, **{**options, "max_steps": steps})
    assert stopped.trainer.global_step == steps
    resumed = run(CASES["critic"], tmp_path, seed=99, ckpt_path=stopped.last, **options)
    assert_equal_weights(whole, resumed)


class Steps(L.Callback):
    """Whether the weights of each network changed in each batch, and the step count after it."""

    def __init__(self) -> None:
        self.moved: list[tuple[bool, bool]] = []
        self.global_steps: list[int] = []

    def _weights(self, pl_module) -> list[Tensor]:
        networks = (pl_module.generator, pl_module.discriminator)
        return [nn.utils.parameters_to_vector(network.parameters()) for network in networks]

    def on_train_batch_start(self, trainer, pl_module, *args) -> None:
        self.before = [weights.detach().clone() for weights in self._weights(pl_module)]

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        after = zip(self.before, self._weights(pl_module), strict=True)
        self.moved.append(tuple(not torch.equal(a, b) for a, b in after))
        self.global_steps.append(trainer.global_step)


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_a_step_is_a_step_of_the_generator(critic_steps, tmp_path):
    steps, case = Steps(), Case(partial(gan, critic_steps=critic_steps), Points)
    done = run(case, tmp_path, callbacks=[steps], max_epochs=2)
    turns = [(batch + 1) % critic_steps == 0 for batch in range(10)]  # across the epochs
    assert steps.moved == [(turn, True) for turn in turns]
    assert steps.global_steps == [sum(turns[: batch + 1]) for batch in range(10)]
    assert done.recorder.metrics[-1]["val/generator_steps"] == sum(turns)
    assert torch.load(done.last, weights_only=True)["global_step"] == sum(turns)


def test_max_steps_count_the_generator(tmp_path):
    done = run(CASES["critic"], tmp_path, max_epochs=-1, max_steps=4)
    assert done.trainer.global_step == 4
    assert len(done.recorder.batches) == 12
    assert done.trainer.optimizers[0].state_dict()["state"][0]["step"] == 4
    assert done.trainer.optimizers[1].state_dict()["state"][0]["step"] == 12


def test_both_schedulers_count_the_generator(tmp_path):
    linear = partial(Schedule, warmup_steps=0, decay="linear")
    case = Case(partial(wgan, lr_scheduler=linear), Points)
    done = run(case, tmp_path, max_epochs=6)  # 30 batches, 10 steps: the rate ends at 0
    assert [s.total_steps for s in schedulers(done)] == [10, 10]
    assert [s.last_epoch for s in schedulers(done)] == [10, 10]
    assert [s.get_last_lr() for s in schedulers(done)] == [[0.0], [0.0]]
    done = run(case, tmp_path, max_epochs=-1, max_steps=4)
    assert [(s.total_steps, s.last_epoch) for s in schedulers(done)] == [(4, 4), (4, 4)]
    done = run(case, tmp_path, max_epochs=6, max_steps=7)
    assert [s.total_steps for s in schedulers(done)] == [7, 7]


def test_other_schedulers_step_once_an_epoch(tmp_path):
    done = run(CASES["epochs"], tmp_path, max_epochs=3)
    assert [s.get_last_lr()[0] for s in schedulers(done)] == [pytest.approx(0.01 / 8)] * 2


def test_a_plateau_is_of_what_was_logged(tmp_path):
    from lightning.pytorch.cli import ReduceLROnPlateau

    plateau = partial(
        ReduceLROnPlateau, monitor="val/generator_steps", mode="min", factor=0.5, patience=0
    )
    done = run(Case(partial(gan, lr_scheduler=plateau), Points), tmp_path, max_epochs=3)
    # It only grows: bad after the first epoch.
    rates = [optimizer.param_groups[0]["lr"] for optimizer in done.trainer.optimizers]
    assert rates == [pytest.approx(0.01 / 4)] * 2


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")
def test_an_average_of_weights_counts_the_generator(tmp_path):
    class Average(EMAWeightAveraging):
        updates = 0

        def should_update(self, step_idx=None, epoch_idx=None) -> bool:
            due = super().should_update(step_idx, epoch_idx)
            self.updates += due
            return due

    average = Average(decay=0.5)
    done = run(
        CASES["critic"], tmp_path, callbacks=[average], max_epochs=-1, max_steps=4,
    )  # fmt: skip
    assert average.updates == 4
    # The checkpoint holds the average: that is what a user gets.
    loaded = trellis.load(done.last)
    saved = torch.load(done.last, weights_only=True)
    name = "generator.layers.layers.0.weight"
    assert torch.equal(loaded.state_dict()[name], saved["state_dict"][name])
    assert not torch.equal(saved["current_model_state"][name], saved["state_dict"][name])
    whole = run(
        CASES["critic"], tmp_path, callbacks=[Average(decay=0.5)], max_epochs=-1, max_steps=6
    )
    resumed = run(
        CASES["critic"], tmp_path, seed=99, ckpt_path=done.last,
        callbacks=[Average(decay=0.5)], max_epochs=-1, max_steps=6,
    )  # fmt: skip
    assert_equal_weights(whole, resumed)


class Gradients(L.Callback):
    """Norms of the gradients that each optimiser steps with."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        for network in (pl_module.generator, pl_module.discriminator):
            grads = [p.grad for p in network.parameters()]
            self.norms.append(float(nn.utils.get_total_norm(grads)))


def test_gradients_are_clipped_network_by_network(tmp_path):
    free, clipped = Gradients(), Gradients()
    run(Case(gan, Points), tmp_path, callbacks=[free], max_epochs=1)
    assert min(free.norms) > 0.011
    case = Case(partial(gan, max_grad_norm=0.01), Points)
    run(case, tmp_path, callbacks=[clipped], max_epochs=1)
    assert clipped.norms == [pytest.approx(0.01, rel=1e-3)] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_clip_val": 0.5}, r"gradient_clip_val=0.5: .*max_grad_norm=0.5"),
        ({"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2: .*batch_size"),
    ],
)
def test_what_the_trainer_cannot_do_for_two_networks(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        quiet_trainer(tmp_path, **options).fit(gan(), datamodule=Points())


class Poison(L.Callback):
    """Spoils a network: its gradient, or its weights after a step."""

    def __init__(self, network: str, what: str) -> None:
        self.network, self.what = network, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx != 2:
            return
        weight = next(getattr(pl_module, self.network).parameters())
        if self.what == "weight":
            with torch.no_grad():
                weight[0] = math.nan
        else:
            weight.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_nan_names_the_network(network, tmp_path):
    done = run(CASES["noise"], tmp_path, callbacks=[Poison(network, "gradient")])
    assert isinstance(done.error, FloatingPointError)
    message = str(done.error)
    other = {"generator": "discriminator", "discriminator": "generator"}[network]
    assert f"not finite in {network}." in message
    assert other not in message


def test_nan_weights_name_the_network_they_are_in(tmp_path):
    # The gradient that shows them first is the discriminator's.
    done = run(CASES["critic"], tmp_path, callbacks=[Poison("generator", "weight")])
    assert isinstance(done.error, FloatingPointError)
    assert "weights of generator." in str(done.error)
    assert "weights of discriminator" not in str(done.error)


def test_the_generator_step_leaves_the_discriminator_alone(tmp_path):
    """The discriminator has gradients in its own step and none in the generator's."""
    seen = []

    class Spy(WassersteinLoss):
        def generator(self, fake_logits: Tensor) -> Tensor:
            trained = [p.requires_grad for p in objective.discriminator.parameters()]
            seen.append((any(trained), fake_logits.requires_grad))
            return super().generator(fake_logits)

    with pytest.warns(UserWarning, match="loss"):
        objective = gan(loss=Spy)
    run(Case(lambda: objective, Points), tmp_path, max_epochs=1)
    assert seen == [(False, True)] * 5
    assert all(p.requires_grad for p in objective.discriminator.parameters())


def test_frozen_weights_stay_frozen(tmp_path):
    def half_frozen(shape, num_classes=0) -> nn.Module:
        network = MLPDiscriminator(shape, hidden_channels=(4, 4))
        network.layers.layers[0].requires_grad_(False)
        return network

    with pytest.warns(UserWarning, match="discriminator"):
        objective = GAN(generator, half_frozen, adam, adam)
    done = run(Case(lambda: objective, Points), tmp_path, max_epochs=1)
    assert done.error is None
    assert not any(p.requires_grad for p in objective.discriminator.layers.layers[0].parameters())


def test_both_learn_from_the_same_examples(tmp_path):
    calls = []

    class Counted(MLPGenerator):
        def forward(self, z, y=None):
            calls.append(torch.is_grad_enabled() and self.training)
            return super().forward(z, y)

    with pytest.warns(UserWarning, match="generator"):
        objective = GAN(Counted, discriminator, adam, adam, critic_steps=2)
    run(Case(lambda: objective, Points), tmp_path, max_epochs=1, limit_val_batches=0)
    assert calls == [False, True, False, True, False], "one forward a batch, a graph when needed"


def test_a_step_by_hand(tmp_path):
    """The first step of SGD follows the gradients of the formulas."""
    torch.manual_seed(0)
    make_g = partial(MLPGenerator, latent_dim=2, hidden_channels=())
    make_d = partial(MLPDiscriminator, hidden_channels=())
    spec = TensorSpec(2, 1)
    objective = GAN(make_g, make_d, sgd, sgd, spec=spec, loss=MinimaxLoss)
    objective.configure_model()
    weights = {name: value.clone() for name, value in objective.state_dict().items()}
    x = torch.randn(4, 2)
    g, d = make_g((2,)), make_d((2,))
    g.load_state_dict({k[10:]: v for k, v in weights.items() if k.startswith("generator.")})
    d.load_state_dict({k[14:]: v for k, v in weights.items() if k.startswith("discriminator.")})

    torch.manual_seed(1)
    fake = g(torch.randn(4, 2))
    value = d(x).sigmoid().log().mean() + (1 - d(fake.detach()).sigmoid()).log().mean()
    ascend = torch.autograd.grad(value, list(d.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(d.parameters(), ascend, strict=True):
            parameter += 0.1 * gradient
    value = (1 - d(fake).sigmoid()).log().mean()
    descend = torch.autograd.grad(value, list(g.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(g.parameters(), descend, strict=True):
            parameter -= 0.1 * gradient

    class Seed(L.Callback):
        def on_train_batch_start(self, *args) -> None:
            torch.manual_seed(1)

    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[Seed()])
    trainer.fit(objective, datamodule=Given(x))
    for one, other in ((objective.generator, g), (objective.discriminator, d)):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_critic_s_step_by_hand(tmp_path):
    """A linear critic w x + b has gradient norm |w|: the penalty is (|w| - 1)^2."""
    torch.manual_seed(0)
    linear = partial(MLPDiscriminator, hidden_channels=())
    objective = wgan(discriminator=linear, discriminator_optimizer=sgd, spec=TensorSpec(2, 1))
    objective.configure_model()
    layer = objective.discriminator.layers.layers[0]
    w, x = layer.weight.detach().clone().squeeze(0), torch.randn(4, 2)
    made = []
    objective.generator.register_forward_hook(lambda _, __, out: made.append(out.detach()))
    quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(objective, datamodule=Given(x))
    penalty_gradient = 10.0 * 2 * (w.norm() - 1) * w / w.norm()
    expected = w - 0.1 * (made[0].mean(0) - x.mean(0) + penalty_gradient)
    torch.testing.assert_close(layer.weight.detach().squeeze(0), expected)


def test_what_the_discriminator_sees(tmp_path):
    seen = []

    class Seen(MLPDiscriminator):
        def forward(self, x, y=None):
            seen.append(x.detach())
            return super().forward(x, y)

    def constant(shape, num_classes=0) -> nn.Module:
        network = MLPGenerator(shape, latent_dim=1, hidden_channels=())
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        return network

    x = torch.full((1000, 2), 5.0)
    with pytest.warns(UserWarning, match="cannot be imported"):
        objective = GAN(constant, Seen, instance_noise=0.3, gradient_penalty=1.0)
    trainer = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    torch.manual_seed(0)
    trainer.fit(objective, datamodule=Given(x, batch_size=1000))
    # Noise on real examples, on generated ones and on these again for the generator; none on the
    # points between, whose slope is looked at, and none in evaluation.
    means = [float(one.mean()) for one in seen]
    assert means == pytest.approx([5.0, 0.0, 2.5, 0.0, 5.0, 0.0], abs=0.15)
    scales = [float(one.std()) for one in seen]
    assert scales == pytest.approx([0.3, 0.3, 5 / math.sqrt(12), 0.3, 0.0, 0.0], abs=0.05)
    assert not torch.equal(seen[1], seen[3])


def test_weights_are_clipped(tmp_path):
    case = Case(partial(gan, discriminator=MLPDiscriminator, weight_clip=0.01), Points)
    done = run(case, tmp_path, max_epochs=1)
    largest = [float(p.detach().abs().max()) for p in done.objective.discriminator.parameters()]
    assert max(largest) == pytest.approx(0.01)
    free = [float(p.detach().abs().max()) for p in done.objective.generator.parameters()]
    assert max(free) > 0.1


def test_evaluation_draws_nothing_from_training(tmp_path):
    with_it = run(CASES["critic"], tmp_path, max_epochs=2)
    without = run(CASES["critic"], tmp_path, max_epochs=2, limit_val_batches=0)
    for (name, a), b in zip(with_it.weights.items(), without.weights.values(), strict=True):
        if not name.startswith(("val_", "test_")):
            assert torch.equal(a, b), name


def test_evaluation_reports_mean_logits(tmp_path):
    objective = gan(discriminator=MLPDiscriminator, spec=TensorSpec(6, 3))
    objective.configure_model()
    last = objective.generator.layers.layers[-1]
    nn.init.zeros_(last.weight)  # whatever the noise, it draws its bias
    (result,) = quiet_trainer(tmp_path).test(objective, datamodule=Points(), verbose=False)
    with torch.no_grad():
        real = objective.discriminator(Points().x).mean()
        fake = objective.discriminator(last.bias[None])
    assert result == {
        "test/real_logits": pytest.approx(float(real), abs=1e-6),
        "test/fake_logits": pytest.approx(float(fake), abs=1e-6),
    }


def test_checkpoint_opens_and_draws(tmp_path):
    done = run(CASES["gan"], tmp_path, max_epochs=1)
    loaded = trellis.load(done.last)
    assert isinstance(loaded, GAN)
    assert isinstance(loaded.adversarial_loss, NonSaturatingLoss)
    assert_equal_weights(done, done._replace(objective=loaded))
    torch.manual_seed(0)
    x = loaded.sample(6)
    assert x.shape == (6, 6)
    torch.manual_seed(0)
    torch.testing.assert_close(x, loaded.sample(6, torch.tensor([0, 1, 2, 0, 1, 2])))
    torch.manual_seed(0)
    assert not torch.equal(x, loaded.sample(6, torch.zeros(6, dtype=torch.long)))


def test_images_and_options_survive_a_checkpoint(tmp_path):
    small = {"channels": 2, "latent_dim": 3}
    objective = GAN(
        partial(DCGANGenerator, **small), partial(DCGANDiscriminator, channels=2),
        loss=partial(LeastSquaresLoss, a=-1.0, c=0.0),
    )  # fmt: skip
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=Given(torch.rand(4, 1, 28, 28), 10))
    loaded = trellis.load(Path(trainer.checkpoint_callback.last_model_path))
    assert (loaded.adversarial_loss.a, loaded.adversarial_loss.b, loaded.adversarial_loss.c) == (
        -1.0,
        1.0,
        0.0,
    )
    assert loaded.sample(2).shape == (2, 1, 28, 28)


def test_resuming_with_another_optimiser_is_refused(tmp_path):
    done = run(CASES["noise"], tmp_path, max_epochs=1)
    case = Case(partial(gan, discriminator_optimizer=sgd, critic_steps=2), Points)
    error = run(case, tmp_path, ckpt_path=done.last).error
    assert isinstance(error, ValueError)
    assert "discriminator_optimizer: the checkpoint was made with Adam" in str(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_steps": 0}, "critic_steps=0: give at least 1"),
        ({"gradient_penalty": -1.0}, "gradient_penalty=-1.0: give at least 0"),
        ({"instance_noise": math.nan}, "instance_noise=nan: give at least 0"),
        ({"weight_clip": 0.0}, "weight_clip=0.0: give more than 0"),
        ({"max_grad_norm": -1.0}, "max_grad_norm=-1.0: give more than 0"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        GAN(**options)


def test_networks_that_do_not_fit():
    with pytest.raises(ValueError, match="MLPDiscriminator has no latent_dim"):
        GAN(generator=MLPDiscriminator, spec=TensorSpec(2, 1)).configure_model()
    with pytest.raises(ValueError, match=r"GAN calls network\(shape=...\), but MLP takes"):
        GAN(discriminator=MLP, spec=TensorSpec(2, 1)).configure_model()
    with pytest.raises(ValueError, match="y is given, but conditional=False"):
        gan(spec=TensorSpec(2, 3)).sample(1, torch.zeros(1, dtype=torch.long))


def test_it_learns_where_the_data_lies(tmp_path):
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([3.0, -2.0]) + 0.5 * x
    linear = partial(MLPGenerator, latent_dim=2, hidden_channels=())
    fast = partial(torch.optim.Adam, lr=0.02, betas=(0.5, 0.9))
    objective = partial(
        GAN, linear, partial(MLPDiscriminator, hidden_channels=(32,)), fast, fast, loss=HingeLoss
    )
    case = Case(objective, lambda: Given(x, batch_size=32))
    done = run(case, tmp_path, max_epochs=20, limit_val_batches=0)
    mean = done.objective.sample(2000).detach().mean(0)
    torch.testing.assert_close(mean, torch.tensor([3.0, -2.0]), atol=0.6, rtol=0)
