r"""Returns and advantages of rollouts, from rewards and values.

Time comes first: T steps of N environments side by side. ``next_values[t]`` is the value V of the
observation that followed step t, the final one where an episode ended there, not the first of the
next. An episode ends in one of two ways, and both end its sum of rewards. Where it ``terminated``
no reward can follow, and V is not bootstrapped. Where it was ``truncated``, by a time limit or the
like, V is bootstrapped in place of the rewards that were not observed, as it is after the last
step of the rollout; a step that is both counts as terminated. Each function is one loop of
vectorised operations.
"""

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_same_shape, probability


def discounted_returns(
    rewards: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    next_values: Tensor | None = None,
) -> Tensor:
    r"""Discounted sums of the rewards up to the end of the episode or of the rollout.

    .. math:: G_t = \sum_{k=0}^{m-1} \gamma^k r_{t+k} + \gamma^m (1 - d_{t+m-1}) V(s_{t+m})

    with d = terminated and m steps up to the last.

    Args:
        rewards: r.
        terminated: whether the episode reached a terminal state.
        truncated: whether it was truncated.
        gamma: discount per step, in [0, 1].
        next_values: V of the next observation; ``None`` bootstraps with 0, which is biased where
            an episode was truncated.
    Shape:
        ``[T, N]`` each -> ``[T, N]``
    Raises:
        ValueError: no steps, shapes that differ, flags that are not bool, gamma outside [0, 1].

    Source: Sutton and Barto 2018, eq. 3.9. Time limits: Pardo et al. 2018.

    >>> one, no = torch.ones(3, 1), torch.zeros(3, 1, dtype=torch.bool)
    >>> discounted_returns(one, no, no, gamma=0.5, next_values=8 * one).flatten()
    tensor([2.7500, 3.5000, 5.0000])
    """
    if next_values is None:
        next_values = torch.zeros_like(rewards)
    return lambda_returns(rewards, next_values, terminated, truncated, gamma, lam=1.0)


def n_step_returns(
    rewards: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    next_values: Tensor,
    n: int,
) -> Tensor:
    r"""Sums of the next n rewards, or fewer where the episode ends before, and a bootstrap.

    .. math:: G_t = \sum_{k=0}^{m-1} \gamma^k r_{t+k} + \gamma^m (1 - d_{t+m-1}) V(s_{t+m}),
        \quad m \le n

    Args:
        rewards: r.
        terminated: whether the episode reached a terminal state: d.
        truncated: whether it was truncated.
        gamma: discount per step, in [0, 1].
        next_values: V of the next observation.
        n: rewards of a sum; 1 gives the target of TD(0).
    Shape:
        ``[T, N]`` each -> ``[T, N]``
    Raises:
        ValueError: as ``discounted_returns``, or n below 1.

    Source: Sutton and Barto 2018, eq. 7.1.
    """
    _check(rewards, terminated, truncated, next_values=next_values, gamma=gamma)
    at_least_one("n", n)
    bootstrap = next_values * ~terminated
    continues = ~(terminated | truncated)[:-1]
    returns = rewards + gamma * bootstrap
    for _ in range(min(n, len(rewards)) - 1):
        # What follows one step is the return of one step less from the next step.
        tail = torch.where(continues, returns[1:], bootstrap[:-1])
        returns = rewards + gamma * torch.cat([tail, bootstrap[-1:]])
    return returns


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    r"""Exponentially weighted means of the n-step returns of all n.

    .. math:: G_t = r_t + \gamma (1 - d_t)
        \bigl[(1 - \lambda) V(s_{t+1}) + \lambda G_{t+1}\bigr]

    with d = terminated; V replaces G after the last step of an episode or of the rollout.

    Args:
        rewards: r.
        next_values: V of the next observation.
        terminated: whether the episode reached a terminal state.
        truncated: whether it was truncated.
        gamma: discount per step, in [0, 1].
        lam: lambda in [0, 1]; 0 gives the target of TD(0), 1 the discounted return.
    Shape:
        ``[T, N]`` each -> ``[T, N]``
    Raises:
        ValueError: as ``discounted_returns``, or lam outside [0, 1].

    Source: Sutton and Barto 2018, eq. 12.2 and 12.18.
    """
    _check(rewards, terminated, truncated, next_values=next_values, gamma=gamma, lam=lam)
    # A number times a bool tensor would be float32, whatever the rewards are.
    tail = gamma * lam * (~(terminated | truncated)).to(rewards.dtype)
    bootstrap = gamma * (~terminated).to(rewards.dtype) - tail
    # Beyond the rollout V replaces G.
    return _backwards(rewards + bootstrap * next_values, tail, next_values[-1])


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lam: float,
) -> Tensor:
    r"""Generalised advantage estimates.

    .. math:: A_t = r_t + \gamma (1 - d_t) V(s_{t+1}) - V(s_t) + \gamma\lambda (1 - e_t) A_{t+1}

    with d = terminated, e = terminated or truncated. ``A + values`` are the lambda-returns.

    Args:
        rewards: r.
        values: V of the observation before the step.
        next_values: V of the one after it.
        terminated: whether the episode reached a terminal state.
        truncated: whether it was truncated.
        gamma: discount per step, in [0, 1].
        lam: lambda in [0, 1]; 0 gives TD errors, 1 discounted returns minus values.
    Shape:
        ``[T, N]`` each -> ``[T, N]``
    Raises:
        ValueError: as ``discounted_returns``, or lam outside [0, 1].

    Source: Schulman et al. 2016, eq. 16. Deviates: truncation, absent in the paper, ends the sum
    but keeps the bootstrap.

    >>> one, no = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool)
    >>> gae(one, 0 * one, 2 * one, terminated=no, truncated=~no, gamma=0.5, lam=0.9)
    tensor([[2.]])
    """
    _check(rewards, terminated, truncated, values, next_values, gamma=gamma, lam=lam)
    error = rewards + gamma * (next_values * ~terminated) - values
    tail = gamma * lam * (~(terminated | truncated)).to(rewards.dtype)
    return _backwards(error, tail, torch.zeros_like(error[-1]))


def importance_ratio(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    r"""Ratio of the probabilities of an action under the current and the old policy.

    .. math:: \rho = \pi(a \mid s) / \pi_{\text{old}}(a \mid s)

    Args:
        log_prob: under the current policy; carries the gradient.
        old_log_prob: under the policy that acted; a constant.
    Shape:
        equal shapes -> the same
    Raises:
        ValueError: shapes differ, as ``[B, 1]`` and ``[B]``, whose ratio would be ``[B, B]``.

    Source: Schulman et al. 2017, eq. 6.

    >>> importance_ratio(torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, -1.0]))
    tensor([1.0000, 2.7183])
    """
    check_same_shape("give both for each action", log_prob=log_prob, old_log_prob=old_log_prob)
    return (log_prob - old_log_prob.detach()).exp()


def _backwards(term: Tensor, factor: Tensor, after: Tensor) -> Tensor:
    """``x[t] = term[t] + factor[t] x[t + 1]``, with ``after`` for the x after the last."""
    steps = []
    for now, weight in zip(reversed(term.unbind()), reversed(factor.unbind()), strict=True):
        after = torch.addcmul(now, weight, after)
        steps.append(after)
    return torch.stack(steps[::-1])


def _check(
    rewards: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    values: Tensor | None = None,
    next_values: Tensor | None = None,
    *,
    gamma: float,
    lam: float = 0.0,
) -> None:
    if rewards.dim() == 0 or len(rewards) == 0:
        raise ValueError(f"rewards {list(rewards.shape)}: give at least one step, [T, N]")
    flags = {"terminated": terminated, "truncated": truncated}
    for name, tensor in {"values": values, "next_values": next_values, **flags}.items():
        if tensor is None:
            continue
        advice = "give one for each step of each environment, [T, N]"
        check_same_shape(advice, **{name: tensor}, rewards=rewards)
        if (tensor.dtype == torch.bool) != (name in flags):
            kind = "bool" if name in flags else "real numbers"
            raise ValueError(f"{name} of {tensor.dtype}: give {kind}")
    probability("gamma", gamma)
    probability("lam", lam)
