"""Values from single steps: each state learns from the estimate of the one that followed.

Everywhere a step that terminated is followed by 0, and one that a time limit cut by the estimate
of where it was. Legend: S states, A actions, E episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.episodes import Episode, check_episode, check_learning, table_sizes
from trellis.rl.monte_carlo import Control
from trellis.rl.policies import draw, epsilon_greedy

if TYPE_CHECKING:
    import gymnasium

MAX_PASSES = 100_000
# A constant, or a schedule: the number of an episode, from 0, to a probability.
Epsilon = float | Callable[[int], float]


def td_prediction(
    episodes: Iterable[Episode],
    num_states: int,
    gamma: float,
    *,
    step_size: float = 0.1,
    values: Tensor | None = None,
) -> Tensor:
    r"""TD(0): values of the policy that played.

    .. math:: V(s_t) \leftarrow V(s_t) + \alpha (r_t + \gamma V(s_{t+1}) - V(s_t))

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        step_size: :math:`\alpha`.
        values: the first V, of zeros by default.
    Shape:
        values: ``[S]`` -> ``[S]``
    Raises:
        ValueError: a number out of range, or an episode that does not fit.

    Source: Sutton and Barto 2018, section 6.1.

    >>> td_prediction([Episode([0, 1], [], [1.0])], num_states=2, gamma=1.0, step_size=0.5)
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    check_learning(gamma, step_size)
    found = _first(num_states, values).tolist()
    for episode in episodes:
        for state, reward, following, terminated in check_episode(episode, num_states).steps():
            target = reward + (0.0 if terminated else gamma * found[following])
            found[state] += step_size * (target - found[state])
    return torch.tensor(found, dtype=torch.float64)


def td_lambda(
    episodes: Iterable[Episode],
    num_states: int,
    gamma: float,
    lam: float,
    *,
    step_size: float = 0.1,
    traces: Literal["accumulating", "replacing"] = "accumulating",
    offline: bool = False,
    values: Tensor | None = None,
) -> Tensor:
    r"""TD(:math:`\lambda`): each error corrects all states before it, the recent ones most.

    .. math:: e \leftarrow \gamma \lambda e + 1_{s_t}, \quad
        V \leftarrow V + \alpha (r_t + \gamma V(s_{t+1}) - V(s_t)) e

    With :math:`\lambda = 0` it is TD(0); with 1 and offline, Monte Carlo over every visit.

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        lam: :math:`\lambda`, in [0, 1].
        step_size: :math:`\alpha`.
        traces: where a state comes again its trace grows by 1, or is 1.
        offline: change V at the end of each episode, by the sum of what it taught.
        values: the first V, of zeros by default.
    Shape:
        values: ``[S]`` -> ``[S]``
    Raises:
        ValueError: a number out of range, unknown traces, or an episode that does not fit.

    Source: Sutton 1988; Sutton and Barto 2018, section 12.2; replacing: Singh and Sutton 1996.
    """
    check_learning(gamma, step_size)
    probability("lam", lam)
    if traces not in ("accumulating", "replacing"):
        raise ValueError(f"traces={traces!r}: give 'accumulating' or 'replacing'")
    found = _first(num_states, values)
    for episode in episodes:
        trace, change = torch.zeros_like(found), torch.zeros_like(found)
        for state, reward, following, terminated in check_episode(episode, num_states).steps():
            future = 0.0 if terminated else gamma * found[following]
            error = reward + future - found[state]
            trace *= gamma * lam
            trace[state] = trace[state] + 1.0 if traces == "accumulating" else 1.0
            (change if offline else found).add_(step_size * error * trace)
        found += change
    return found


def batch_td(
    episodes: Iterable[Episode], num_states: int, gamma: float, *, tolerance: float = 1e-10
) -> Tensor:
    r"""What TD(0) learns from a fixed set of episodes, shown again and again.

    .. math:: V(s) \leftarrow V(s) + \frac{1}{n(s)} \sum_{t: s_t = s}
        (r_t + \gamma V(s_{t+1}) - V(s_t))

    These are the values of the process that makes the episodes most likely, while batch Monte
    Carlo (``mc_prediction``) fits the returns of the set best.

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        tolerance: largest change of a value in the last pass.
    Shape:
        -> ``[S]``, 0 where nobody was
    Raises:
        ValueError: a number out of range, an episode that does not fit, no steps at all, or values
            that do not settle.

    Source: Sutton and Barto 2018, section 6.3.
    Deviates: the increments of a state are averaged, not summed and scaled: the same limit, with
        no step size to choose.
    """
    check_learning(gamma, None)
    steps = [s for episode in episodes for s in check_episode(episode, num_states).steps()]
    if not steps:
        raise ValueError("episodes: they have no steps; give at least one")
    state = torch.tensor([s.state for s in steps])
    following = torch.tensor([s.following for s in steps])
    reward = torch.tensor([s.reward for s in steps], dtype=torch.float64)
    discount = torch.tensor([0.0 if s.terminated else gamma for s in steps], dtype=torch.float64)
    values = torch.zeros(num_states, dtype=torch.float64)
    visits = torch.bincount(state, minlength=num_states).clamp(min=1)
    for _ in range(MAX_PASSES):
        error = reward + discount * values[following] - values[state]
        change = torch.zeros_like(values).index_add_(0, state, error) / visits
        values += change
        if change.abs().amax() <= tolerance:
            return values
    raise ValueError(
        f"values still change after {MAX_PASSES} passes with gamma={gamma}: give a gamma below 1, "
        f"or episodes that terminate"
    )


def sarsa(
    environment: gymnasium.Env,
    num_episodes: int,
    gamma: float,
    *,
    step_size: float = 0.1,
    epsilon: Epsilon = 0.1,
    values: Tensor | None = None,
    seed: int = 0,
) -> Control:
    r"""Values of the policy that explores, of the action it takes next.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha (r_t + \gamma Q(s_{t+1}, a_{t+1}) - Q(s_t, a_t))

    Args:
        environment: of discrete observations and actions; its episodes have to end, if need be by
            gymnasium's ``TimeLimit``.
        num_episodes: E.
        gamma: discount per step, in [0, 1].
        step_size: :math:`\alpha`.
        epsilon: share of steps that explore, or a function from the episode's number, from 0, to
            it.
        values: the first Q, of zeros by default.
        seed: of the environment and of the actions.
    Shape:
        values: ``[S, A]``
    Raises:
        ValueError: spaces that are not discrete, values of another shape, or a number out of
            range.

    Source: Sutton and Barto 2018, section 6.4; Rummery and Niranjan 1994.
    """
    return _control(environment, num_episodes, gamma, step_size, epsilon, values, seed, None)


def expected_sarsa(
    environment: gymnasium.Env,
    num_episodes: int,
    gamma: float,
    *,
    step_size: float = 0.1,
    epsilon: Epsilon = 0.1,
    values: Tensor | None = None,
    seed: int = 0,
) -> Control:
    r"""As ``sarsa``, by the mean over the next action instead of a sample.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha \Big(r_t + \gamma \sum_a \pi(a|s_{t+1}) Q(s_{t+1}, a) - Q(s_t, a_t)\Big)

    Source: Sutton and Barto 2018, section 6.6; van Seijen et al. 2009.
    """

    def mean(row: Tensor, exploring: float) -> Tensor:
        return epsilon_greedy(row, exploring) @ row

    return _control(environment, num_episodes, gamma, step_size, epsilon, values, seed, mean)


def q_learning(
    environment: gymnasium.Env,
    num_episodes: int,
    gamma: float,
    *,
    step_size: float = 0.1,
    epsilon: Epsilon = 0.1,
    values: Tensor | None = None,
    seed: int = 0,
) -> Control:
    r"""As ``sarsa``, but values of the greedy policy, whatever is played.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha (r_t + \gamma \max_a Q(s_{t+1}, a) - Q(s_t, a_t))

    Source: Sutton and Barto 2018, section 6.5; Watkins 1989.
    """

    def best(row: Tensor, exploring: float) -> Tensor:
        return row.amax()

    return _control(environment, num_episodes, gamma, step_size, epsilon, values, seed, best)


def _control(
    environment: gymnasium.Env,
    num_episodes: int,
    gamma: float,
    step_size: float,
    epsilon: Epsilon,
    values: Tensor | None,
    seed: int,
    future: Callable[[Tensor, float], Tensor] | None,
) -> Control:
    """Learn step by step from ``future(Q of the next state, epsilon)``.

    Without ``future`` the next action is chosen first, and its value is the future (SARSA). With
    it the choice comes after the update, which matters where a step stays in its state.
    """
    check_learning(gamma, step_size)
    sizes = table_sizes(environment)
    q = torch.zeros(sizes, dtype=torch.float64) if values is None else values.double().clone()
    if q.shape != sizes:
        raise ValueError(f"values {list(q.shape)}: the environment asks for {list(sizes)}")
    generator = torch.Generator().manual_seed(seed)
    totals = []
    for number in range(at_least_one("num_episodes", num_episodes)):
        exploring = epsilon(number) if callable(epsilon) else epsilon
        state, _ = environment.reset(seed=seed if number == 0 else None)
        action = int(draw(epsilon_greedy(q[state], exploring), generator))
        total, ended = 0.0, False
        while not ended:
            following, reward, terminated, truncated, _ = environment.step(action)
            total, ended = total + float(reward), terminated or truncated
            if future is None:
                chosen = int(draw(epsilon_greedy(q[following], exploring), generator))
                worth = q[following, chosen]
            else:
                worth = future(q[following], exploring)
            target = float(reward) + (0.0 if terminated else gamma * worth.item())
            q[state, action] += step_size * (target - q[state, action].item())
            if future is not None and not ended:
                chosen = int(draw(epsilon_greedy(q[following], exploring), generator))
            state, action = following, chosen
        totals.append(total)
    return Control(q, torch.tensor(totals, dtype=torch.float64))


def _first(num_states: int, values: Tensor | None) -> Tensor:
    """The table to start from, never the caller's own."""
    at_least_one("num_states", num_states)
    if values is None:
        return torch.zeros(num_states, dtype=torch.float64)
    if values.shape != (num_states,):
        raise ValueError(f"values {list(values.shape)}: give [{num_states}], as num_states says")
    return values.double().clone()
