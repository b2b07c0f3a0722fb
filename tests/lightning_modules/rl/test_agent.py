"""What all agents promise: fresh experience, data that fit, one discount, a run that ends."""

import copy
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import environment_cases  # noqa: F401 - registers environments
import lightning as L
import pytest
import torch
from learning_cases import Case, Run, assert_equal_weights, run
from torch import Tensor, nn
from torch.distributions import Categorical

from trellis.datamodules.rl import EnvironmentReplay, EnvironmentRollouts
from trellis.datamodules.rl.environment_data import Agent
from trellis.lightning_modules import cli, rl
from trellis.lightning_modules.rl.agent import AgentObjective
from trellis.lightning_modules.rl.dqn import DQN
from trellis.lightning_modules.rl.ppo import PPO
from trellis.networks.rl.policy import (
    CategoricalPolicy,
    DeterministicPolicy,
    SquashedGaussianPolicy,
)
from trellis.networks.rl.value import ActorCriticNetwork, QNetwork, StateActionValue
from trellis.rl.distribution import SquashedGaussian
from trellis.rl.reward_scale import RewardScale
from trellis.rl.running_scale import RunningScale
from trellis.spec import EnvironmentSpec

adam = partial(torch.optim.Adam, lr=0.02)
actor_critic = partial(ActorCriticNetwork, hidden_channels=(4,))
ppo = partial(PPO, actor_critic, adam)
dqn = partial(DQN, partial(QNetwork, hidden_channels=(4,)), adam)
clock: dict[str, Any] = {
    "environment": "TestClock-v0", "options": {"length": 2}, "num_val_episodes": 1,
}  # fmt: skip
rollouts = partial(EnvironmentRollouts, num_envs=2, num_steps=8, total_steps=16 * 5, **clock)
replay = partial(
    EnvironmentReplay, num_steps=4, num_updates=2, total_steps=20 + 4 * 5, learning_starts=20,
    batch_size=8, **clock,
)  # fmt: skip


def fit(objective: partial, data: Any, root: Path, **options: Any) -> Run:
    return run(
        Case(objective, data), root, **{"val_check_interval": 2, "max_epochs": 3, **options}
    )


def weights_of(agent: Any) -> Tensor:
    return nn.utils.parameters_to_vector(agent.network.parameters()).detach().clone()


class Watch(L.Callback):
    """Notes the weights before each update; ``acting`` are those of each act in training."""

    def __init__(self) -> None:
        self.current: list[Tensor] = []
        self.acting: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.current.append(weights_of(module))


def watched(objective: partial, data: Any, root: Path, method: str, epochs: int = 3) -> Watch:
    """A run whose agent notes its weights each time it acts in training."""
    watch, act = Watch(), getattr(objective.func, method)

    def noted(self: Any, *args: Any, **options: Any) -> Tensor:
        if not options.get("deterministic"):
            watch.acting.append(weights_of(self))
        return act(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective.func, method, noted)
        done = fit(objective, data, root, callbacks=[watch], max_epochs=epochs)
    assert done.error is None
    assert len(watch.current) == 5
    return watch


class Unsized(EnvironmentRollouts):
    """Rollouts from a loader that does not know its length."""

    def train_dataloader(self) -> Any:
        batches = super().train_dataloader()

        class Stream:
            def __iter__(self) -> Iterator[Any]:
                return iter(batches)

        return Stream()


def test_rollouts_are_those_of_the_current_policy(tmp_path: Path) -> None:
    """Eight steps each by the weights that the update begins with, after four updates too."""
    watch = watched(ppo, rollouts, tmp_path, "act")
    assert len(watch.acting) == 8 * 5
    for step, acting in enumerate(watch.acting):
        assert torch.equal(acting, watch.current[step // 8])
    assert not torch.equal(watch.current[0], watch.current[1])


def test_without_a_length_rollouts_would_be_stale(tmp_path: Path) -> None:
    """The negative control: Lightning fetches one batch in advance to find the last one."""
    data = partial(Unsized, num_envs=2, num_steps=8, total_steps=16 * 5, **clock)
    watch = watched(ppo, data, tmp_path, "act", epochs=1)
    stale = [
        not torch.equal(acting, watch.current[step // 8])
        for step, acting in enumerate(watch.acting)
    ]
    assert any(stale), "Lightning no longer fetches in advance: rollouts need no length any more"


def test_replay_is_filled_by_the_current_policy(tmp_path: Path) -> None:
    """Two steps before each of two updates of a block, so its third acts after an update."""
    watch = watched(dqn, replay, tmp_path, "explore")
    assert len(watch.acting) == 4 * 5
    for block, current in enumerate(watch.current):
        first, second, third, fourth = watch.acting[4 * block : 4 * block + 4]
        assert torch.equal(first, current)
        assert torch.equal(second, current)
        assert torch.equal(third, fourth)
        assert not torch.equal(third, current)


@pytest.mark.parametrize("name", rl.__all__)
def test_every_agent_fits_the_protocol_of_its_data(name: str) -> None:
    """The two rooms do not import each other: this is where they agree."""
    kind = getattr(rl, name)
    discrete = EnvironmentSpec("X-v0", (3,), num_actions=2)
    real = EnvironmentSpec("X-v0", (3,), action_low=(-1.0,), action_high=(1.0,))
    agent = kind(spec=real if name in ("DDPG", "TD3", "SAC") else discrete)
    agent.configure_model()
    assert issubclass(kind, AgentObjective)
    assert isinstance(agent, Agent)
    assert agent.learns_from in ("rollouts", "replay")
    observations = torch.zeros(5, 3)
    assert len(agent.act(observations)) == len(agent.explore(observations, 0.5)) == 5
    once, again = (agent.act(observations, deterministic=True) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize(
    ("objective", "data", "words"),
    [
        (ppo, replay, "PPO learns from rollouts, but EnvironmentReplay provides replay: take "
                      "EnvironmentRollouts as data"),
        (dqn, rollouts, "DQN learns from replay, but EnvironmentRollouts provides rollouts: take "
                        "EnvironmentReplay as data"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(objective: partial, data: Any, words: str, tmp_path: Path) -> None:
    error = fit(objective, data, tmp_path).error
    assert isinstance(error, ValueError)
    assert str(error) == words


def scaled(gamma: float) -> partial:
    return partial(PPO, partial(actor_critic, reward_scale=RewardScale(gamma)), adam, gamma=0.9)


@pytest.mark.filterwarnings("ignore:.*not in the checkpoint")
def test_the_scale_of_rewards_has_the_agents_discount(tmp_path: Path) -> None:
    assert fit(scaled(0.9), rollouts, tmp_path).error is None
    error = fit(scaled(0.95), rollouts, tmp_path).error
    assert isinstance(error, ValueError)
    assert "RewardScale(gamma=0.95) in PPO(gamma=0.9)" in str(error)
    assert "give both the same gamma" in str(error)


@pytest.mark.parametrize(("objective", "data"), [(ppo, rollouts), (dqn, replay)])
def test_a_run_is_one_pass_over_its_data(objective: partial, data: Any, tmp_path: Path) -> None:
    """And validates at its end, whether or not the interval divides it."""
    done = fit(objective, data, tmp_path)
    assert done.error is None
    assert done.trainer.global_step == len(done.recorder.batches) == 5
    assert [metrics["step"] for metrics in done.recorder.metrics] == [2, 4, 5]
    short = fit(objective, data, tmp_path, limit_train_batches=3)
    assert short.trainer.global_step == 3
    # There is nothing left to resume.
    resumed = fit(objective, data, tmp_path, seed=9, ckpt_path=done.last)
    assert resumed.error is None
    assert resumed.recorder.batches == []
    assert resumed.trainer.global_step == 5
    assert_equal_weights(done, resumed)


def test_updates_on_a_batch_count_as_one_step(tmp_path: Path) -> None:
    steps: list[int] = []

    class Count(L.Callback):
        def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
            steps.append(trainer.global_step)

    objective = partial(ppo, num_epochs=2, num_minibatches=2)
    assert fit(objective, rollouts, tmp_path, callbacks=[Count()]).error is None
    assert steps == [number for number in range(5) for _ in range(4)]


def on_bytes(name: str, trunk: nn.Module | None) -> partial:
    """An agent with a small network for observations of bytes."""
    small: dict[str, Any] = {"hidden_channels": (4,), "trunk": trunk}
    if name == "DQN":
        return partial(DQN, partial(QNetwork, **small), adam)
    if name in ("SAC", "TD3", "DDPG"):
        policy = SquashedGaussianPolicy if name == "SAC" else DeterministicPolicy
        critic = partial(StateActionValue, **small)
        return partial(getattr(rl, name), policy=partial(policy, **small), critic=critic)
    if name == "REINFORCE":
        return partial(rl.REINFORCE, partial(CategoricalPolicy, **small), adam)
    return partial(getattr(rl, name), partial(ActorCriticNetwork, **small), adam)


@pytest.mark.long
@pytest.mark.parametrize(
    ("shape", "trunk"),
    [
        ((3,), None),
        ((3,), RunningScale(3)),
        ((4, 5, 3), nn.Flatten()),
        ((4, 5, 3), nn.Sequential(nn.Flatten(), RunningScale(60))),
    ],
)
@pytest.mark.parametrize("name", rl.__all__)
def test_observations_of_bytes(
    name: str, shape: tuple[int, ...], trunk: nn.Module | None, tmp_path: Path
) -> None:
    """They are kept as bytes, and seen as the floats they stand for."""
    objective = on_bytes(name, copy.deepcopy(trunk))
    real = name in ("SAC", "TD3", "DDPG")
    data = replay if objective.func.learns_from == "replay" else rollouts
    options = {"length": 2, "shape": shape, "real": real}
    done = fit(objective, partial(data, environment="TestGrey-v0", options=options), tmp_path)
    assert done.error is None
    assert done.trainer.global_step == 5
    scales = [part for part in done.objective.modules() if isinstance(part, RunningScale)]
    assert bool(scales) == ("RunningScale" in str(trunk))
    # Times up to 7 in 20 shades each; images are divided by 255.
    unit = 255 if len(shape) == 3 else 1
    for scale in scales:
        assert 10 / unit < float(scale.mean.mean()) < 140 / unit


class Own(nn.Module):
    """A network of the user's own, which knows nothing of bytes: one layer for each output."""

    def __init__(self, observation_shape: tuple[int, ...], *widths: int) -> None:
        super().__init__()
        self.unit = len(observation_shape) == 3
        self.layers = nn.ModuleList(nn.Linear(math.prod(observation_shape), w) for w in widths)

    def outputs(self, observation: Tensor) -> list[Tensor]:
        assert observation.max() <= (1 if self.unit else 255)
        return [layer(observation.flatten(1)) for layer in self.layers]


class OwnActorCritic(Own):
    def __init__(self, observation_shape, num_actions=0, action_dim=0, *, num_observations=0):
        super().__init__(observation_shape, num_actions, 1)

    def policy(self, observation: Tensor) -> Categorical:
        return Categorical(logits=self.outputs(observation)[0])

    def value(self, observation: Tensor) -> Tensor:
        return self.outputs(observation)[1].squeeze(-1)

    def forward(self, observation: Tensor) -> tuple[Categorical, Tensor]:
        return self.policy(observation), self.value(observation)


class OwnPolicy(OwnActorCritic):
    def forward(self, observation: Tensor) -> Categorical:
        return self.policy(observation)


class OwnValues(Own):
    def __init__(self, observation_shape, num_actions, *, num_observations=0):
        super().__init__(observation_shape, num_actions)

    def forward(self, observation: Tensor) -> Tensor:
        return self.outputs(observation)[0]


class OwnActions(Own):
    def __init__(self, observation_shape, action_low, action_high, *, num_observations=0):
        super().__init__(observation_shape, len(action_low))

    def forward(self, observation: Tensor) -> Tensor:
        return self.outputs(observation)[0].tanh()


class OwnGaussian(OwnActions):
    def forward(self, observation: Tensor) -> SquashedGaussian:
        mean = self.outputs(observation)[0]
        return SquashedGaussian(mean, -torch.ones_like(mean), -torch.ones(2), torch.ones(2))


class OwnCritic(Own):
    def __init__(self, observation_shape, action_dim, *, num_observations=0):
        super().__init__(observation_shape, 1)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.outputs(observation)[0].squeeze(-1) - action.square().sum(-1)


OWN: dict[str, dict[str, Any]] = {
    "DQN": {"network": OwnValues}, "REINFORCE": {"network": OwnPolicy},
    "SAC": {"policy": OwnGaussian, "critic": OwnCritic},
    "TD3": {"policy": OwnActions, "critic": OwnCritic},
    "DDPG": {"policy": OwnActions, "critic": OwnCritic},
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("shape", [(3,), (4, 5, 3)])
@pytest.mark.parametrize("name", rl.__all__)
def test_own_networks_get_the_floats_that_bytes_stand_for(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    objective = partial(getattr(rl, name), **OWN.get(name, {"network": OwnActorCritic}))
    data = replay if objective.func.learns_from == "replay" else rollouts
    options = {"length": 2, "shape": shape, "real": name in ("SAC", "TD3", "DDPG")}
    done = fit(objective, partial(data, environment="TestGrey-v0", options=options), tmp_path)
    assert done.error is None
    assert done.trainer.global_step == 5
    if objective.func.learns_from == "replay":
        kept = torch.load(done.last, weights_only=True)["EnvironmentReplay"]
        assert kept["memory"]["observations"].dtype == torch.uint8


@pytest.mark.parametrize("name", rl.__all__)
def test_predictions_are_the_episodes_of_the_test(name: str, tmp_path: Path) -> None:
    objective = on_bytes(name, None)
    data = replay if objective.func.learns_from == "replay" else rollouts
    options = {"length": 2, "real": name in ("SAC", "TD3", "DDPG")}
    made = partial(data, options=options, num_test_episodes=3)()
    trainer = fit(objective, lambda: made, tmp_path).trainer
    agent = trainer.lightning_module
    [tested] = trainer.test(agent, datamodule=made, verbose=False)
    [found] = trainer.predict(agent, datamodule=made)
    assert found["return"].tolist() == [6.0] * 3, "1 + 2 + 3, whatever it does"
    assert found["length"].tolist() == [3] * 3
    assert tested["test/return"] == found["return"].mean()


def test_predictions_are_written_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = fit(ppo, partial(rollouts, num_test_episodes=3), tmp_path).last
    cli.main(["predict", "--ckpt_path", str(last), f"--trainer.default_root_dir={tmp_path}"])
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "predictions:" in text]
    path = Path(line.removeprefix("predictions: "))
    assert path.name == "predictions.csv"
    assert path.read_text().split() == ["return,length", *["6.0,3"] * 3]
