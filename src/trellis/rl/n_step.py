"""N-step transitions, assembled while environments run."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.replay import Transitions


class NStepTransitions:
    r"""Turns steps into transitions over n rewards, or fewer where the episode ends before.

    .. math:: r = \sum_{k=0}^{m-1} \gamma^k r_{t+k}, \quad s' = s_{t+m}, \quad
        \text{discount} = \gamma^m, \quad m \le n

    Each step of each environment begins one transition, which is returned exactly once.

    Args:
        n: rewards of a transition; 1 returns each step at once.
        gamma: discount per step, in [0, 1].
    Raises:
        ValueError: n below 1, gamma outside [0, 1].

    Source: Sutton and Barto 2018, eq. 7.1; Hessel et al. 2018 (in a replay buffer).
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.n, self.gamma = at_least_one("n", n), probability("gamma", gamma)
        # Incomplete transitions of all environments, oldest first, each with a mask of the
        # environments in which it is still incomplete.
        self.pending: deque[tuple[Transitions, Tensor]] = deque()

    def push(
        self,
        observations: Tensor,
        actions: Tensor,
        rewards: Tensor,
        next_observations: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        mask: Tensor | None = None,
    ) -> Transitions:
        """Add one step of N environments.

        Args:
            observations: before the step, ``[N, *shape]``.
            actions: taken.
            rewards: received.
            next_observations: after the step; the final one where the episode ended.
            terminated: bool, whether the episode reached a terminal state.
            truncated: bool, whether it was truncated.
            mask: bool, false where the step only reset the environment; all true by default.
        Returns:
            The K transitions that are now complete, oldest first; K may be 0.

        Shape:
            ``[N, ...]`` each -> ``[K, ...]``
        """
        if self.n == 1:
            step = (observations, actions, rewards, next_observations, terminated)
            new = Transitions(*step, torch.full_like(rewards, self.gamma))
            if mask is None or bool(mask.all()):
                return new
            return Transitions(*(field[mask] for field in new))
        steps = torch.ones_like(terminated) if mask is None else mask
        # Copies: an environment may overwrite this observation with its next one.
        new = Transitions(
            observations.clone(),
            actions.clone(),
            torch.zeros_like(rewards),
            next_observations,
            torch.zeros_like(terminated),
            torch.ones_like(rewards),
        )
        self.pending.append((new, steps.clone()))
        ended = terminated | truncated
        complete: list[Transitions] = []
        for index, (old, pending) in enumerate(self.pending):
            # After an end nothing is pending in an environment, so a masked step adds to nothing.
            extended = Transitions(
                old.observations,
                old.actions,
                old.rewards + old.discounts * rewards,
                next_observations,
                terminated,
                old.discounts * self.gamma,
            )
            full = index == 0 and len(self.pending) == self.n
            ready = pending if full else pending & ended
            complete.append(Transitions(*(field[ready] for field in extended)))
            self.pending[index] = (extended, pending & ~ready)
        if len(self.pending) == self.n:
            self.pending.popleft()
        return Transitions(*(torch.cat(fields) for fields in zip(*complete, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """The incomplete transitions: a list of dictionaries of tensors."""
        return {
            "waiting": [
                {**{k: v.clone() for k, v in old._asdict().items()}, "waits": pending.clone()}
                for old, pending in self.pending
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: it is of a larger n.
        """
        if len(state["waiting"]) >= self.n and state["waiting"]:
            raise ValueError(
                f"the saved transitions span n={len(state['waiting']) + 1} steps or more, these "
                f"n={self.n}: give n_step as it was"
            )
        self.pending = deque(
            (Transitions(*(saved[name] for name in Transitions._fields)), saved["waits"])
            for saved in state["waiting"]
        )
