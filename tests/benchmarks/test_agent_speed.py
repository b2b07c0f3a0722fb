"""Agents on CartPole: ``Trainer.fit`` beside stable-baselines3 and beside a hand-written loop.

Ours are the configs, made shorter, with logger and progress line on. The others get the same
sizes, settings and number of environments, which they step one by one; the loop is written as
people write one, in a piece of plain torch. Each side has a thread of its own; steps are those of
all environments, a turn has whole rollouts and what is learnt from them. Rates are those of the
median turn.

``pytest tests/benchmarks/test_agent_speed.py -m "" -s`` shows the numbers.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare import ppo_loop
from measurements import report
from turns import Ticks, Turns, in_turns

from trellis.lightning_modules.commands.ledger import configs_dir
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

PEERS = 'pip install -c constraints.txt -e ".[peers,dev]"'
pytest.importorskip("gymnasium", reason=PEERS)
baselines = pytest.importorskip("stable_baselines3", reason=PEERS)
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402

pytestmark = pytest.mark.slow
# What all agents reach on CartPole, by the mean return of their last episodes; by chance 22. That
# those on Pendulum learn is shown by the rows of the ledger: here they take too few steps.
LEARNT = {"CartPole-v1": 45.0, "Pendulum-v1": float("-inf")}

Side = Callable[[Ticks, int, Path], float]


def of_config(name: str, *, compiled: bool = False) -> Side:
    """``Trainer.fit`` with a config of the ledger, but for its length and its evaluation."""

    def side(ticks: Ticks, total_steps: int, root: Path) -> float:
        quieten()
        options = {
            "--data.total_steps": total_steps,
            "--trainer.default_root_dir": root,
            "--trainer.accelerator": "cpu",
            "--trainer.limit_val_batches": 0,
            "--trainer.val_check_interval": 1.0,
            "--trainer.compile": str(compiled).lower(),
        }
        words = [f"{option}={value}" for option, value in options.items()]
        cli = TrellisCLI(["--config", str(configs_dir() / "rl" / name), *words], run=False)
        trainer: Any = cli.trainer
        trainer.callbacks.append(ticks)
        trainer.fit(cli.model, datamodule=cli.datamodule)
        return trainer.callback_metrics["train/return"].item()

    return side


def both_ways(name: str) -> dict[str, Side]:
    """Ours as it is, and compiled."""
    return {"trellis": of_config(name), "trellis, compiled": of_config(name, compiled=True)}


def of_baselines(
    name: str,
    num_envs: int,
    rollouts: int = 1,
    environment: str = "CartPole-v1",
    **settings: Any,
) -> Side:
    """An agent of stable-baselines3, logging what it does by default; a step has ``rollouts``."""

    def side(ticks: Ticks, total_steps: int, root: Path) -> float:
        environments = make_vec_env(environment, num_envs, seed=0)
        # Its SAC writes into policy_kwargs what its TD3 refuses.
        agent = getattr(baselines, name)(
            "MlpPolicy", environments, device="cpu", seed=0, **deepcopy(settings)
        )
        agent.learn(
            total_steps,
            callback=BetweenRollouts(ticks, rollouts, settings.get("learning_starts", 0)),
        )
        return float(np.mean([episode["r"] for episode in agent.ep_info_buffer]))

    return side


class BetweenRollouts(BaseCallback):
    """A step is some rollouts with what is learnt from them, which has no call of its own.

    Args:
        ticks: of these steps.
        rollouts: of a step.
        learning_starts: steps of the environment that come before.
    """

    def __init__(self, ticks: Ticks, rollouts: int, learning_starts: int) -> None:
        super().__init__()
        self.ticks, self.rollouts, self.learning_starts = ticks, rollouts, learning_starts
        self.begun = 0

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self.learning_starts:
            return
        if self.begun == 0:
            self.ticks.on_train_start()
        elif self.begun % self.rollouts == 0:
            self.ticks.on_train_batch_end()
        self.begun += 1

    def _on_training_end(self) -> None:
        self.ticks.on_train_batch_end()

    def _on_step(self) -> bool:
        return True


# Its squared error is whole where ours is halved.
PPO_SETTINGS = {
    "learning_rate": lambda left: 2.5e-4 * left,
    "n_steps": 128,
    "batch_size": 128,
    "n_epochs": 4,
    "clip_range_vf": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.25,
    "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5}},
}


# Its target network follows by steps of the environment.
DQN_SETTINGS = {
    "learning_rate": 2.5e-4,
    "buffer_size": 10_000,
    "learning_starts": 10_000,
    "batch_size": 128,
    "train_freq": 10,
    "target_update_interval": 500,
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.05,
    "max_grad_norm": float("inf"),
    "policy_kwargs": {"net_arch": [120, 84]},
}


def measured(
    what: str,
    sides: Mapping[str, Side],
    total_steps: int,
    size: int,
    every: int,
    root: Path,
    environment: str = "CartPole-v1",
) -> dict[str, float]:
    """Steps of environments a second of each side, after making sure that all have learnt.

    Args:
        what: learns what.
        sides: by name, ours first.
        total_steps: of each.
        size: of a rollout, all environments together.
        every: rollouts of a turn.
        root: folder of runs.
        environment: that they learn in.
    """

    rates: dict[str, list[float]] = {}

    def take_part(name: str, turns: Turns) -> tuple[float, float]:
        ticks = Ticks(turns, name, size, every)
        torch.manual_seed(0)
        reached = sides[name](ticks, total_steps, root)
        speed, rates[name] = ticks.per_second_of_turns(), ticks.turn_rates()
        print(
            f"\n{name}: {speed:,.0f} steps/s by the median turn, {ticks.overall():,.0f} overall, "
            f"return {reached:.0f} after {len(ticks.steps) * size:,} steps"
        )
        return speed, reached

    results = in_turns(sides, take_part)
    report(what, "steps/s", {name: rates[name] for name in sides})
    assert min(reached for _, reached in results.values()) >= LEARNT[environment]
    ours, *others = (speed for speed, _ in results.values())
    beside = zip(list(sides)[1:], others, strict=True)
    print("\n" + ", ".join(f"{ours / other:.2f}x {name}" for name, other in beside))
    return {name: speed for name, (speed, _) in results.items()}


def test_ppo_beside_stable_baselines3_and_a_bare_loop(tmp_path: Path) -> None:
    sides = {
        **both_ways("ppo_cartpole.yaml"),
        "bare loop": ppo_loop,
        "stable-baselines3": of_baselines("PPO", num_envs=4, **PPO_SETTINGS),
    }
    speed = measured("PPO on CartPole", sides, 90 * 512, size=512, every=10, root=tmp_path)
    assert speed["trellis"] >= 1.2 * speed["bare loop"]
    assert speed["trellis"] >= 1.8 * speed["stable-baselines3"]
    assert speed["trellis, compiled"] >= 3 * speed["stable-baselines3"]


def test_a2c_beside_stable_baselines3(tmp_path: Path) -> None:
    sides = {
        **both_ways("a2c_cartpole.yaml"),
        "stable-baselines3": of_baselines("A2C", num_envs=8, n_steps=5, vf_coef=0.5),
    }
    speed = measured("A2C on CartPole", sides, 1200 * 40, size=40, every=100, root=tmp_path)
    assert speed["trellis"] >= 1.3 * speed["stable-baselines3"]
    assert speed["trellis, compiled"] >= 2.5 * speed["stable-baselines3"]


def test_dqn_beside_stable_baselines3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Theirs has no option of a loss; along Huber's it learns nothing in this time.
    monkeypatch.setattr(torch.nn.functional, "smooth_l1_loss", torch.nn.functional.mse_loss)
    sides = {
        **both_ways("dqn_cartpole.yaml"),
        "stable-baselines3": of_baselines("DQN", num_envs=1, rollouts=10, **DQN_SETTINGS),
    }
    speed = measured("DQN on CartPole", sides, 30_000, size=100, every=15, root=tmp_path)
    assert speed["trellis"] >= 1.3 * speed["stable-baselines3"]
    assert speed["trellis, compiled"] >= 2.5 * speed["stable-baselines3"]


# An update for each step, as ours; the other defaults are those of the papers on both sides.
PENDULUM_SETTINGS = {
    "learning_rate": 1e-3,
    "buffer_size": 20_000,
    "learning_starts": 1000,
    "batch_size": 256,
    "train_freq": 1,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [64, 64]},
}


@pytest.mark.parametrize(("name", "further"), [("SAC", {}), ("TD3", {"gamma": 0.98})])
def test_updates_at_each_step_beside_stable_baselines3(
    name: str, further: dict[str, Any], tmp_path: Path
) -> None:
    theirs = of_baselines(
        name, num_envs=1, rollouts=10, environment="Pendulum-v1", **PENDULUM_SETTINGS, **further
    )
    sides = {**both_ways(f"{name.lower()}_pendulum.yaml"), "stable-baselines3": theirs}
    speed = measured(
        f"{name} on Pendulum", sides, 3000, size=10, every=20, root=tmp_path,
        environment="Pendulum-v1",
    )  # fmt: skip
    assert speed["trellis, compiled"] >= 2.5 * speed["stable-baselines3"]
