"""Replay buffers: transitions are stored as the agent acts and sampled to learn from.

B counts transitions of a sample, N those that are added at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_shape


class Transitions(NamedTuple):
    r"""Steps, or several steps as one, each apart from its episode.

    Args:
        observations: ``[B, *shape]``.
        actions: ``[B]``, or real ones ``[B, A]``.
        rewards: ``[B]``; of n steps, their discounted sum.
        next_observations: ``[B, *shape]``, after the n steps.
        terminated: bool ``[B]``, whether the episode terminated there.
        discounts: ``[B]``, gamma to the power of n.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    discounts: Tensor

    def targets(self, next_values: Tensor) -> Tensor:
        r"""Bootstrapped targets of the action values: ``[B]``.

        .. math:: y = r + \gamma^n (1 - d) V(s')

        with d = terminated.

        Args:
            next_values: V of ``next_observations``, ``[B]``.
        Raises:
            ValueError: of another shape, as ``[B, 1]``, whose targets would be ``[B, B]``.
        """
        check_shape("next_values", next_values, self.rewards.shape, "each transition")
        return torch.addcmul(self.rewards, self.discounts * ~self.terminated, next_values)


class ReplayBatch(NamedTuple):
    """What one update learns from.

    Args:
        transitions: fields ``[B, ...]``.
        weights: importance weights of their losses ``[B]``; 1 without priorities.
        indices: of the transitions in the buffer ``[B]``, to update their priorities by; ``None``
            without priorities.
    """

    transitions: Transitions
    weights: Tensor
    indices: Tensor | None = None

    def mean(self, losses: Tensor) -> Tensor:
        """Mean over the transitions by their weights: ``[..., B]`` -> ``[...]``."""
        return (losses if self.indices is None else self.weights * losses).mean(-1)


class ReplayBuffer:
    """The last ``capacity`` transitions, sampled uniformly.

    Storage is allocated once. When it is full, the oldest transitions are overwritten.

    Args:
        capacity: transitions it holds.
        observation_shape: of one observation.
        action_shape: of one action; ``()`` for a discrete one.
        observation_dtype: bytes for pixels, long for numbers of states.
        action_dtype: float for real actions; by default float where actions have a shape, else
            long.
        device: of the storage.
    Raises:
        ValueError: capacity below 1.

    Source: Lin 1992; Mnih et al. 2015.
    """

    def __init__(
        self,
        capacity: int,
        observation_shape: Sequence[int],
        action_shape: Sequence[int] = (),
        *,
        observation_dtype: torch.dtype = torch.float,
        action_dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = at_least_one("capacity", capacity)
        action_dtype = action_dtype or (torch.float if tuple(action_shape) else torch.long)

        def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        self.storage = Transitions(
            observations=zeros(observation_shape, observation_dtype),
            actions=zeros(action_shape, action_dtype),
            rewards=zeros((), torch.float),
            next_observations=zeros(observation_shape, observation_dtype),
            terminated=zeros((), torch.bool),
            discounts=zeros((), torch.float),
        )
        self.position, self.size = 0, 0

    def __len__(self) -> int:
        return self.size

    def add(self, transitions: Transitions) -> Tensor:
        """Store N transitions in place of the oldest.

        Returns:
            Their indices, ``[N]``.

        Raises:
            ValueError: more than the buffer holds, or a field of another shape or type.
        """
        count = len(transitions.rewards)
        if count > self.capacity:
            raise ValueError(f"{count} transitions at once: capacity={self.capacity} is less")
        pairs = tuple(zip(self.storage, transitions, strict=True))
        for name, (stored, new) in zip(Transitions._fields, pairs, strict=True):
            expected = (count, *stored.shape[1:])
            if new.shape != expected or new.dtype != stored.dtype:
                raise ValueError(
                    f"{name} {list(new.shape)} of {new.dtype}: give {list(expected)} of "
                    f"{stored.dtype}"
                )
        start, end = self.position, self.position + count
        indices = torch.arange(start, end)
        if end <= self.capacity:
            for stored, new in pairs:
                stored[start:end] = new
        else:
            indices %= self.capacity
            for stored, new in pairs:
                stored[start:] = new[: self.capacity - start]
                stored[: end - self.capacity] = new[self.capacity - start :]
        self.position = end % self.capacity
        self.size = min(self.size + count, self.capacity)
        return indices

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Transitions:
        """Sample uniformly, with replacement.

        Args:
            batch_size: B.
            generator: of random numbers, on the buffer's device.
        Raises:
            ValueError: an empty buffer, or B below 1.
        """
        at_least_one("batch_size", batch_size)
        check_filled(self.size)
        device = self.storage.rewards.device
        return self.take(
            torch.randint(self.size, (batch_size,), generator=generator, device=device)
        )

    def take(self, indices: Tensor) -> Transitions:
        """The transitions at ``indices [B]``."""
        return Transitions(*(stored.index_select(0, indices) for stored in self.storage))

    def state_dict(self) -> dict[str, Any]:
        """All transitions: tensors and whole numbers, a copy."""
        filled = {
            name: stored[: self.size].clone()
            for name, stored in zip(Transitions._fields, self.storage, strict=True)
        }
        return {**filled, "position": self.position, "capacity": self.capacity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: it is of another capacity, or of other shapes.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(
                f"the saved buffer has capacity={state['capacity']}, this one {self.capacity}: "
                f"build it as the saved one was"
            )
        for name, stored in zip(Transitions._fields, self.storage, strict=True):
            if state[name].shape[1:] != stored.shape[1:] or state[name].dtype != stored.dtype:
                raise ValueError(
                    f"saved {name} {list(state[name].shape)} of {state[name].dtype} do not fit "
                    f"{list(stored.shape)} of {stored.dtype}: is it a buffer of this environment?"
                )
        self.size, self.position = len(state["rewards"]), int(state["position"])
        for name, stored in zip(Transitions._fields, self.storage, strict=True):
            stored[: self.size] = state[name]


def check_filled(size: int) -> None:
    """Refuse to sample from an empty buffer.

    Raises:
        ValueError: ``size`` is 0.
    """
    if size == 0:
        raise ValueError("the replay buffer is empty: add transitions before sampling")
