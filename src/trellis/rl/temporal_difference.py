"""Temporal-difference methods: each state learns from the estimate of the next one.

Where a step terminated its episode, the value of the next state is 0; where it was truncated, the
estimate is bootstrapped. Legend: S states, A actions, E episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.dynamic_programming import not_converged
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
        values: initial V, zeros by default.
    Shape:
        values: ``[S]`` -> ``[S]``
    Raises:
        ValueError: a number out of range, or an episode that does not fit.

    Source: Sutton and Barto 2018, section 6.1.

    >>> td_prediction([Episode([0, 1], [], [1.0])], num_states=2, gamma=1.0, step_size=0.5)
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    check_learning(gamma, step_size)
    table = _initial(num_states, values).tolist()
    for episode in episodes:
        for state, reward, next_state, terminated in check_episode(episode, num_states).steps():
            target = reward + (0.0 if terminated else gamma * table[next_state])
            table[state] += step_size * (target - table[state])
    return torch.tensor(table, dtype=torch.float64)


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
    r"""TD(:math:`\lambda`): each error updates the states before it, recent ones most.

    .. math:: e \leftarrow \gamma \lambda e + 1_{s_t}, \quad
        V \leftarrow V + \alpha (r_t + \gamma V(s_{t+1}) - V(s_t)) e

    With :math:`\lambda = 0` it is TD(0); with 1 and offline, Monte Carlo over every visit.

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        lam: :math:`\lambda`, in [0, 1].
        step_size: :math:`\alpha`.
        traces: at another visit the trace of a state grows by 1, or is set to 1.
        offline: update V at the end of each episode, by the sum of its increments.
        values: initial V, zeros by default.
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
    table = _initial(num_states, values)
    for episode in episodes:
        trace, change = torch.zeros_like(table), torch.zeros_like(table)
        for state, reward, next_state, terminated in check_episode(episode, num_states).steps():
            future = 0.0 if terminated else gamma * table[next_state]
            error = reward + future - table[state]
            trace *= gamma * lam
            trace[state] = trace[state] + 1.0 if traces == "accumulating" else 1.0
            (change if offline else table).add_(step_size * error * trace)
        table += change
    return table


def batch_td(
    episodes: Iterable[Episode], num_states: int, gamma: float, *, tolerance: float = 1e-10
) -> Tensor:
    r"""The limit of TD(0) on a fixed set of episodes that is repeated.

    .. math:: V(s) \leftarrow V(s) + \frac{1}{n(s)} \sum_{t: s_t = s}
        (r_t + \gamma V(s_{t+1}) - V(s_t))

    These are the values of the maximum-likelihood model of the process, while batch Monte Carlo
    (``mc_prediction``) minimises the squared error on the returns of the set.

    Args:
        episodes: played by the policy.
        num_states: S.
        gamma: discount per step, in [0, 1].
        tolerance: largest change of a value in the last pass.
    Shape:
        -> ``[S]``, 0 for states without visits
    Raises:
        ValueError: a number out of range, an episode that does not fit, no steps at all, or values
            that do not converge.

    Source: Sutton and Barto 2018, section 6.3.
    Deviates: the increments of a state are averaged, not summed and scaled: the same limit,
        without a step size to choose.
    """
    check_learning(gamma, None)
    steps = [s for episode in episodes for s in check_episode(episode, num_states).steps()]
    if not steps:
        raise ValueError("episodes have no steps: give at least one")
    state = torch.tensor([s.state for s in steps])
    next_state = torch.tensor([s.next_state for s in steps])
    reward = torch.tensor([s.reward for s in steps], dtype=torch.float64)
    discount = torch.tensor([0.0 if s.terminated else gamma for s in steps], dtype=torch.float64)
    values = torch.zeros(num_states, dtype=torch.float64)
    visits = torch.bincount(state, minlength=num_states).clamp(min=1)
    for _ in range(MAX_PASSES):
        error = reward + discount * values[next_state] - values[state]
        change = torch.zeros_like(values).index_add_(0, state, error) / visits
        values += change
        if change.abs().amax() <= tolerance:
            return values
    raise not_converged(f"{MAX_PASSES} passes", gamma, "episodes that terminate")


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
    r"""On-policy control: values of the epsilon-greedy policy, from the action it takes next.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha (r_t + \gamma Q(s_{t+1}, a_{t+1}) - Q(s_t, a_t))

    Args:
        environment: with discrete observations and actions, whose episodes end, if need be by
            gymnasium's ``TimeLimit``.
        num_episodes: E.
        gamma: discount per step, in [0, 1].
        step_size: :math:`\alpha`.
        epsilon: probability of a random action, or a function from the episode's number, from 0,
            to it.
        values: initial Q, zeros by default.
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
    r"""As ``sarsa``, with the expectation over the next action instead of a sample.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha \Bigl(r_t + \gamma \sum_a \pi(a|s_{t+1}) Q(s_{t+1}, a) - Q(s_t, a_t)\Bigr)

    Source: Sutton and Barto 2018, section 6.6; van Seijen et al. 2009.
    """

    def expectation(row: Tensor, epsilon: float) -> Tensor:
        return epsilon_greedy(row, epsilon) @ row

    return _control(
        environment, num_episodes, gamma, step_size, epsilon, values, seed, expectation
    )


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
    r"""Off-policy control: as ``sarsa``, but values of the greedy policy.

    .. math:: Q(s_t, a_t) \leftarrow Q(s_t, a_t)
        + \alpha (r_t + \gamma \max_a Q(s_{t+1}, a) - Q(s_t, a_t))

    Source: Sutton and Barto 2018, section 6.5; Watkins 1989.
    """

    def maximum(row: Tensor, epsilon: float) -> Tensor:
        return row.amax()

    return _control(environment, num_episodes, gamma, step_size, epsilon, values, seed, maximum)


def _control(
    environment: gymnasium.Env,
    num_episodes: int,
    gamma: float,
    step_size: float,
    epsilon: Epsilon,
    values: Tensor | None,
    seed: int,
    next_value: Callable[[Tensor, float], Tensor] | None,
) -> Control:
    """Learn step by step, bootstrapping with ``next_value(Q of the next state, epsilon)``.

    Without ``next_value`` the next action is chosen before the update, and its value is
    bootstrapped (SARSA). With it the choice comes after the update, which matters where a step
    stays in its state.
    """
    check_learning(gamma, step_size)
    sizes = table_sizes(environment)
    q = torch.zeros(sizes, dtype=torch.float64) if values is None else values.double().clone()
    if q.shape != sizes:
        raise ValueError(f"values {list(q.shape)}: the environment needs {list(sizes)}")
    generator = torch.Generator().manual_seed(seed)
    returns = []
    for number in range(at_least_one("num_episodes", num_episodes)):
        exploring = epsilon(number) if callable(epsilon) else epsilon
        state, _ = environment.reset(seed=seed if number == 0 else None)
        action = int(draw(epsilon_greedy(q[state], exploring), generator))
        total, ended = 0.0, False
        while not ended:
            next_state, reward, terminated, truncated, _ = environment.step(action)
            total, ended = total + float(reward), terminated or truncated
            if next_value is None:
                next_action = int(draw(epsilon_greedy(q[next_state], exploring), generator))
                bootstrap = q[next_state, next_action]
            else:
                bootstrap = next_value(q[next_state], exploring)
            target = float(reward) + (0.0 if terminated else gamma * bootstrap.item())
            q[state, action] += step_size * (target - q[state, action].item())
            if next_value is not None and not ended:
                next_action = int(draw(epsilon_greedy(q[next_state], exploring), generator))
            state, action = next_state, next_action
        returns.append(total)
    return Control(q, torch.tensor(returns, dtype=torch.float64))


def _initial(num_states: int, values: Tensor | None) -> Tensor:
    """The initial table, a copy of the caller's."""
    at_least_one("num_states", num_states)
    if values is None:
        return torch.zeros(num_states, dtype=torch.float64)
    if values.shape != (num_states,):
        raise ValueError(f"values {list(values.shape)}: give [{num_states}], as num_states says")
    return values.double().clone()
