"""Deep Q-learning against loops over single transitions, and what it learns, saves and resumes."""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import environment_cases
import pytest
import torch
import torch.nn.functional as F
from learning_cases import Case, Kill, Run, assert_equal_weights, quiet_trainer, run
from off_policy_cases import Keep
from torch import Tensor, nn

import trellis
from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.rl.dqn import DQN
from trellis.networks.rl.value import QNetwork
from trellis.optim.schedule import Schedule

adam = partial(torch.optim.Adam, lr=0.01)
small = partial(QNetwork, hidden_channels=(16,))
agent = partial(DQN, network=small, optimizer=adam, target_period=3)
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "double": ({"double": True, "loss": "huber"}, {}),
    "rainbow": (
        {"double": True, "n_step": 3, "network": partial(small, dueling=True)},
        {"priority": 0.6},
    ),
}


def replay(environment: str = "TestClock-v0", **options: Any) -> EnvironmentReplay:
    defaults = {
        "num_envs": 2, "num_steps": 4, "num_updates": 2, "total_steps": 40 + 8 * 8,
        "learning_starts": 40, "capacity": 60, "batch_size": 16, "num_val_episodes": 2,
        "num_test_episodes": 2, "options": {"length": 2} if "Clock" in environment else None,
    }  # fmt: skip
    return EnvironmentReplay(environment, **{**defaults, **options})


def fit(objective: partial, root: Path, data: Any = replay, **options: Any) -> Run:
    return run(
        Case(objective, data), root, **{"val_check_interval": 2, "max_epochs": 9, **options}
    )


def loss_by_loops(
    net: nn.Module, target: nn.Module, batch: Any, weights: Tensor, double: bool, huber: bool
) -> tuple[Tensor, list[float]]:
    total, errors = torch.zeros(()), []
    for i, weight in enumerate(weights.tolist()):
        after = batch.next_observations[i][None]
        best = (net if double else target)(after)[0].argmax()
        goal = batch.rewards[i].item()
        if not batch.terminated[i]:
            goal += batch.discounts[i].item() * target(after)[0, best].item()
        error = net(batch.observations[i][None])[0, batch.actions[i]] - goal
        errors.append(error.item())
        far = huber and abs(error.item()) > 1
        total = total + weight * (error.abs() - 0.5 if far else error.square() / (1 + huber))
    return total / len(weights), errors


@pytest.mark.parametrize("kind", KINDS)
def test_updates_by_loops(kind: str, tmp_path: Path) -> None:
    options, of_data = KINDS[kind]
    slow = partial(torch.optim.SGD, lr=0.05)
    objective = partial(agent, optimizer=slow, **options, tau=0.5, target_period=3)
    data = Keep(
        "TestClock-v0", 2, 4, 2, 64, 40, 60, 16, options={"length": 1}, num_val_episodes=1,
        **of_data,
    )  # fmt: skip
    done = fit(objective, tmp_path, lambda: data)
    assert done.error is None
    net, target = data.networks["network"], data.networks["target"]
    for number, (batch, weights, _) in enumerate(data.made, 1):
        assert batch.terminated.any()
        optimizer = slow(net.parameters())
        loss, errors = loss_by_loops(
            net, target, batch, weights, bool(options), options.get("loss") == "huber"
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 3 == 0:
            for old, new in zip(target.parameters(), net.parameters(), strict=True):
                old.data = (old + new.data) / 2
        if of_data:
            sizes = torch.tensor(errors).abs()
            torch.testing.assert_close(data.told[number - 1], sizes, atol=1e-4, rtol=1e-4)
    assert number == 6
    for found, expected in ((done.objective.network, net), (done.objective.target, target)):
        for one, other in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one.detach(), other.detach(), atol=1e-5, rtol=1e-4)
    assert len(data.told) == (6 if of_data else 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_learns_what_to_answer_and_not_without_a_rate(kind: str, tmp_path: Path) -> None:
    options, of_data = KINDS[kind]
    data = partial(
        replay, "TestGuess-v0", num_envs=4, total_steps=1400, num_updates=4, capacity=1000,
        num_val_episodes=20, **of_data,
    )  # fmt: skip
    done = fit(partial(agent, **options), tmp_path, data, val_check_interval=1.0)
    assert done.error is None
    assert done.recorder.metrics[-1]["val/return"] == 1.0
    torch.testing.assert_close(done.objective(torch.arange(3)), torch.eye(3), atol=0.2, rtol=0.0)
    still = partial(agent, **{**options, "optimizer": partial(torch.optim.Adam, lr=0.0)})
    done = fit(still, tmp_path, partial(data, total_steps=200), val_check_interval=1.0)
    assert done.recorder.metrics[-1]["val/return"] < 0.8


@pytest.mark.long
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(("terminates", "value"), [(False, 2.0), (True, (1.75 + 1.5 + 1) / 3)])
def test_a_time_limit_keeps_the_value(
    terminates: bool, value: float, n_step: int, tmp_path: Path
) -> None:
    """With gamma 1/2: 1 + 1/2 + ... = 2 forever, or less where an end cuts the bootstrap."""
    table = partial(QNetwork, hidden_channels=())
    data = partial(
        replay, "TestSteady-v0", total_steps=2000, options={"terminates": terminates},
        num_updates=2, batch_size=64, capacity=2000,
    )  # fmt: skip
    objective = partial(
        agent, network=table, gamma=0.5, n_step=n_step, target_period=1, loss="mse",
        optimizer=partial(torch.optim.SGD, lr=0.05),
    )  # fmt: skip
    done = fit(objective, tmp_path, data, val_check_interval=1.0)
    assert done.error is None
    if terminates and n_step == 1:
        # One state: V = 1 + 2/3 V / 2, for a third of the steps are the last.
        value = 1.5
    assert done.objective(torch.tensor([0])).mean().item() == pytest.approx(value, abs=0.12)


def test_exploration_falls_in_a_straight_line() -> None:
    data = replay("TestGuess-v0")
    data.setup("fit")
    objective = agent(spec=data.spec, epsilon=0.1, exploration=0.5)
    objective.configure_model()
    torch.manual_seed(0)
    states = torch.zeros(20_000, dtype=torch.long)
    best = objective.act(states[:1], deterministic=True)
    # A third of the random actions happen to be the best one.
    for progress, epsilon in ((0.0, 1.0), (0.25, 0.55), (0.5, 0.1), (1.0, 0.1)):
        other = (objective.explore(states, progress) != best).float().mean().item()
        assert other == pytest.approx(epsilon * 2 / 3, abs=0.015)
    assert (objective.act(states) != best).float().mean().item() == pytest.approx(0.067, abs=0.01)
    objective = agent(spec=data.spec, epsilon=0.1, exploration=0.0)
    objective.configure_model()
    assert (objective.explore(states, 0.0) == best).float().mean() > 0.0


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request: Any, tmp_path_factory: Any) -> tuple[partial, Any, Run]:
    options, of_data = KINDS[request.param]
    scheduled = partial(Schedule, decay="linear")
    objective = partial(agent, **options, lr_scheduler=scheduled)
    data = partial(replay, **of_data)
    return objective, data, fit(objective, tmp_path_factory.mktemp("whole"), data)


# With validations after each second of eight.
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
    ((one,), (other,)) = (done.trainer.lr_scheduler_configs for done in (whole, resumed))
    assert one.scheduler.get_last_lr() == other.scheduler.get_last_lr() == [0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_larger_blocks_do_the_same(kind: str, tmp_path: Path) -> None:
    options, of_data = KINDS[kind]
    small_ones = fit(partial(agent, **options), tmp_path, partial(replay, **of_data))
    data = partial(replay, num_steps=16, num_updates=8, **of_data)
    large = fit(partial(agent, **options), tmp_path, data)
    assert (small_ones.trainer.global_step, large.trainer.global_step) == (8, 2)
    assert_equal_weights(small_ones, large)


@pytest.mark.long
def test_a_checkpoint_plays_as_in_training(tmp_path: Path) -> None:
    data = partial(replay, "CartPole-v1", options=None)
    done = fit(agent, tmp_path, data)
    loaded = trellis.load(done.last)
    (result,) = quiet_trainer(tmp_path).validate(loaded, datamodule=data(), verbose=False)
    assert result["val/return"] == done.recorder.metrics[-1]["val/return"]
    with pytest.raises(ValueError, match="environment: 'CartPole-v1' != 'TestClock-v0'"):
        quiet_trainer(tmp_path).validate(trellis.load(done.last), datamodule=replay())


def test_an_environment_that_raises_leaves_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    broken = partial(replay, options={"length": 2, "fail": 40})
    stopped = fit(agent, tmp_path, broken)
    assert isinstance(stopped.error, RuntimeError)
    assert "the clock stands still" in str(stopped.error)
    saved = torch.load(stopped.last, weights_only=True)
    assert 0 < saved["global_step"] < 8
    monkeypatch.setattr(environment_cases.Clock, "broken", False)
    whole = fit(agent, tmp_path, broken)
    assert_equal_weights(whole, fit(agent, tmp_path, broken, seed=99, ckpt_path=stopped.last))


def test_defaults_are_those_of_cleanrl() -> None:
    """Huang et al. 2022 (CleanRL), dqn.py, whose CartPole is the published row of the ledger.

    Its target network follows every 500 steps, one update in ten: every 50 updates.
    """
    published = {
        "gamma": 0.99,
        "n_step": 1,
        "double": False,
        "target_period": 50,
        "tau": 1.0,
        "epsilon": 0.05,
        "exploration": 0.5,
        "loss": "mse",
        "max_grad_norm": None,
    }
    defaults = inspect.signature(DQN).parameters
    assert {name: defaults[name].default for name in published} == published
    replay = inspect.signature(EnvironmentReplay).parameters
    data = {"total_steps": 500_000, "batch_size": 128, "num_envs": 1, "priority": None}
    assert {name: replay[name].default for name in data} == data


def test_rewards_beyond_numbers_name_the_network(tmp_path: Path) -> None:
    done = fit(partial(agent, optimizer=partial(torch.optim.SGD, lr=1e30)), tmp_path)
    assert "network" in str(done.error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gamma": 1.1}, "gamma=1.1"),
        ({"n_step": 0}, "n_step=0: give at least 1"),
        ({"target_period": 0}, "target_period=0: give at least 1"),
        ({"tau": 2.0}, "tau=2.0"),
        ({"epsilon": -0.1}, "epsilon=-0.1"),
        ({"exploration": 1.1}, "exploration=1.1"),
        ({"loss": "mae"}, "loss='mae': choose from mse, huber"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
    ],
)
def test_bad_numbers(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DQN(**options)


def test_real_actions_are_not_for_it(tmp_path: Path) -> None:
    done = fit(agent, tmp_path, partial(replay, "TestAim-v0"))
    assert isinstance(done.error, ValueError)
    assert "DQN learns discrete actions; those of TestAim-v0 are real-valued: take DDPG" in str(
        done.error
    )


def test_the_loss_is_torchs(tmp_path: Path) -> None:
    """Weights and reduction aside, both losses are torch's own."""
    values, targets = torch.randn(2, 9) * 3
    for name, function in (("mse", F.mse_loss), ("huber", F.huber_loss)):
        torch.testing.assert_close(
            DQN(loss=name).error_loss(values, targets), function(values, targets)
        )
