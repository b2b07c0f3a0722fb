"""Agents with real-valued actions and small runs of them: shared by the tests of each."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import environment_cases
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from learning_cases import Case, Run, run
from torch import Tensor, nn

from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.lightning_modules.rl.ddpg import DDPG
from trellis.lightning_modules.rl.sac import SAC
from trellis.lightning_modules.rl.td3 import TD3
from trellis.networks.rl.policy import DeterministicPolicy, SquashedGaussianPolicy
from trellis.networks.rl.value import StateActionValue
from trellis.rl.replay import ReplayBatch, Transitions

LOW, HIGH = (-1.0, 0.0), (3.0, 0.5)

adam = partial(torch.optim.Adam, lr=0.01)
critic = partial(StateActionValue, hidden_channels=(16,))
deterministic = partial(DeterministicPolicy, hidden_channels=(16,))
squashed = partial(SquashedGaussianPolicy, hidden_channels=(16,))
learning: dict[str, Any] = {"critic": critic, "optimizer": adam, "critic_optimizer": adam}
KINDS: dict[str, Any] = {
    "ddpg": partial(DDPG, policy=deterministic, noise=0.3, **learning),
    "td3": partial(TD3, policy=deterministic, noise=0.3, **learning),
    "sac": partial(SAC, policy=squashed, alpha_optimizer=adam, **learning),
}


class Lever(environment_cases.Clock):
    """A clock whose bounds differ from entry to entry, and which breaks outside of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = Box(np.array(LOW, np.float32), np.array(HIGH, np.float32))

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(np.asarray(action, np.float32)), action
        seen, reward, *others = super().step(action)
        return seen, float(reward / 4 + action[0] - action[1] ** 2), *others


class Free(environment_cases.Clock):
    """Actions without bounds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = Box(-np.inf, np.inf, (2,))


for kind in (Lever, Free):
    if f"Test{kind.__name__}-v0" not in gymnasium.registry:
        gymnasium.register(f"Test{kind.__name__}-v0", kind)


def replay(environment: str = "TestLever-v0", **options: Any) -> EnvironmentReplay:
    length = {"length": 2} if environment in ("TestLever-v0", "TestFree-v0") else None
    defaults = {
        "num_envs": 2, "num_steps": 4, "num_updates": 2, "total_steps": 40 + 8 * 8,
        "learning_starts": 40, "capacity": 60, "batch_size": 16, "num_val_episodes": 2,
        "num_test_episodes": 2, "options": length,
    }  # fmt: skip
    return EnvironmentReplay(environment, **{**defaults, **options})


def fit(objective: partial, root: Path, data: Any = replay, **options: Any) -> Run:
    return run(
        Case(objective, data), root, **{"val_check_interval": 2, "max_epochs": 9, **options}
    )


class Keep(EnvironmentReplay):
    """Keeps its batches, the networks before the first, and what it is told of errors."""

    def _sample(self) -> ReplayBatch:
        module: Any = self.trainer.lightning_module
        if not hasattr(self, "made"):
            self.made: list[ReplayBatch] = []
            self.told: list[Tensor] = []
            self.networks = copy.deepcopy(dict(module.named_children()))
        self.made.append(super()._sample())
        return self.made[-1]

    def _update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        self.told.append(errors)
        super()._update_priorities(indices, errors)


def kept(**options: Any) -> Keep:
    """Three blocks of two updates, each with episodes that ended by themselves."""
    return Keep(
        "TestLever-v0", 2, 4, 2, 64, 40, 60, 16, options={"length": 1}, num_val_episodes=1,
        **options,
    )  # fmt: skip


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tensor]:
    """All Gaussian numbers of batches of 16 actions, in the order in which they were drawn."""
    drawn: list[Tensor] = []
    for name in ("randn", "randn_like"):
        original: Callable[..., Tensor] = getattr(torch, name)

        def noted(*args: Any, _original: Any = original, **options: Any) -> Tensor:
            numbers = _original(*args, **options)
            if numbers.shape == (16, 2):
                drawn.append(numbers.clone())
            return numbers

        monkeypatch.setattr(torch, name, noted)
    return drawn  # type: ignore[return-value]


def descend(parameters: Any, loss: Tensor, lr: float) -> None:
    """One step down the gradient of these parameters alone."""
    parameters = [*parameters]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data = parameter.data - lr * gradient


def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """A share of the way, parameter by parameter."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.data = (1 - tau) * old.data + tau * new.data


def squared_errors(
    net: nn.Module, batch: Transitions, weights: Tensor, goals: list[float]
) -> tuple[Tensor, list[float]]:
    """The weighted mean, and the error of each transition."""
    total, errors = torch.zeros(()), []
    for i, goal in enumerate(goals):
        error = net(batch.observations[i][None], batch.actions[i][None])[0] - goal
        total = total + weights[i] * error**2
        errors.append(error.item())
    return total / len(goals), errors


def goal(batch: Transitions, i: int, after: float) -> float:
    """Reward and what followed, if something did."""
    return batch.rewards[i].item() + (
        0.0 if batch.terminated[i] else batch.discounts[i].item() * after
    )


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), atol=2e-6, rtol=1e-4)


def distance(net: nn.Module, other: nn.Module) -> float:
    flat = nn.utils.parameters_to_vector
    return (flat(net.parameters()) - flat(other.parameters())).abs().max().item()
