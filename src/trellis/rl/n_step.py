"""Several steps of an episode as one transition, made while environments run."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.replay import Transitions


class NStepTransitions:
    r"""Waits for n rewards, or the end of the episode, before it hands a transition on.

    .. math:: r = \sum_{k=0}^{m-1} \gamma^k r_{t+k}, \quad s' = s_{t+m}, \quad
        \text{discount} = \gamma^m, \quad m \le n

    Each step of each environment begins one transition, which is handed on exactly once.

    Args:
        n: rewards to wait for; 1 hands on each step at once.
        gamma: discount per step, in [0, 1].
    Raises:
        ValueError: n below 1, gamma outside [0, 1].

    Source: Sutton and Barto 2018, eq. 7.1; Hessel et al. 2018 (in a replay memory).
    """

    def __init__(self, n: int, gamma: float) -> None:
        self.n, self.gamma = at_least_one("n", n), probability("gamma", gamma)
        # Those that wait, oldest first, each with the environments in which it still does.
        self.waiting: deque[tuple[Transitions, Tensor]] = deque()

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
        """Take one step of N environments.

        Args:
            observations: before the step, ``[N, *shape]``.
            actions: taken.
            rewards: for it.
            next_observations: after the step; the final one where the episode ended.
            terminated: bool, whether the episode came to an end by itself.
            truncated: bool, whether it was broken off.
            mask: bool, false where the step only began a new episode; all true by default.
        Returns:
            The transitions that are complete, from the oldest on: K, which may be 0.

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
        # Copies, for an environment may write its next observation over this one.
        new = Transitions(
            observations.clone(),
            actions.clone(),
            torch.zeros_like(rewards),
            next_observations,
            torch.zeros_like(terminated),
            torch.ones_like(rewards),
        )
        self.waiting.append((new, steps.clone()))
        ended = terminated | truncated
        ready: list[Transitions] = []
        for index, (old, waits) in enumerate(self.waiting):
            # After an end nobody waits in an environment, so a masked step adds to nothing.
            grown = Transitions(
                old.observations,
                old.actions,
                old.rewards + old.discounts * rewards,
                next_observations,
                terminated,
                old.discounts * self.gamma,
            )
            full = index == 0 and len(self.waiting) == self.n
            done = waits if full else waits & ended
            ready.append(Transitions(*(field[done] for field in grown)))
            self.waiting[index] = (grown, waits & ~done)
        if len(self.waiting) == self.n:
            self.waiting.popleft()
        return Transitions(*(torch.cat(fields) for fields in zip(*ready, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Those that wait: a list of dictionaries of tensors."""
        return {
            "waiting": [
                {**{k: v.clone() for k, v in old._asdict().items()}, "waits": waits.clone()}
                for old, waits in self.waiting
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another stopped.

        Raises:
            ValueError: it waited for more steps than this one does.
        """
        if len(state["waiting"]) >= self.n and state["waiting"]:
            raise ValueError(
                f"the saved state waits for {len(state['waiting']) + 1} steps or more: n={self.n} "
                f"is less"
            )
        self.waiting = deque(
            (Transitions(*(saved[name] for name in Transitions._fields)), saved["waits"])
            for saved in state["waiting"]
        )
