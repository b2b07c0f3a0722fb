"""Agents with real-valued actions: what they learn, count, save, resume and refuse."""

from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import environment_cases
import pytest
import torch
from learning_cases import Kill, Run, assert_equal_weights, quiet_trainer
from off_policy_cases import HIGH, KINDS, LOW, adam, critic, fit, kept, replay, squashed
from torch import Tensor, nn

import trellis
from trellis.lightning_modules import cli
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.rl.agent import AgentObjective
from trellis.lightning_modules.rl.off_policy import add_action_noise, minimum_value
from trellis.optim.schedule import Schedule
from trellis.rl.running_scale import RunningScale
from trellis.spec import EnvironmentSpec

still = partial(torch.optim.Adam, lr=0.0)
aim = partial(
    replay, "TestAim-v0", num_updates=16, num_steps=8, total_steps=440, learning_starts=200,
    capacity=500, batch_size=32, num_val_episodes=40,
)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_learns_where_to_aim_and_not_without_a_rate(kind: str, tmp_path: Path) -> None:
    """Always 0 scores -1/12 and always the best 0."""
    quick = partial(torch.optim.Adam, lr=0.02)
    objective = partial(KINDS[kind], optimizer=quick, critic_optimizer=quick)
    done = fit(objective, tmp_path, aim, val_check_interval=1.0)
    assert done.error is None
    assert done.recorder.metrics[-1]["val/return"] > -0.025
    (middle,) = done.objective.act(torch.tensor([[0.8]]), deterministic=True)
    assert middle.item() == pytest.approx(0.4, abs=0.2)
    short = partial(aim, num_updates=1, total_steps=250)
    done = fit(partial(KINDS[kind], optimizer=still), tmp_path, short, val_check_interval=1.0)
    assert done.error is None
    assert done.recorder.metrics[-1]["val/return"] < -0.04


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ddpg": ({"n_step": 3}, {}),
    "td3": ({"policy_delay": 3}, {"priority": 0.6}),
    "sac": ({}, {"num_updates": 3}),
}


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request: Any, tmp_path_factory: Any) -> tuple[partial, Any, Run]:
    options, of_data = OPTIONS[request.param]
    linear = partial(Schedule, decay="linear")
    objective = partial(KINDS[request.param], lr_scheduler=linear, **options)
    data = partial(replay, **of_data)
    return objective, data, fit(objective, tmp_path_factory.mktemp("whole"), data)


# With validations after each second of eight; the policy of TD3 waits for every third update.
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_stopped_and_resumed_is_uninterrupted(
    uninterrupted: tuple[partial, Any, Run], batch: int, tmp_path: Path
) -> None:
    objective, data, whole = uninterrupted
    assert whole.error is None
    stopped = fit(objective, tmp_path, data, callbacks=[Kill(batch)])
    assert len(stopped.recorder.batches) == batch + 1
    resumed = fit(objective, tmp_path, data, seed=99, ckpt_path=stopped.last)
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    assert resumed.trainer.global_step == whole.trainer.global_step == 8
    missed = whole.recorder.batches[batch + 1 :]
    assert all(map(torch.equal, missed, resumed.recorder.batches))
    for one, other in zip(whole.trainer.optimizers, resumed.trainer.optimizers, strict=True):
        pairs = zip(one.state.values(), other.state.values(), strict=True)
        assert all(torch.equal(a[key], b[key]) for a, b in pairs for key in a)
    assert len(whole.trainer.lr_scheduler_configs) == len(whole.trainer.optimizers)
    for config in resumed.trainer.lr_scheduler_configs:
        assert config.scheduler.get_last_lr() == [0.0]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_plays_as_in_training(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaled = KINDS[kind].keywords["policy"]
    scaled = partial(KINDS[kind], policy=partial(scaled, trunk=RunningScale(3)))
    brief = {"max_episode_steps": 30}
    data = partial(replay, "Pendulum-v1", num_test_episodes=3, options=brief)
    done = fit(scaled, tmp_path, data)
    loaded = trellis.load(done.last, policy=scaled.keywords["policy"])
    assert loaded.spec == EnvironmentSpec(
        "Pendulum-v1", (3,), action_low=(-2.0,), action_high=(2.0,)
    )
    assert loaded.policy.features.front.count > 0
    (result,) = quiet_trainer(tmp_path).validate(loaded, datamodule=data(), verbose=False)
    assert result["val/return"] == done.recorder.metrics[-1]["val/return"]

    done = fit(KINDS[kind], tmp_path, data)
    loaded = trellis.load(done.last)
    (result,) = quiet_trainer(tmp_path).test(loaded, datamodule=data(), verbose=False)
    capsys.readouterr()
    cli.main(["play", str(done.last), "--episodes=3"])
    assert f"Pendulum-v1: return {result['test/return']:.4g} +- " in capsys.readouterr().out
    with pytest.raises(ValueError, match="environment: 'Pendulum-v1' != 'TestLever-v0'"):
        quiet_trainer(tmp_path).validate(loaded, datamodule=replay())


def test_noise_is_measured_in_halves_of_the_range() -> None:
    torch.manual_seed(0)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    middle = ((low + high) / 2).expand(100_000, 2)
    noisy = add_action_noise(middle, low, high, noise=0.1)
    torch.testing.assert_close(noisy.mean(0), middle[0], atol=0.002, rtol=0.0)
    torch.testing.assert_close(noisy.std(0), torch.tensor([0.2, 0.025]), atol=0.0, rtol=0.02)
    limited = (add_action_noise(middle, low, high, noise=0.4, limit=0.5) - middle).abs()
    assert torch.equal(limited.amax(0), torch.tensor([1.0, 0.125]))
    assert (limited == limited.amax(0)).float().mean().item() == pytest.approx(0.211, abs=0.01)
    cut = add_action_noise(middle, low, high, noise=2.0)
    assert torch.equal(cut.amin(0), low)
    assert torch.equal(cut.amax(0), high)


@pytest.mark.parametrize("kind", KINDS)
def test_stored_actions_lie_between_the_bounds(kind: str, tmp_path: Path) -> None:
    """The environment itself breaks outside of them."""
    data = kept()
    loud = {} if kind == "sac" else {"noise": 5.0}
    done = fit(partial(KINDS[kind], **loud), tmp_path, lambda: data)
    assert done.error is None
    actions = torch.cat([batch.transitions.actions for batch in data.made])
    least, most = actions.amin(0), actions.amax(0)
    assert (least >= torch.tensor(LOW)).all()
    assert (most <= torch.tensor(HIGH)).all()
    assert ((most - least) > 0.8 * (torch.tensor(HIGH) - torch.tensor(LOW))).all()
    if loud:
        assert (actions == torch.tensor(LOW)).any()
        assert (actions == torch.tensor(HIGH)).any()
        objective, seen = done.objective, torch.zeros(500, 3)
        quiet = objective.act(seen, deterministic=True)
        assert torch.equal(quiet, objective.policy(seen))
        assert objective.act(seen).std(0).min() > 0.1
        assert objective.explore(seen, 1.0).std(0).min() > 0.1


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_critics_share_nothing() -> None:
    """Not even a trunk that was given to both."""
    trunk = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    for kind in ("td3", "sac"):
        data = replay()
        data.setup("fit")
        objective = KINDS[kind](critic=partial(critic, trunk=trunk), spec=data.spec)
        objective.configure_model()
        assert all(part.training for part in objective.modules())  # what was tried goes on
        one, two = (list(each.parameters()) for each in objective.critics)
        assert len({id(parameter) for parameter in one + two}) == len(one) + len(two) == 12
        assert not torch.equal(one[-2], two[-2])


def weigh(monkeypatch: pytest.MonkeyPatch, policy: float, critic: float) -> None:
    """Multiply the losses of the agent's networks by a factor each."""
    descend = AgentObjective.descend

    def weighed(objective: Any, optimizers: Any, losses: Any, *inputs: Any) -> Any:
        factor = critic if losses == objective._critic_losses else policy

        def heavier(*inputs: Any) -> dict[str, torch.Tensor]:
            values = losses(*inputs)
            part = values.get("policy_loss", values["loss"])  # without that of the temperature
            return values | {"loss": values["loss"] + (factor - 1) * part}

        return descend(objective, optimizers, heavier, *inputs)

    monkeypatch.setattr(AgentObjective, "descend", weighed)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_to_whom_they_are_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that does not move changes no critic, whatever its loss is."""
    runs = []
    for factor, rate in ((1.0, still), (50.0, still), (50.0, adam)):
        weigh(monkeypatch, policy=factor, critic=1.0)
        runs.append(fit(partial(KINDS[kind], optimizer=rate), tmp_path))
        monkeypatch.undo()
        assert runs[-1].error is None
    assert_equal_weights(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_equal_weights(runs[0], runs[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["policy", "critic"])
def test_gradients_beyond_numbers_name_the_network(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other: what the policy climbs gets no gradient from it."""
    weigh(monkeypatch, **{"policy": 1.0, "critic": 1.0, name: float("inf")})
    done = fit(KINDS[kind], tmp_path)
    assert isinstance(done.error, FloatingPointError)
    assert f"step 0: the gradient is not finite in {name}" in str(done.error)
    assert {"policy": "critic", "critic": "policy"}[name] not in str(done.error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_that_raises_leaves_the_state_before_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    broken = partial(replay, options={"length": 2, "fail": 40})
    stopped = fit(KINDS[kind], tmp_path, broken)
    assert isinstance(stopped.error, RuntimeError)
    assert 0 < torch.load(stopped.last, weights_only=True)["global_step"] < 8
    monkeypatch.setattr(environment_cases.Clock, "broken", False)
    whole = fit(KINDS[kind], tmp_path, broken)
    assert_equal_weights(
        whole, fit(KINDS[kind], tmp_path, broken, seed=99, ckpt_path=stopped.last)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ("CartPole-v1", "those of CartPole-v1 are discrete: take DQN or PPO"),
        (
            "TestFree-v0",
            "learns actions between bounds; those of TestFree-v0 reach from (-inf",
        ),
    ],
)
def test_actions_that_do_not_fit(kind: str, environment: str, words: str, tmp_path: Path) -> None:
    done = fit(KINDS[kind], tmp_path, partial(replay, environment))
    assert isinstance(done.error, ValueError)
    assert words in str(done.error)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(KINDS["ddpg"], policy=squashed), "take a DeterministicPolicy"),
        (partial(KINDS["td3"], policy=squashed), "returns a SquashedGaussian: take a Determi"),
        (
            partial(KINDS["sac"], policy=KINDS["ddpg"].keywords["policy"]),
            "SAC samples its actions; DeterministicPolicy returns a Tensor: take a SquashedGau",
        ),
        (partial(KINDS["ddpg"], policy=critic), "DDPG calls network(observation_shape=..., num"),
        (partial(KINDS["sac"], critic=squashed), "action_dim=...)"),
    ],
)
def test_networks_that_do_not_fit(make: partial, words: str, tmp_path: Path) -> None:
    error = fit(make, tmp_path).error
    assert isinstance(error, ValueError)
    assert words in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_is_the_objectives_business(kind: str, tmp_path: Path) -> None:
    error = str(fit(KINDS[kind], tmp_path, gradient_clip_val=1.0).error)
    assert "give the model max_grad_norm=1.0 instead" in error
    slow = partial(torch.optim.SGD, lr=1.0)
    rates = {"optimizer": slow, "critic_optimizer": still, "max_grad_norm": 1e-3}
    data = partial(replay, num_updates=1, total_steps=48)
    once: Any = partial(fit, root=tmp_path, data=data, val_check_interval=1.0)
    done = once(partial(KINDS[kind], **rates))
    assert done.error is None
    begun = once(partial(KINDS[kind], **{**rates, "optimizer": still}))
    flat = nn.utils.parameters_to_vector
    way = flat(done.objective.policy.parameters()) - flat(begun.objective.policy.parameters())
    assert way.norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": 1.1}, "gamma=1.1"),
        ({"n_step": 0}, "n_step=0: give at least 1"),
        ({"tau": 2.0}, "tau=2.0"),
        ({"noise": -0.1}, "noise=-0.1: give at least 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"target_noise": -0.1}, "target_noise=-0.1"),
        ({"target_noise_clip": 0.0}, "target_noise_clip=0.0"),
        ({"policy_delay": 0}, "policy_delay=0: give at least 1"),
        ({"alpha": 0.0}, "alpha=0.0: give more than 0, or leave it out"),
    ],
)
def test_bad_numbers(kind: str, options: dict[str, Any], words: str) -> None:
    make = KINDS[kind].func
    if not options.keys() <= signature(make).parameters.keys():
        return
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_both_networks_learn_by_rates_of_their_own(tmp_path: Path) -> None:
    for kind in KINDS:
        done = fit(partial(KINDS[kind], critic_optimizer=partial(adam, lr=0.003)), tmp_path)
        rates = [each.param_groups[0]["lr"] for each in done.trainer.optimizers]
        assert rates == [0.01, 0.003, 0.01][: len(rates)]
        assert done.trainer.global_step == 8


class Linear(nn.Module):
    """A critic whose value is the first entry of the action times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.factor * actions[:, 0]


def test_the_least_value_of_each_action() -> None:
    """Of each by itself: one critic is the least of positive actions, another of negative."""
    actions, seen = torch.tensor([[1.0, 9.0], [-1.0, 9.0], [2.0, 9.0]]), torch.zeros(3, 1)
    critics = [Linear(1.0), Linear(2.0), Linear(3.0)]
    assert minimum_value(critics, seen, actions).tolist() == [1.0, -3.0, 2.0]
    assert minimum_value(critics[1:2], seen, actions).tolist() == [2.0, -2.0, 4.0]
