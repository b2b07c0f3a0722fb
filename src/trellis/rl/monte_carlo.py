"""Monte Carlo methods: values as averages of the returns of whole episodes.

Legend: S states, A actions, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.rl.episodes import (
    Episode,
    check_episode,
    check_learning,
    play_episode,
    table_sizes,
)
from trellis.rl.policies import epsilon_greedy

if TYPE_CHECKING:
    import gymnasium


class Prediction(NamedTuple):
    """Values ``[S]``, 0 for states without visits, and the visits ``[S]`` they average over."""

    values: Tensor
    visits: Tensor


class Control(NamedTuple):
    """Values ``[S, A]`` of the actions, and the undiscounted return ``[E]`` of each episode."""

    values: Tensor
    returns: Tensor


def mc_prediction(
    episodes: Iterable[Episode],
    num_states: int,
    gamma: float,
    *,
    every_visit: bool = False,
    step_size: float | None = None,
) -> Prediction:
    r"""Monte Carlo prediction: values of the policy that played.

    .. math:: V(s_t) \leftarrow V(s_t) + \alpha (G_t - V(s_t)), \quad
        \alpha = 1 / N(s_t) \text{ by default}

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        every_visit: average over all visits of an episode, not just the first; biased, but of
            lower variance at first.
        step_size: :math:`\alpha`; ``None`` for the mean.
    Raises:
        ValueError: a number out of range, or an episode that does not fit.

    Source: Sutton and Barto 2018, section 5.1 and eq. 6.1; Singh and Sutton 1996.
    Deviates: where an episode is truncated, the estimate of its last state is bootstrapped.

    >>> mc_prediction([Episode([0, 0, 1], [], [1.0, 1.0])], num_states=2, gamma=1.0).values
    tensor([2., 0.], dtype=torch.float64)
    """
    check_learning(gamma, step_size)
    values = [0.0] * at_least_one("num_states", num_states)
    visits = [0] * num_states
    for episode in episodes:
        check_episode(episode, num_states)
        after = 0.0 if episode.terminated else values[episode.states[-1]]
        returns = episode.returns(gamma, after)
        visited: set[int] = set()
        for state, total in zip(episode.states, returns, strict=False):
            if every_visit or state not in visited:
                visited.add(state)
                visits[state] += 1
                values[state] += (step_size or 1 / visits[state]) * (total - values[state])
    return Prediction(torch.tensor(values, dtype=torch.float64), torch.tensor(visits))


def mc_control(
    environment: gymnasium.Env,
    starts: Sequence[int],
    num_episodes: int,
    gamma: float,
    *,
    step_size: float | None = None,
    seed: int = 0,
) -> Control:
    r"""Monte Carlo control with exploring starts.

    Each episode starts in a random state with a random action and continues greedily; then, for
    the first visit of each state and action,

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t) + \alpha (G_t - Q(s_t, a_t)), \quad
        \alpha = 1 / N(s_t, a_t) \text{ by default}

    Args:
        environment: with discrete observations and actions, that starts in the state of
            ``reset(options={"state": s})``, as those of ``trellis.rl.environments`` do. It needs
            a time limit: a greedy policy may walk in circles.
        starts: states to start in.
        num_episodes: E.
        gamma: discount per step, in [0, 1].
        step_size: :math:`\alpha`; ``None`` for the mean, in which returns of early, worse
            policies keep their weight.
        seed: of the environment, the starts and the actions.
    Raises:
        ValueError: spaces that are not discrete, an environment that starts elsewhere, or a number
            out of range.

    Source: Sutton and Barto 2018, section 5.3.
    Deviates: where an episode is truncated, the largest estimate in its last state is
        bootstrapped; ties are broken at random.
    """
    check_learning(gamma, step_size)
    num_states, num_actions = table_sizes(environment)
    if not starts or not all(0 <= start < num_states for start in starts):
        raise ValueError(f"starts={list(starts)}: give states from 0 to {num_states - 1}")
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(num_states, num_actions, dtype=torch.float64)
    visits = torch.zeros_like(values)
    totals = []
    for number in range(at_least_one("num_episodes", num_episodes)):
        start = starts[_below(len(starts), generator)]
        options = {"state": start}
        state, _ = environment.reset(seed=seed if number == 0 else None, options=options)
        if state != start:
            raise ValueError(
                f"{environment}: it starts in state {state} where reset(options={options}) was "
                f"called; exploring starts need an environment that starts where it is told"
            )
        policy = epsilon_greedy(values)
        first = _below(num_actions, generator)
        episode = play_episode(environment, policy, state, generator, first)
        totals.append(sum(episode.rewards))
        after = 0.0 if episode.terminated else values[episode.states[-1]].amax().item()
        returns = episode.returns(gamma, after)
        pairs: dict[tuple[int, int], float] = {}
        for state, action, total in zip(episode.states, episode.actions, returns, strict=False):
            pairs.setdefault((state, action), total)
        for pair, total in pairs.items():
            visits[pair] += 1
            values[pair] += (step_size or 1 / visits[pair]) * (total - values[pair])
    return Control(values, torch.tensor(totals, dtype=torch.float64))


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))
