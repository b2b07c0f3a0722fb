"""Agents that learn from rollouts of their own: what they learn, count, log, save and resume."""

import inspect
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import environment_cases
import lightning as L
import pytest
import torch
from learning_cases import Case, Kill, Run, assert_equal_weights, quiet_trainer, run
from rollout_cases import GAMMA, LAM, advantages
from torch import Tensor, nn

import trellis
from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.rl import reinforce
from trellis.lightning_modules.rl.a2c import A2C
from trellis.lightning_modules.rl.agent import AgentObjective
from trellis.lightning_modules.rl.ppo import PPO
from trellis.lightning_modules.rl.reinforce import REINFORCE
from trellis.lightning_modules.rl.trpo import TRPO
from trellis.networks.rl.policy import CategoricalPolicy, GaussianPolicy
from trellis.networks.rl.value import ActorCriticNetwork
from trellis.optim.schedule import Schedule
from trellis.rl.collector import Rollout
from trellis.rl.reward_scale import RewardScale
from trellis.spec import EnvironmentSpec

adam = partial(torch.optim.Adam, lr=0.02)
linear = partial(Schedule, decay="linear")
small = partial(ActorCriticNetwork, hidden_channels=(8,))
learning: dict[str, Any] = {"optimizer": adam, "lr_scheduler": linear}
KINDS: dict[str, Any] = {
    "ppo": partial(PPO, network=small, num_minibatches=3, **learning),
    "a2c": partial(A2C, network=small, standardize=True, **learning),
    "trpo": partial(
        TRPO,
        network=small,
        max_kl=0.1,
        fisher_share=0.5,
        num_epochs=3,
        num_minibatches=2,
        **learning,
    ),  # fmt: skip
    "reinforce": partial(
        REINFORCE, network=partial(CategoricalPolicy, hidden_channels=(8,)), **learning
    ),
}
ACTOR_CRITICS = ["ppo", "a2c", "trpo"]


def rollouts(environment: str = "TestClock-v0", **options: Any) -> EnvironmentRollouts:
    defaults = {
        "num_envs": 3, "num_steps": 16, "total_steps": 48 * 8, "num_val_episodes": 2,
        "num_test_episodes": 2, "options": {"length": 2} if "Clock" in environment else None,
    }  # fmt: skip
    return EnvironmentRollouts(environment, **{**defaults, **options})


def fit(objective: partial, root: Path, data: Any = rollouts, **options: Any) -> Run:
    return run(
        Case(objective, data), root, **{"val_check_interval": 2, "max_epochs": 9, **options}
    )


def reached(done: Run) -> float:
    assert done.error is None
    return done.recorder.metrics[-1]["val/return"]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_learns_what_to_answer_and_not_without_a_rate(kind: str, tmp_path: Path) -> None:
    data = partial(
        rollouts, "TestGuess-v0", num_envs=8, total_steps=8 * 16 * 24, num_val_episodes=20
    )
    assert reached(fit(KINDS[kind], tmp_path, data, val_check_interval=1.0)) == 1.0
    # The policy of TRPO has no rate, but a length.
    rest = {"max_kl": 1e-12} if kind == "trpo" else {"optimizer": partial(adam, lr=0.0)}
    still, short = partial(KINDS[kind], **rest), partial(data, total_steps=8 * 16 * 3)
    assert reached(fit(still, tmp_path, short, val_check_interval=1.0)) < 0.8


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_learns_where_to_aim(kind: str, tmp_path: Path) -> None:
    network = partial(GaussianPolicy if kind == "reinforce" else ActorCriticNetwork, log_std=-1.0)
    objective = partial(KINDS[kind], network=network)
    data = partial(
        rollouts, "TestAim-v0", num_envs=8, total_steps=8 * 32 * 50, num_steps=32,
        num_val_episodes=40,
    )  # fmt: skip
    done = fit(objective, tmp_path, data, val_check_interval=1.0)
    assert reached(done) > -0.02  # always 0 scores -1/12
    (middle,) = done.objective.act(torch.tensor([[0.8]]), deterministic=True)
    assert middle.item() == pytest.approx(0.4, abs=0.25)


@pytest.mark.long
@pytest.mark.parametrize("kind", ACTOR_CRITICS)
@pytest.mark.parametrize(("terminates", "value"), [(False, 2.0), (True, (1.75 + 1.5 + 1) / 3)])
def test_a_time_limit_keeps_the_value(
    kind: str, terminates: bool, value: float, tmp_path: Path
) -> None:
    """With gamma 1/2: 1 + 1/2 + ... = 2 forever, or the mean over the three steps to an end."""
    table = partial(ActorCriticNetwork, hidden_channels=())
    objective = partial(
        KINDS[kind], network=table, gamma=0.5, optimizer=partial(torch.optim.Adam, lr=0.05)
    )
    if kind != "trpo":
        objective = partial(objective, value_coef=1.0)
    data = partial(
        rollouts, "TestSteady-v0", total_steps=48 * 50, options={"terminates": terminates}
    )
    done = fit(objective, tmp_path, data, val_check_interval=1.0)
    assert done.error is None
    assert done.objective.network.value(torch.tensor([0])).item() == pytest.approx(value, abs=0.05)


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request: Any, tmp_path_factory: Any) -> tuple[partial, Run]:
    objective = KINDS[request.param]
    return objective, fit(objective, tmp_path_factory.mktemp("whole"))


# With validations after each second of eight.
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_stopped_and_resumed_is_uninterrupted(
    uninterrupted: tuple[partial, Run], batch: int, tmp_path: Path
) -> None:
    objective, whole = uninterrupted
    stopped = fit(objective, tmp_path, callbacks=[Kill(batch)])
    assert len(stopped.recorder.batches) == batch + 1
    resumed = fit(objective, tmp_path, seed=99, ckpt_path=stopped.last)
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    assert resumed.trainer.global_step == whole.trainer.global_step == 8
    missed = whole.recorder.batches[batch + 1 :]
    assert all(map(torch.equal, missed, resumed.recorder.batches))
    ((one,), (other,)) = (done.trainer.lr_scheduler_configs for done in (whole, resumed))
    assert one.scheduler.get_last_lr() == other.scheduler.get_last_lr() == [0.0]


class Scaled(ActorCriticNetwork):
    """Its value is that of scaled rewards."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__(hidden_channels=(8,), reward_scale=RewardScale(0.99), **sizes)


class Rich(EnvironmentRollouts):
    """Pays a thousand times as much."""

    def next_batch(self) -> Rollout:
        made = super().next_batch()
        return made._replace(rewards=1000 * made.rewards)


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_the_unit_of_scaled_rewards_does_not_matter(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_envs": 3, "num_steps": 16, "total_steps": 48 * 3}
    rich = partial(Rich, "TestClock-v0", **options, options={"length": 2}, num_val_episodes=2)
    logged = Logged()
    for network, same in ((Scaled, True), (small, False)):
        objective = partial(KINDS[kind], network=network)
        poor = fit(objective, tmp_path, partial(rollouts, **options))
        paid = fit(objective, tmp_path, rich, callbacks=[logged], log_every_n_steps=1)
        assert poor.error is paid.error is None
        weights = [
            torch.cat([p.detach().flatten() for p in done.objective.network.parameters()])
            for done in (poor, paid)
        ]
        assert torch.allclose(*weights, rtol=1e-3, atol=1e-3) == same
    # What is logged is not scaled: the rollout's own returns, at most 1 + 2 + ... + 8.
    assert all(10 < values["train/return"] < 36 for values in logged.values)


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_the_scale_of_rewards_is_resumed(kind: str, tmp_path: Path) -> None:
    objective = partial(KINDS[kind], network=Scaled)
    whole = fit(objective, tmp_path / "whole")
    stopped = fit(objective, tmp_path, callbacks=[Kill(4)])
    saved = torch.load(stopped.last, weights_only=True)["state_dict"]
    assert 48 < saved["network.reward_scale.count"] < 48 * 5  # steps of reset are none
    resumed = fit(objective, tmp_path, seed=99, ckpt_path=stopped.last)
    assert_equal_weights(whole, resumed)
    assert whole.weights["network.reward_scale.sums"].abs().sum() > 0


def test_resumed_from_the_best(tmp_path: Path) -> None:
    whole = fit(KINDS["ppo"], tmp_path)
    # All validations of the clock return the same: the first is the best.
    assert torch.load(whole.best, weights_only=True)["global_step"] == 2
    resumed = fit(KINDS["ppo"], tmp_path, seed=99, ckpt_path=whole.best)
    assert_equal_weights(whole, resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_is_a_step(kind: str, tmp_path: Path) -> None:
    done = fit(KINDS[kind], tmp_path, max_epochs=-1, max_steps=5)
    assert done.trainer.global_step == 5
    assert len(done.recorder.batches) == 5
    (config,) = done.trainer.lr_scheduler_configs
    assert config.scheduler.total_steps == 5
    assert config.scheduler.get_last_lr() == [0.0]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_plays_as_in_training(kind: str, tmp_path: Path) -> None:
    data = partial(rollouts, "CartPole-v1", num_steps=64, total_steps=64 * 3 * 4)
    done = fit(KINDS[kind], tmp_path, data)
    loaded = trellis.load(done.last)
    assert loaded.spec == EnvironmentSpec("CartPole-v1", (4,), num_actions=2)
    (result,) = quiet_trainer(tmp_path).validate(loaded, datamodule=data(), verbose=False)
    assert result["val/return"] == done.recorder.metrics[-1]["val/return"]
    observations = torch.randn(5, 4)
    acted = loaded.act(observations, deterministic=True)
    assert torch.equal(acted, done.objective.act(observations, deterministic=True))
    other = rollouts("TestClock-v0")
    with pytest.raises(ValueError, match="environment: 'CartPole-v1' != 'TestClock-v0'"):
        quiet_trainer(tmp_path).validate(trellis.load(done.last), datamodule=other)
    stranger = fit(KINDS[kind], tmp_path, partial(rollouts, "TestGuess-v0"), ckpt_path=done.last)
    assert stranger.error is not None


class Logged(L.Callback):
    """What was logged after each rollout."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        metrics = trainer.callback_metrics.items()
        self.values.append({key: float(value) for key, value in metrics if "train" in key})


def test_what_is_logged(tmp_path: Path) -> None:
    logged = Logged()
    fit(
        partial(KINDS["ppo"], optimizer=partial(torch.optim.Adam, lr=0.0)), tmp_path,
        callbacks=[logged], log_every_n_steps=1, logger=True,
    )  # fmt: skip
    names = "env_steps return loss policy_loss value_loss entropy kl clipped"
    assert set(logged.values[0]) == {f"train/{name}" for name in names.split()}
    assert [values["train/env_steps"] for values in logged.values] == [48 * i for i in range(1, 9)]
    # A policy that does not move; equal probabilities at first; episodes of 1 + 2 + 3 and so on.
    assert logged.values[0]["train/kl"] == pytest.approx(0, abs=1e-6)
    assert logged.values[0]["train/clipped"] == 0
    assert logged.values[0]["train/entropy"] == pytest.approx(0.693, abs=0.01)
    assert logged.values[0]["train/return"] == pytest.approx((6 + 10 + 15) / 3)


def without_a_trainer(patch: pytest.MonkeyPatch) -> None:
    """Let ``training_step`` compute its losses and do nothing else."""
    patch.setattr(AgentObjective, "step", lambda *_: None)
    patch.setattr(AgentObjective, "one_step", lambda _: nullcontext([None]))
    patch.setattr(AgentObjective, "end_step", lambda *_, **__: None)


# That of TRPO has more than a loss, and is in a test of its own.
@pytest.mark.parametrize("kind", ["ppo", "a2c", "reinforce"])
def test_steps_of_reset_teach_nothing(kind: str) -> None:
    data = rollouts()
    data.trainer = environment_cases.Still()
    data.setup("fit")
    objective = KINDS[kind](spec=data.spec)
    objective.configure_model()
    rollout = next(iter(data.train_dataloader()))
    assert not rollout.mask.all()

    def gradient(actions: Tensor) -> Tensor:
        losses = []
        torch.manual_seed(0)
        with pytest.MonkeyPatch.context() as patch:
            without_a_trainer(patch)
            patch.setattr(AgentObjective, "step", lambda *args: losses.append(args[-1]))
            objective.training_step(rollout._replace(actions=actions), 0)
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(losses[-1], [*objective.parameters()])]
        )

    base = gradient(rollout.actions)
    assert base.abs().max() > 0
    assert torch.equal(base, gradient(rollout.actions.where(rollout.mask, 1 - rollout.actions)))
    assert not torch.equal(base, gradient(1 - rollout.actions))


def test_an_environment_that_raises_leaves_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    broken = partial(rollouts, options={"length": 2, "fail": 40})
    stopped = fit(KINDS["ppo"], tmp_path, broken)
    assert isinstance(stopped.error, RuntimeError)
    assert "OSError in step " in str(stopped.error)
    assert "the clock stands still" in str(stopped.error)
    steps = torch.load(stopped.last, weights_only=True)["global_step"]
    assert 0 < steps < 8
    monkeypatch.setattr(environment_cases.Clock, "broken", False)
    whole = fit(KINDS["ppo"], tmp_path, broken)
    resumed = fit(KINDS["ppo"], tmp_path, broken, seed=99, ckpt_path=stopped.last)
    assert_equal_weights(whole, resumed)


def test_reinforce_leaves_out_what_it_does_not_know() -> None:
    data = rollouts(num_steps=7, options={"length": 3})
    data.trainer = environment_cases.Still()
    data.setup("fit")
    objective = KINDS["reinforce"](spec=data.spec, gamma=0.5, baseline="none")
    objective.configure_model()
    rollout = next(iter(data.train_dataloader()))
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        without_a_trainer(patch)
        patch.setattr(reinforce, "policy_gradient_loss", lambda *both: seen.update(both=both) or 0)
        objective.training_step(rollout, 0)
    # Episodes of four steps in three environments; a step of reset; two more steps, no end.
    log_prob, returns = seen["both"]
    expected = [1 + 2 / 2 + 3 / 4 + 4 / 8, 2 + 3 / 2 + 4 / 4, 3 + 4 / 2, 4]
    assert returns.tolist() == [value for value in expected for _ in range(3)]
    taken = objective(rollout.observations[:4].flatten(0, 1)).log_prob(
        rollout.actions[:4].flatten()
    )
    torch.testing.assert_close(log_prob, taken)


@pytest.mark.parametrize("baseline", ["mean", "none"])
def test_the_loss_of_reinforce_by_hand(baseline: str) -> None:
    data = rollouts(num_steps=7, options={"length": 3})
    data.trainer = environment_cases.Still()
    data.setup("fit")
    objective = KINDS["reinforce"](spec=data.spec, gamma=0.5, baseline=baseline, entropy_coef=0.3)
    objective.configure_model()
    rollout, losses = next(iter(data.train_dataloader())), []
    with pytest.MonkeyPatch.context() as patch:
        without_a_trainer(patch)
        patch.setattr(AgentObjective, "step", lambda *args: losses.append(args[-1]))
        objective.training_step(rollout, 0)
    # Episodes of four steps; what follows them has no end.
    returns = [1 + 2 / 2 + 3 / 4 + 4 / 8, 2 + 3 / 2 + 4 / 4, 3 + 4 / 2, 4]
    expected, known = 0.0, [(t, n) for t in range(4) for n in range(3)]
    for t, n in known:
        policy = objective(rollout.observations[t, n][None])
        advantage = returns[t] - (sum(returns) / 4 if baseline == "mean" else 0)
        entropy = -(policy.probs * policy.logits).sum()
        expected -= advantage * policy.logits[0, rollout.actions[t, n]] + 0.3 * entropy
    torch.testing.assert_close(losses[0], expected / len(known))


def test_what_a_rollout_teaches_by_loops() -> None:
    data = rollouts(num_steps=9, options={"length": 1})
    data.trainer = environment_cases.Still()
    data.setup("fit")
    rollout = next(iter(data.train_dataloader()))
    assert rollout.terminated.any()
    assert rollout.truncated.any()
    assert not rollout.terminated[-1].all()  # the value of what comes next counts
    torch.manual_seed(0)
    network = small(observation_shape=data.spec.observation_shape, num_actions=2)
    objective = PPO(gamma=GAMMA, lam=LAM)
    objective.network = network
    found = objective.evaluate_rollout(rollout)
    worth = sorted(advantages(network, rollout).items())
    assert len(found.actions) == len(worth) < rollout.mask.numel()
    for row, ((t, n), advantage) in enumerate(worth):
        policy, value = network(rollout.observations[t, n][None])
        assert found.actions[row] == rollout.actions[t, n]
        assert torch.equal(found.observations[row], rollout.observations[t, n])
        log_prob = policy.logits[0, rollout.actions[t, n]].item()
        expected = (advantage, advantage + value.item(), value.item(), log_prob)
        assert [float(field[row]) for field in found[2:]] == pytest.approx(expected, abs=1e-5)


# Mnih et al. 2016, section 8, with the weights and the clipping of OpenAI's baselines (a2c.py);
# Williams 1992 has neither, and a mean as baseline is that of Sutton and Barto 2018, section 13.4.
PUBLISHED = {
    A2C: {"gamma": 0.99, "lam": 1.0, "value_coef": 0.5, "entropy_coef": 0.01,
          "max_grad_norm": 0.5, "standardize": False},
    REINFORCE: {"gamma": 0.99, "baseline": "mean", "entropy_coef": 0.0, "max_grad_norm": None},
}  # fmt: skip


@pytest.mark.parametrize("kind", PUBLISHED)
def test_defaults_are_the_published_ones(kind: type[AgentObjective]) -> None:
    defaults = inspect.signature(kind).parameters
    assert {name: defaults[name].default for name in PUBLISHED[kind]} == PUBLISHED[kind]
    optimizer = torch.optim.RMSprop if kind is A2C else torch.optim.Adam
    assert defaults["optimizer"].default is optimizer


def test_reinforce_needs_an_end(tmp_path: Path) -> None:
    data = partial(rollouts, options={"length": 30})
    done = fit(KINDS["reinforce"], tmp_path, data)
    assert isinstance(done.error, ValueError)
    assert "no episode ends within num_steps=16" in str(done.error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"gradient_clip_val": 1.0}, "give the model max_grad_norm=1.0"),
        ({"accumulate_grad_batches": 2}, "give the data a larger batch_size or num_steps"),
    ],
)
def test_options_of_the_trainer_that_do_not_fit(
    kind: str, option: dict[str, Any], words: str, tmp_path: Path
) -> None:
    if kind == "trpo" and "max_grad_norm" in words:  # its policy has another measure of length
        words = "TRPO makes its own steps"
    assert words in str(fit(KINDS[kind], tmp_path, **option).error)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(PPO, num_epochs=0), "num_epochs=0"),
        (partial(PPO, clip=0.0), "clip=0.0: give more than 0"),
        (partial(PPO, lam=1.5), "lam=1.5"),
        (partial(PPO, entropy_coef=-1.0), "entropy_coef=-1.0"),
        (partial(A2C, gamma=-1.0), "gamma=-1.0"),
        (partial(A2C, value_coef=-1.0), "value_coef=-1.0"),
        (partial(A2C, max_grad_norm=0.0), "max_grad_norm=0.0"),
        (partial(REINFORCE, baseline="median"), "baseline='median': choose from mean, none"),
    ],
)
def test_bad_numbers(make: partial, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_networks_that_do_not_fit(tmp_path: Path) -> None:
    wrong = partial(REINFORCE, CategoricalPolicy, adam)
    error = str(fit(wrong, tmp_path, partial(rollouts, "TestAim-v0")).error)
    assert "calls network(observation_shape=..., num_observations=..., action_dim=...)" in error


def test_the_sums_of_scaled_rewards_start_anew_after_a_time_limit() -> None:
    """As after a terminal state: the next episode owes nothing to the one before."""
    rewards, no = torch.ones(6, 2), torch.zeros(6, 2, dtype=torch.bool)
    terminated, truncated, mask = no.clone(), no.clone(), ~no
    terminated[2, 0] = truncated[2, 1] = True
    mask[3] = False  # the step that resets
    rewards[3] = 0.0
    rollout = Rollout(
        torch.zeros(7, 2, 3), torch.zeros(6, 2), rewards, terminated, truncated, mask,
        torch.zeros(0), torch.tensor(12),
    )  # fmt: skip
    network = nn.ModuleDict({"scale": RewardScale(0.5)})
    agent = A2C()
    agent.network = network
    scaled = agent.scale_rewards(rollout)
    # 1, 3/2, 7/4, then 1 and 3/2 again, in both environments.
    sums = torch.tensor([1.0, 1.5, 1.75, 1.0, 1.5]).repeat(2)
    scale = network["scale"]
    assert int(scale.count) == 10
    torch.testing.assert_close(scale.mean, sums.mean())
    torch.testing.assert_close(scale.var, sums.var(correction=0))
    torch.testing.assert_close(scaled.rewards, rewards / (scale.var + 1e-8).sqrt())
    assert torch.equal(scale.sums, torch.tensor([1.5, 1.5]))
