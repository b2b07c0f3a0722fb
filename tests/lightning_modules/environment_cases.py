"""Environments whose every step is known, and agents for them: shared by the tests of agents."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn


class Clock(gymnasium.Env):
    """Says which episode and which step it is; the reward is the step. Ends after ``length``.

    Episodes grow by one step each, so that environments get out of step. Odd episodes terminate,
    even ones are truncated.
    """

    observation_space = Box(-1e6, 1e6, (3,))
    broken = True  # false: step ``fail`` is like the others

    def __init__(self, length: int = 3, fail: int = 0, nan: int = 0, real: bool = False) -> None:
        self.length, self.fail, self.nan = length, fail, nan
        self.action_space = Box(-1.0, 1.0, (2,)) if real else Discrete(2)
        self.episode = self.total = 0
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        self.noise = float(self.np_random.random())
        return self._seen(), {}

    def _seen(self) -> np.ndarray:
        return np.array([self.episode, self.time, self.noise], dtype=np.float32)

    def step(self, action: Any) -> Any:
        self.time, self.total = self.time + 1, self.total + 1
        self.actions.append(np.array(action).tolist())
        if self.broken and self.total == self.fail:
            raise OSError("the clock stands still")
        ended = self.time == self.length + self.episode
        reward = float("nan") if self.total == self.nan else float(self.time)
        odd = self.episode % 2 == 1
        return self._seen(), reward, ended and odd, ended and not odd, {}


class Guess(gymnasium.Env):
    """One step: 1 if the action is the number that is shown, else 0."""

    observation_space, action_space = Discrete(3), Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.shown = int(self.np_random.integers(3))
        return self.shown, {}

    def step(self, action: Any) -> Any:
        return self.shown, float(action == self.shown), True, False, {}


class Aim(gymnasium.Env):
    """One step: the closer the real action is to half the observation, the better."""

    observation_space, action_space = Box(-1.0, 1.0, (1,)), Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.shown = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.shown, {}

    def step(self, action: Any) -> Any:
        return self.shown, -float((action[0] - self.shown[0] / 2) ** 2), True, False, {}


class Steady(gymnasium.Env):
    """One state, 1 each step, three steps: then it terminates, or is truncated."""

    observation_space, action_space = Discrete(1), Discrete(2)

    def __init__(self, terminates: bool = False) -> None:
        self.terminates = terminates

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return 0, {}

    def step(self, action: Any) -> Any:
        self.time += 1
        over = self.time == 3
        return 0, 1.0, over and self.terminates, over and not self.terminates, {}


class Hidden(Clock):
    """Keeps something that no attribute shows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.simulator = iter([1, 2, 3])


class Film(Clock):
    """Draws its time as a shade of grey."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        return np.full((8, 12, 3), 20 * self.time, dtype=np.uint8)


class Grey(Clock):
    """Says its time in bytes: a vector, or an image with its channels last."""

    def __init__(self, shape: tuple[int, ...] = (3,), **options: Any) -> None:
        super().__init__(**options)
        self.observation_space = Box(0, 255, shape, np.uint8)

    def _seen(self) -> np.ndarray:
        return np.full(self.observation_space.shape, 20 * self.time, dtype=np.uint8)


for kind in (Clock, Guess, Aim, Steady, Film, Hidden, Grey):
    name = f"Test{kind.__name__}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, kind)


class Still:
    """A trainer and its agent, which acts at random and notes the observations."""

    global_rank = 0
    device = torch.device("cpu")
    learns_from, gamma, n_step, spec = "rollouts", 0.5, 1, None

    def __init__(self, num_actions: int = 2) -> None:
        self.num_actions, self.seen = num_actions, []

    @property
    def lightning_module(self) -> "Still":
        return self

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        raise AssertionError("it learns from rollouts")

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        self.seen.append(observations.clone())
        count = len(observations)
        if deterministic:
            return torch.zeros(count, dtype=torch.long)
        if self.num_actions == 0:
            return 3 * torch.randn(count, 2)
        return torch.randint(self.num_actions, (count,))


class Explorer(Still):
    """One that learns from a replay buffer."""

    learns_from = "replay"

    def __init__(self, num_actions: int = 2, n_step: int = 1) -> None:
        super().__init__(num_actions)
        self.n_step, self.progress = n_step, list[float]()

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        self.progress.append(progress)
        return self.act(observations)


class NoAgent(nn.Module):
    """An objective that does not act."""
