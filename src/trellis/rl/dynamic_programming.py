r"""Finite Markov decision processes that are known, solved by sweeps over their states.

Legend: S states, A actions. A state that every action leaves where it is, without a reward, is
terminal; sweeps start from values of 0, so its value stays 0, also without a discount. Functions
that sweep two arrays write all new values from the old ones; in place each state sees what this
sweep has already written, which mostly takes fewer sweeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.policies import epsilon_greedy

TIES = 1e-9  # actions whose values differ by less are equally good
MAX_SWEEPS = 1_000_000  # a random walk along the cliff takes 100,000 to settle


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
                f"transitions of state {state}, action {action} are no probabilities: they sum to "
                f"{self.transitions[state, action].sum().item():.4g}"
            )

    @property
    def expected_rewards(self) -> Tensor:
        r""":math:`r(s, a) = \sum_{s'} p(s'|s, a) r(s, a, s')` as ``[S, A]``."""
        if self.rewards.dim() == 2:
            return self.rewards
        return (self.transitions * self.rewards).sum(-1)

    @property
    def terminal(self) -> Tensor:
        """Where nothing happens any more, bool ``[S]``."""
        stays = (self.transitions.diagonal(dim1=0, dim2=2) == 1).all(0)  # of [A, S]
        return stays & (self.expected_rewards == 0).all(1)

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
    """The best policy ``[S, A]`` (equally good actions share), its values ``[S]``, and sweeps.

    For policy iteration ``sweeps`` counts the improvements.
    """

    policy: Tensor
    values: Tensor
    sweeps: int


def action_values(mdp: FiniteMDP, values: Tensor, gamma: float) -> Tensor:
    r"""One look ahead.

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
    """The policy ``[S, A]`` of the best looks ahead; equally good actions share.

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

    .. math:: V(s) \leftarrow \sum_a \pi(a|s) \Big(r(s, a)
        + \gamma \sum_{s'} p(s'|s, a) V(s')\Big)

    Args:
        mdp: the process.
        policy: :math:`\pi`, probabilities.
        gamma: discount per step, in [0, 1].
        in_place: one array of values instead of two.
        sweeps: stop after as many, at whatever the values are; ``None`` sweeps until they stay.
        tolerance: largest change of a value in the last sweep, in units of the largest value
            where that exceeds 1.
    Shape:
        policy: ``[S, A]``; values: ``[S]``
    Raises:
        ValueError: another shape, gamma out of range, or values that do not settle, as those
            without discount of a policy that never ends.

    Source: Sutton and Barto 2018, section 4.1.
    """
    if policy.shape != mdp.expected_rewards.shape:
        raise ValueError(
            f"policy {list(policy.shape)}: give {list(mdp.expected_rewards.shape)}, a row of "
            f"probabilities for each state"
        )
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
    """Evaluate, be greedy, until the policy stays.

    Args:
        mdp: the process.
        gamma: discount per step, in [0, 1].
        policy: the first one ``[S, A]``; the equiprobable by default, which without discount ends
            wherever any policy does.
        tolerance: of each evaluation.
    Raises:
        ValueError: as ``evaluate_policy``.

    Source: Sutton and Barto 2018, section 4.3.
    Deviates: equally good actions share their probability, so two policies cannot take turns for
        ever.
    """
    policy = mdp.uniform_policy if policy is None else policy
    for improvements in range(1, MAX_SWEEPS):
        values = evaluate_policy(mdp, policy, gamma, tolerance=tolerance).values
        better = greedy_policy(mdp, values, gamma)
        if torch.equal(better, policy):
            return Solution(policy, values, improvements)
        policy = better
    raise ValueError(f"the policy still changes after {MAX_SWEEPS} improvements: lower tolerance")


def value_iteration(
    mdp: FiniteMDP,
    gamma: float,
    *,
    in_place: bool = False,
    sweeps: int | None = None,
    tolerance: float = 1e-10,
) -> Solution:
    r"""Sweeps of the best look ahead.

    .. math:: V(s) \leftarrow \max_a r(s, a) + \gamma \sum_{s'} p(s'|s, a) V(s')

    Args:
        mdp: the process.
        gamma: discount per step, in [0, 1].
        in_place: one array of values instead of two.
        sweeps: stop after as many, at whatever the values are; ``None`` sweeps until they stay.
        tolerance: largest change of a value in the last sweep, in units of the largest value
            where that exceeds 1.
    Raises:
        ValueError: gamma out of range, or values that do not settle.

    Source: Sutton and Barto 2018, section 4.4, eq. 4.10.
    """
    rewards = mdp.expected_rewards

    def backup(states: slice | int, values: Tensor) -> Tensor:
        return (rewards[states] + gamma * (mdp.transitions[states] @ values)).amax(-1)

    values, done = _sweep(mdp, backup, gamma, in_place, sweeps, tolerance)
    return Solution(greedy_policy(mdp, values, gamma), values, done)


def _check_sums(step: Tensor, rewards: Tensor) -> None:
    """Without discount no state may pay that the policy ``step [S, S]`` visits for ever."""
    reached = (step > 0) | torch.eye(len(step), dtype=torch.bool)
    for _ in range(len(step).bit_length()):  # each time twice as far
        reached = (reached.double() @ reached.double()) > 0
    for_ever = (~reached | reached.T).all(1)  # whatever it reaches leads back
    if (wrong := (for_ever & (rewards != 0)).nonzero()).numel():
        raise ValueError(
            f"gamma=1.0: the policy visits state {int(wrong[0])} for ever and is paid each time; "
            f"give a gamma below 1, or a policy that ends"
        )


def _sweep(
    mdp: FiniteMDP,
    backup: Callable[[slice | int, Tensor], Tensor],
    gamma: float,
    in_place: bool,
    sweeps: int | None,
    tolerance: float,
) -> Evaluation:
    """``backup(states, values)`` of all states, until the values stay."""
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
        raise ValueError(
            f"values still change after {limit} sweeps with gamma={gamma}: give a gamma below 1, "
            f"or a policy that ends"
        )
    return Evaluation(values, limit)
