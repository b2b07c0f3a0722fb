"""Episodes of tabular environments. Legend: T steps, S states, A actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.policies import draw

if TYPE_CHECKING:
    import gymnasium


class Step(NamedTuple):
    """One step; where it ``terminated``, the next state has value 0."""

    state: int
    reward: float
    next_state: int
    terminated: bool


class Episode(NamedTuple):
    """States, actions and rewards from a start to an end.

    Args:
        states: T + 1 of them, the last one after the last action.
        actions: T; may be empty where only values of states are learned.
        rewards: T.
        terminated: whether the last state is terminal, with value 0. Else the episode was
            truncated (a time limit), and the estimated value of the last state is bootstrapped.

    >>> list(Episode([0, 1, 2], [], [0.0, 1.0]).steps())[-1]
    Step(state=1, reward=1.0, next_state=2, terminated=True)
    """

    states: list[int]
    actions: list[int]
    rewards: list[float]
    terminated: bool = True

    def steps(self) -> Iterator[Step]:
        """The steps in order."""
        last = len(self.rewards) - 1
        for t, reward in enumerate(self.rewards):
            ended = self.terminated and t == last
            yield Step(self.states[t], reward, self.states[t + 1], ended)

    def returns(self, gamma: float, after: float = 0.0) -> list[float]:
        r"""The return after each step.

        .. math:: G_t = r_t + \gamma G_{t+1}, \quad G_T = \text{after}

        Args:
            gamma: discount per step.
            after: value of the last state, 0 where the episode terminated.

        Source: Sutton and Barto 2018, eq. 3.9.

        >>> Episode([0, 1, 2], [], [2.0, 4.0]).returns(gamma=0.5)
        [4.0, 4.0]
        """
        total, returns = after, []
        for reward in reversed(self.rewards):
            total = reward + gamma * total
            returns.append(total)
        return returns[::-1]


def check_episode(episode: Episode, num_states: int) -> Episode:
    """Refuse an episode that does not fit a table of ``num_states``; else return it.

    Raises:
        ValueError: numbers of states and rewards that do not match, or a state out of range.
    """
    if len(episode.states) != len(episode.rewards) + 1:
        raise ValueError(
            f"episode of {len(episode.states)} states and {len(episode.rewards)} rewards: give "
            f"one state more than rewards, the last one after the last reward"
        )
    if (wrong := [s for s in episode.states if not 0 <= s < num_states]) != []:
        raise ValueError(
            f"episode with state {wrong[0]}: num_states={num_states} leaves 0 to {num_states - 1}"
        )
    return episode


def table_sizes(environment: gymnasium.Env) -> tuple[int, int]:
    """The numbers of states and of actions, S and A.

    Raises:
        ValueError: a space that is not discrete; names it.
    """
    from gymnasium.spaces import Discrete

    spaces = environment.observation_space, environment.action_space
    for name, space in zip(("observation_space", "action_space"), spaces, strict=True):
        if not isinstance(space, Discrete) or space.start != 0:
            raise ValueError(f"{name} {space}: a table needs Discrete(n), starting at 0")
    return int(spaces[0].n), int(spaces[1].n)  # type: ignore[attr-defined]


def sample_episodes(
    environment: gymnasium.Env, policy: Tensor, num_episodes: int, *, seed: int = 0
) -> Iterator[Episode]:
    """Episodes of a policy.

    Args:
        environment: with discrete observations and actions, whose episodes end, if need be by
            gymnasium's ``TimeLimit``.
        policy: probabilities of the actions in each state.
        num_episodes: to sample.
        seed: of the environment and of the actions.
    Shape:
        policy: ``[S, A]``
    Raises:
        ValueError: the spaces are not discrete, the policy has another shape, or no episodes.
    """
    sizes = table_sizes(environment)
    if policy.shape != sizes:
        raise ValueError(f"policy {list(policy.shape)}: the environment needs {list(sizes)}")
    at_least_one("num_episodes", num_episodes)
    generator = torch.Generator().manual_seed(seed)
    return _play(environment, policy, num_episodes, seed, generator)


def play_episode(
    environment: gymnasium.Env,
    policy: Tensor,
    state: int,
    generator: torch.Generator,
    first_action: int | None = None,
) -> Episode:
    """One episode from the state that ``reset`` returned, with ``first_action`` if given."""
    states = [int(state)]
    actions: list[int] = []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated):
        action = first_action
        if action is None or actions:
            action = int(draw(policy[states[-1]], generator))
        next_state, reward, terminated, truncated, _ = environment.step(action)
        states.append(int(next_state))
        actions.append(action)
        rewards.append(float(reward))
    return Episode(states, actions, rewards, bool(terminated))


def check_learning(gamma: float, step_size: float | None) -> None:
    """Check the numbers that all tabular methods take.

    Raises:
        ValueError: gamma is outside [0, 1], or the step size outside (0, 1].
    """
    probability("gamma", gamma)
    if step_size is not None and not 0.0 < step_size <= 1.0:
        raise ValueError(f"step_size={step_size}: give a number in (0, 1]")


def _play(
    environment: gymnasium.Env,
    policy: Tensor,
    num_episodes: int,
    seed: int,
    generator: torch.Generator,
) -> Iterator[Episode]:
    for number in range(num_episodes):
        state, _ = environment.reset(seed=seed if number == 0 else None)
        yield play_episode(environment, policy, state, generator)
