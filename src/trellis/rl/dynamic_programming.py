r"""Dynamic programming: known finite Markov decision processes, solved by sweeps over states.

Legend: S states, A actions. A state that no action leaves, without a reward, is terminal; sweeps
start from values of 0, so its value stays 0, also without discounting. With two arrays each sweep
computes all new values from the old ones; in place a state uses what the sweep has already
written, which usually takes fewer sweeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_shape, probability
from trellis.rl.policies import epsilon_greedy

TIES = 1e-9  # actions whose values differ by less are equally good
MAX_SWEEPS = 1_000_000  # the random policy on the cliff takes 100,000 to converge


@dataclass(frozen=True)
class FiniteMDP:
    """Transitions and rewards of every state and action.

    Args:
        transitions: :math:`p(s'|s, a)`.
        rewards: of an action in a state, or of each of its transitions.
    Shape:
        transitions: ``[S, A, S]``; rewards: ``[S, A]`` or ``[S, A, S]``
    Raises:
        ValueError: another shape, or probabilities that are negative or do not sum to 1; names
            the state and the action.

    Source: Sutton and Barto 2018, section 3.1.
    """

    transitions: Tensor
    rewards: Tensor

    def __post_init__(self) -> None:
        shape = self.transitions.shape
        if len(shape) != 3 or shape[0] != shape[2]:
            raise ValueError(f"transitions {list(shape)}: give [S, A, S]")
        if self.rewards.shape not in (shape, shape[:2]):
            raise ValueError(
                f"rewards {list(self.rewards.shape)}: give {list(shape[:2])} or {list(shape)}, as "
                f"the transitions are"
            )
        wrong = (self.transitions < 0).any(-1) | ((self.transitions.sum(-1) - 1).abs() > 1e-5)
        if wrong.any():
            state, action = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"transitions of state {state}, action {action} are not probabilities: they sum "
                f"to {self.transitions[state, action].sum().item():.4g}"
            )

    @property
    def expected_rewards(self) -> Tensor:
        r""":math:`r(s, a) = \sum_{s'} p(s'|s, a) r(s, a, s')` as ``[S, A]``."""
        if self.rewards.dim() == 2:
            return self.rewards
        return (self.transitions * self.rewards).sum(-1)

    @property
    def terminal(self) -> Tensor:
        """Whether a state is terminal, bool ``[S]``."""
        absorbing = (self.transitions.diagonal(dim1=0, dim2=2) == 1).all(0)  # of [A, S]
        return absorbing & (self.expected_rewards == 0).all(1)

    @property
    def uniform_policy(self) -> Tensor:
        """The equiprobable policy ``[S, A]``."""
        rewards = self.expected_rewards
        return torch.full_like(rewards, 1 / rewards.size(1))


class Evaluation(NamedTuple):
    """Values ``[S]`` of a policy, and the sweeps it took."""

    values: Tensor
    sweeps: int


class Solution(NamedTuple):
    """The optimal policy ``[S, A]``, its values ``[S]``, and the sweeps it took.

    Equally good actions are equally probable. In policy iteration ``sweeps`` counts improvements.
    """

    policy: Tensor
    values: Tensor
    sweeps: int


def action_values(mdp: FiniteMDP, values: Tensor, gamma: float) -> Tensor:
    r"""Values of actions by one step of lookahead.

    .. math:: Q(s, a) = r(s, a) + \gamma \sum_{s'} p(s'|s, a) V(s')

    Args:
        mdp: the process.
        values: V.
        gamma: discount per step, in [0, 1].
    Shape:
        values: ``[S]`` -> ``[S, A]``

    Source: Sutton and Barto 2018, eq. 4.6.
    """
    return mdp.expected_rewards + gamma * (mdp.transitions @ values)


def greedy_policy(mdp: FiniteMDP, values: Tensor, gamma: float) -> Tensor:
    """The greedy policy ``[S, A]`` by one step of lookahead; ties share their probability.

    Source: Sutton and Barto 2018, section 4.2, eq. 4.9.
    """
    return epsilon_greedy(action_values(mdp, values, gamma), ties=TIES)


def evaluate_policy(
    mdp: FiniteMDP,
    policy: Tensor,
    gamma: float,
    *,
    in_place: bool = False,
    sweeps: int | None = None,
    tolerance: float = 1e-10,
) -> Evaluation:
    r"""Iterative policy evaluation.

    .. math:: V(s) \leftarrow \sum_a \pi(a|s) \Bigl(r(s, a)
        + \gamma \sum_{s'} p(s'|s, a) V(s')\Bigr)

    Args:
        mdp: the process.
        policy: :math:`\pi`, probabilities.
        gamma: discount per step, in [0, 1].
        in_place: one array of values instead of two.
        sweeps: stop after as many, converged or not; ``None`` sweeps until convergence.
        tolerance: largest change of a value in the last sweep, in units of the largest value
            where that exceeds 1.
    Shape:
        policy: ``[S, A]``; values: ``[S]``
    Raises:
        ValueError: another shape, gamma out of range, or values that do not converge, as those
            of a policy that never terminates, without discounting.

    Source: Sutton and Barto 2018, section 4.1.
    """
    shape = mdp.expected_rewards.shape
    check_shape("policy", policy, shape, "each state and action")
    policy = policy.to(mdp.transitions.dtype)
    rewards = (policy * mdp.expected_rewards).sum(1)  # [S]
    step = torch.einsum("sa,sat->st", policy, mdp.transitions)  # [S, S]
    if gamma == 1.0 and sweeps is None:
        _check_sums(step, rewards)

    def backup(states: slice | int, values: Tensor) -> Tensor:
        return rewards[states] + gamma * (step[states] @ values)

    return _sweep(mdp, backup, gamma, in_place, sweeps, tolerance)


def policy_iteration(
    mdp: FiniteMDP, gamma: float, *, policy: Tensor | None = None, tolerance: float = 1e-10
) -> Solution:
    """Policy iteration: evaluate and improve, until the policy no longer changes.

    Args:
        mdp: the process.
        gamma: discount per step, in [0, 1].
        policy: the initial one ``[S, A]``; by default the equiprobable one, which terminates
            wherever any policy does.
        tolerance: of each evaluation.
    Raises:
        ValueError: as ``evaluate_policy``.

    Source: Sutton and Barto 2018, section 4.3.
    Deviates: equally good actions share their probability, so that it cannot alternate between
        two equally good policies.
    """
    policy = mdp.uniform_policy if policy is None else policy
    for improvements in range(1, MAX_SWEEPS):
        values = evaluate_policy(mdp, policy, gamma, tolerance=tolerance).values
        better = greedy_policy(mdp, values, gamma)
        if torch.equal(better, policy):
            return Solution(policy, values, improvements)
        policy = better
    raise ValueError(
        f"the policy has not converged after {MAX_SWEEPS} improvements: lower tolerance"
    )


def value_iteration(
    mdp: FiniteMDP,
    gamma: float,
    *,
    in_place: bool = False,
    sweeps: int | None = None,
    tolerance: float = 1e-10,
) -> Solution:
    r"""Value iteration.

    .. math:: V(s) \leftarrow \max_a r(s, a) + \gamma \sum_{s'} p(s'|s, a) V(s')

    Args:
        mdp: the process.
        gamma: discount per step, in [0, 1].
        in_place: one array of values instead of two.
        sweeps: stop after as many, converged or not; ``None`` sweeps until convergence.
        tolerance: largest change of a value in the last sweep, in units of the largest value
            where that exceeds 1.
    Raises:
        ValueError: gamma out of range, or values that do not converge.

    Source: Sutton and Barto 2018, section 4.4, eq. 4.10.
    """
    rewards = mdp.expected_rewards

    def backup(states: slice | int, values: Tensor) -> Tensor:
        return (rewards[states] + gamma * (mdp.transitions[states] @ values)).amax(-1)

    values, sweeps_taken = _sweep(mdp, backup, gamma, in_place, sweeps, tolerance)
    return Solution(greedy_policy(mdp, values, gamma), values, sweeps_taken)


def _check_sums(step: Tensor, rewards: Tensor) -> None:
    """Refuse rewards in recurrent states of the policy ``step [S, S]``: their sum diverges."""
    reached = (step > 0) | torch.eye(len(step), dtype=torch.bool)
    for _ in range(len(step).bit_length()):  # paths of twice the length
        reached = (reached.double() @ reached.double()) > 0
    recurrent = (~reached | reached.T).all(1)  # every state that it reaches leads back
    if (wrong := (recurrent & (rewards != 0)).nonzero()).numel():
        raise ValueError(
            f"gamma=1.0: the undiscounted return diverges, as the policy visits state "
            f"{int(wrong[0])} forever, with a reward each time; give a gamma below 1, or a policy "
            f"that terminates"
        )


def _sweep(
    mdp: FiniteMDP,
    backup: Callable[[slice | int, Tensor], Tensor],
    gamma: float,
    in_place: bool,
    sweeps: int | None,
    tolerance: float,
) -> Evaluation:
    """Apply ``backup(states, values)`` to all states until the values converge."""
    probability("gamma", gamma)
    limit = MAX_SWEEPS if sweeps is None else at_least_one("sweeps", sweeps)
    values = mdp.transitions.new_zeros(len(mdp.transitions))
    for sweep in range(1, limit + 1):
        old = values
        if in_place:
            values = old.clone()
            for state in range(len(values)):
                values[state] = backup(state, values)
        else:
            values = backup(slice(None), old)
        scale = max(1.0, values.abs().amax().item())
        if sweeps is None and (values - old).abs().amax() <= tolerance * scale:
            return Evaluation(values, sweep)
    if sweeps is None:
        raise not_converged(f"{limit} sweeps", gamma, "a policy that terminates")
    return Evaluation(values, limit)


def not_converged(passes: str, gamma: float, ending: str) -> ValueError:
    """The error about values that still change after so many passes.

    Args:
        passes: how many, and what they are called.
        gamma: discount per step.
        ending: what to give in place of a smaller discount.
    """
    advice = f"give a gamma below 1, or {ending}"
    return ValueError(f"values have not converged after {passes} with gamma={gamma}: {advice}")
