r"""Multi-armed bandits: agents choose among K arms and observe the reward of the chosen one.

Each agent plays N independent games at once, so that an average over games costs no more than a
single one. Legend: N games, K arms, T pulls.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.policies import draw, epsilon_greedy


class BanditAgent(Protocol):
    """An agent that plays a bandit: ``select`` arms, then ``update`` with their rewards."""

    def select(self) -> Tensor:
        """The arm of each game ``[N]``."""

    def update(self, arm: Tensor, reward: Tensor) -> None:
        """Learn from the rewards ``[N]`` of the arms ``[N]``."""


class ArmValues(ABC):
    r"""Base of agents that estimate each arm's mean reward and select by the estimates.

    .. math:: Q \leftarrow Q + \alpha (R - Q)

    Attributes: ``values [N, K]`` is Q, ``counts [N, K]`` the pulls of each arm.

    Args:
        num_arms: K.
        num_games: N.
        step_size: :math:`\alpha`; ``None`` for one over the arm's pulls, the sample mean. A
            constant tracks rewards that drift.
        initial_value: Q before the first pull; one above all rewards makes a greedy agent try
            every arm.
        generator: of the choices.
    Raises:
        ValueError: no arms or no games, or a step size outside (0, 1].

    Source: Sutton and Barto 2018, sections 2.4 to 2.6.
    """

    def __init__(
        self,
        num_arms: int,
        num_games: int = 1,
        *,
        step_size: float | None = None,
        initial_value: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        shape = at_least_one("num_games", num_games), at_least_one("num_arms", num_arms)
        if step_size is not None and not 0.0 < step_size <= 1.0:
            raise ValueError(f"step_size={step_size}: give a number in (0, 1], or None for means")
        self.values = torch.full(shape, float(initial_value))
        self.counts = torch.zeros(shape)
        self.step_size = step_size
        self.generator = generator

    @abstractmethod
    def select(self) -> Tensor:
        """The arm of each game ``[N]``."""

    def update(self, arm: Tensor, reward: Tensor) -> None:
        """Learn from the rewards ``[N]`` of the arms ``[N]``."""
        index = arm.unsqueeze(1)  # [N, 1]
        self.counts.scatter_add_(1, index, torch.ones_like(index, dtype=self.counts.dtype))
        size = self.step_size or 1.0 / self.counts.gather(1, index)
        error = reward.unsqueeze(1) - self.values.gather(1, index)
        self.values.scatter_add_(1, index, size * error)


class EpsilonGreedy(ArmValues):
    """The arm of the largest estimate, and with probability epsilon any arm.

    Args:
        num_arms: K.
        num_games: N.
        epsilon: 0 is the greedy agent.
        step_size: see ``ArmValues``, as ``initial_value`` and ``generator``.
        initial_value: optimistic if it is above the rewards.
        generator: of the choices.
    Raises:
        ValueError: epsilon outside [0, 1], or as ``ArmValues``.

    Source: Sutton and Barto 2018, section 2.2.
    """

    def __init__(
        self,
        num_arms: int,
        num_games: int = 1,
        *,
        epsilon: float = 0.1,
        step_size: float | None = None,
        initial_value: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        super().__init__(
            num_arms,
            num_games,
            step_size=step_size,
            initial_value=initial_value,
            generator=generator,
        )
        self.epsilon = probability("epsilon", epsilon)

    def select(self) -> Tensor:
        return draw(epsilon_greedy(self.values, self.epsilon), self.generator)


class UpperConfidenceBound(ArmValues):
    r"""The arm with the largest upper confidence bound.

    .. math:: A_t = \arg\max_a Q(a) + c \sqrt{\ln t / N(a)}

    t is the number of the next pull; arms that were never pulled come first.

    Args:
        num_arms: K.
        num_games: N.
        confidence: c, in units of the rewards.
        step_size: see ``ArmValues``, as ``generator``.
        generator: of the choice among ties.
    Raises:
        ValueError: a negative confidence, or as ``ArmValues``.

    Source: Sutton and Barto 2018, section 2.7, eq. 2.10; Auer et al. 2002.
    """

    def __init__(
        self,
        num_arms: int,
        num_games: int = 1,
        *,
        confidence: float = 2.0,
        step_size: float | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__(num_arms, num_games, step_size=step_size, generator=generator)
        if confidence < 0.0:
            raise ValueError(f"confidence={confidence}: give 0 (greedy) or more")
        self.confidence = confidence

    def bounds(self) -> Tensor:
        """Upper confidence bounds ``[N, K]``; infinite for arms that were never pulled."""
        pull = 1 + self.counts[0].sum().item()  # the same in every game
        width = self.confidence * (math.log(pull) / self.counts).sqrt()
        return torch.where(self.counts > 0, self.values + width, math.inf)

    def select(self) -> Tensor:
        return draw(epsilon_greedy(self.bounds()), self.generator)


class GradientBandit:
    r"""A softmax over preferences, which ascend the gradient of the expected reward.

    .. math:: \pi = \mathrm{softmax}(H), \quad
        H \leftarrow H + \alpha (R_t - \bar R_t) (1_{A_t} - \pi)

    with :math:`\bar R_t` the mean of the rewards up to and including :math:`R_t`. Attributes:
    ``preferences [N, K]`` is H, ``mean_reward [N]``.

    Args:
        num_arms: K.
        num_games: N.
        step_size: :math:`\alpha`.
        baseline: whether to subtract :math:`\bar R_t`; without it the gradient is as unbiased, but
            noisier.
        generator: of the choices.
    Raises:
        ValueError: no arms or no games, or a step size that is not positive.

    Source: Sutton and Barto 2018, section 2.8, eq. 2.12 and its footnote on the baseline.
    """

    def __init__(
        self,
        num_arms: int,
        num_games: int = 1,
        *,
        step_size: float = 0.1,
        baseline: bool = True,
        generator: torch.Generator | None = None,
    ):
        shape = at_least_one("num_games", num_games), at_least_one("num_arms", num_arms)
        if step_size <= 0.0:
            raise ValueError(f"step_size={step_size}: give a positive one")
        self.preferences = torch.zeros(shape)
        self.mean_reward = torch.zeros(num_games)
        self.step_size = step_size
        self.baseline = baseline
        self.pulls = 0
        self.generator = generator

    def select(self) -> Tensor:
        return draw(self.preferences.softmax(1), self.generator)

    def update(self, arm: Tensor, reward: Tensor) -> None:
        """Learn from the rewards ``[N]`` of the arms ``[N]``."""
        self.pulls += 1
        if self.baseline:
            self.mean_reward += (reward - self.mean_reward) / self.pulls
        step = self.step_size * (reward - self.mean_reward).unsqueeze(1)
        chosen = torch.zeros_like(self.preferences).scatter_(1, arm.unsqueeze(1), 1.0)
        self.preferences += step * (chosen - self.preferences.softmax(1))


class GaussianTestbed:
    r"""N bandits with rewards :math:`N(q(a), 1)` and means :math:`q(a) \sim N(m, 1)`.

    Attributes: ``means [N, K]``.

    Args:
        num_arms: K.
        num_games: N.
        mean: m.
        generator: of the means and the rewards.

    Source: Sutton and Barto 2018, section 2.3.
    """

    def __init__(
        self,
        num_arms: int = 10,
        num_games: int = 2000,
        *,
        mean: float = 0.0,
        generator: torch.Generator | None = None,
    ):
        shape = at_least_one("num_games", num_games), at_least_one("num_arms", num_arms)
        self.means = mean + torch.randn(shape, generator=generator)
        self.generator = generator

    def pull(self, arm: Tensor) -> Tensor:
        """Rewards ``[N]`` of the arms ``[N]``."""
        noise = torch.randn(len(arm), generator=self.generator)
        return self.means.gather(1, arm.unsqueeze(1)).squeeze(1) + noise


class Pulls(NamedTuple):
    """The pulls of an agent: ``arms``, ``rewards`` and ``regrets``, each ``[T, N]``.

    The regret of a pull is the mean reward of the best arm minus that of the pulled one.
    """

    arms: Tensor
    rewards: Tensor
    regrets: Tensor


def play(agent: BanditAgent, testbed: GaussianTestbed, steps: int) -> Pulls:
    r"""Let an agent pull and learn.

    .. math:: \text{regret}_t = \max_a q(a) - q(A_t)

    Args:
        agent: of as many games and arms as the testbed.
        testbed: gives the rewards.
        steps: T.
    Raises:
        ValueError: fewer than one step.

    Source: Sutton and Barto 2018, section 2.3; regret: Lai and Robbins 1985.
    """
    at_least_one("steps", steps)
    arms, rewards = [], []
    for _ in range(steps):
        arms.append(agent.select())
        rewards.append(testbed.pull(arms[-1]))
        agent.update(arms[-1], rewards[-1])
    chosen = torch.stack(arms)  # [T, N]
    means = testbed.means.gather(1, chosen.T).T  # [T, N]
    return Pulls(chosen, torch.stack(rewards), testbed.means.amax(1) - means)
