"""Memories of transitions: drawn evenly, or the surprising ones more often.

B counts transitions that are drawn, N those that are added at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, probability
from trellis.rl.sum_tree import SumTree


class Transitions(NamedTuple):
    r"""Steps, or several steps as one, each apart from its episode.

    Where they are drawn for U updates at once, each field is ``[U, B, ...]``.

    Args:
        observations: ``[B, *shape]``.
        actions: ``[B]``, or real ones ``[B, A]``.
        rewards: ``[B]``; of n steps, their discounted sum.
        next_observations: ``[B, *shape]``, after the n steps.
        terminated: bool ``[B]``, whether nothing follows.
        discounts: ``[B]``, gamma to the power of n.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor
    discounts: Tensor

    def targets(self, next_values: Tensor) -> Tensor:
        """What the values of the actions are to be, by those of what followed: ``[B]``.

        Args:
            next_values: V of ``next_observations``, ``[B]``.
        Raises:
            ValueError: of another shape, as ``[B, 1]``, whose targets would be ``[B, B]``.
        """
        if next_values.shape != self.rewards.shape:
            raise ValueError(
                f"next_values {list(next_values.shape)}: give one for each transition, "
                f"{list(self.rewards.shape)}"
            )
        return torch.addcmul(self.rewards, self.discounts * ~self.terminated, next_values)


class ReplayBuffer:
    """The last ``capacity`` transitions, drawn with equal probability.

    Memory is taken once. When it is full, the oldest are overwritten.

    Args:
        capacity: transitions it holds.
        observation_shape: of one observation.
        action_shape: of one action; ``()`` for a discrete one.
        observation_dtype: bytes for pixels, long for numbers of states.
        action_dtype: float for real actions; by default float where actions have a shape, else
            long.
        device: where the memory is.
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

        def room(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        self.storage = Transitions(
            observations=room(observation_shape, observation_dtype),
            actions=room(action_shape, action_dtype),
            rewards=room((), torch.float),
            next_observations=room(observation_shape, observation_dtype),
            terminated=room((), torch.bool),
            discounts=room((), torch.float),
        )
        self.position, self.size = 0, 0

    def __len__(self) -> int:
        return self.size

    def add(self, transitions: Transitions) -> Tensor:
        """Remember N transitions, at the cost of the oldest.

        Returns:
            Where they went, ``[N]``.

        Raises:
            ValueError: more than the memory holds, or a field of another shape or type.
        """
        count = len(transitions.rewards)
        if count > self.capacity:
            raise ValueError(f"{count} transitions at once: capacity={self.capacity} is less")
        for name, room, given in zip(Transitions._fields, self.storage, transitions, strict=True):
            wanted = (count, *room.shape[1:])
            if given.shape != wanted or given.dtype != room.dtype:
                raise ValueError(
                    f"{name} {list(given.shape)} of {given.dtype}: give {list(wanted)} of "
                    f"{room.dtype}"
                )
        start, end = self.position, self.position + count
        where = torch.arange(start, end)
        if end <= self.capacity:
            for room, given in zip(self.storage, transitions, strict=True):
                room[start:end] = given
        else:
            where %= self.capacity
            for room, given in zip(self.storage, transitions, strict=True):
                room[start:] = given[: self.capacity - start]
                room[: end - self.capacity] = given[self.capacity - start :]
        self.position = end % self.capacity
        self.size = min(self.size + count, self.capacity)
        return where

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> Transitions:
        """Draw with replacement.

        Args:
            batch_size: B.
            generator: of random numbers, on the memory's device.
        Raises:
            ValueError: nothing to draw from, or B below 1.
        """
        at_least_one("batch_size", batch_size)
        check_filled(self.size)
        device = self.storage.rewards.device
        return self.take(
            torch.randint(self.size, (batch_size,), generator=generator, device=device)
        )

    def take(self, where: Tensor) -> Transitions:
        """The transitions at ``where [B]``."""
        return Transitions(*(room.index_select(0, where) for room in self.storage))

    def state_dict(self) -> dict[str, Any]:
        """All it remembers: tensors and whole numbers, a copy."""
        filled = {
            name: room[: self.size].clone()
            for name, room in zip(Transitions._fields, self.storage, strict=True)
        }
        return {**filled, "position": self.position, "capacity": self.capacity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what another did.

        Raises:
            ValueError: it had another capacity, or other shapes.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(
                f"the saved memory has capacity={state['capacity']}, this one {self.capacity}: "
                f"build it as the saved one was"
            )
        for name, room in zip(Transitions._fields, self.storage, strict=True):
            if state[name].shape[1:] != room.shape[1:] or state[name].dtype != room.dtype:
                raise ValueError(
                    f"saved {name} {list(state[name].shape)} of {state[name].dtype} do not fit "
                    f"{list(room.shape)} of {room.dtype}: is it a memory of this environment?"
                )
        self.size, self.position = len(state["rewards"]), int(state["position"])
        for name, room in zip(Transitions._fields, self.storage, strict=True):
            room[: self.size] = state[name]


class PrioritizedSample(NamedTuple):
    """What ``PrioritizedReplay`` draws.

    Args:
        transitions: B of them.
        where: ``[B]``, to report their new errors by.
        weights: ``[B]``, to multiply the losses by; the largest is 1.
    """

    transitions: Transitions
    where: Tensor
    weights: Tensor


class PrioritizedReplay:
    r"""Transitions drawn in proportion to the power of their last error.

    .. math::
        P(i) = \frac{p_i^\alpha}{\sum_k p_k^\alpha}, \quad p_i = |\delta_i| + \epsilon, \quad
        w_i = \frac{(N P(i))^{-\beta}}{\max_j w_j}

    New ones get the largest priority so far, so that all are seen once.

    Args:
        buffer: of what is remembered; on the CPU.
        alpha: 0 draws evenly, 1 in proportion to the errors.
        epsilon: keeps a chance for those without error.
    Raises:
        ValueError: alpha outside [0, 1], epsilon not positive, a buffer that is not empty.

    Source: Schaul et al. 2016, sections 3.3 and 3.4, the proportional variant. The maximum is
    that of the weights which are drawn together.
    """

    def __init__(self, buffer: ReplayBuffer, alpha: float = 0.6, epsilon: float = 1e-6) -> None:
        self.alpha = probability("alpha", alpha)
        if epsilon <= 0:
            raise ValueError(f"epsilon={epsilon}: give a small positive number")
        if len(buffer):
            raise ValueError(f"buffer holds {len(buffer)} transitions: give an empty one")
        self.buffer, self.epsilon = buffer, epsilon
        self.tree, self.largest = SumTree(buffer.capacity), 1.0

    def __len__(self) -> int:
        return len(self.buffer)

    def add(self, transitions: Transitions) -> Tensor:
        """Remember N transitions, at the cost of the oldest; returns where they went."""
        where = self.buffer.add(transitions)
        self.tree.set(where, torch.full((len(where),), self.largest, dtype=torch.double))
        return where

    def sample(
        self, batch_size: int, beta: float, generator: torch.Generator | None = None
    ) -> PrioritizedSample:
        """Draw one from each of B parts of equal probability.

        Args:
            batch_size: B.
            beta: how much of the bias the weights take back, in [0, 1]: usually from 0.4 at the
                start to 1 at the end.
            generator: of random numbers.
        Raises:
            ValueError: nothing to draw from, B below 1, beta outside [0, 1].
        """
        at_least_one("batch_size", batch_size)
        probability("beta", beta)
        check_filled(len(self.buffer))
        parts = torch.rand(batch_size, generator=generator, dtype=torch.double)
        where = self.tree.find((torch.arange(batch_size) + parts) / batch_size * self.tree.total)
        chance = self.tree.get(where) / self.tree.total
        weights = (len(self.buffer) * chance) ** -beta
        return PrioritizedSample(self.buffer.take(where), where, (weights / weights.max()).float())

    def update(self, where: Tensor, errors: Tensor) -> None:
        """Tell what the errors are by now.

        Args:
            where: of a sample.
            errors: TD errors of either sign.
        Shape:
            ``[B]`` each
        Raises:
            ValueError: shapes differ, or an error that is not finite, which would be drawn for
                ever.
        """
        if where.shape != errors.shape:
            raise ValueError(
                f"where {list(where.shape)} and errors {list(errors.shape)}: give one error for "
                f"each transition"
            )
        errors = errors.detach().to("cpu", torch.double)
        if not bool(errors.isfinite().all()):
            raise ValueError("errors hold NaN or infinity: the loss has diverged")
        priorities = (errors.abs() + self.epsilon) ** self.alpha
        self.largest = max(self.largest, float(priorities.max()))
        self.tree.set(where, priorities)

    def state_dict(self) -> dict[str, Any]:
        """All it remembers and how urgently: tensors and numbers, a copy."""
        priorities = self.tree.get(torch.arange(len(self.buffer)))
        return {**self.buffer.state_dict(), "priorities": priorities, "largest": self.largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what another did.

        Raises:
            ValueError: it had another capacity, or other shapes.
        """
        self.buffer.load_state_dict(state)
        self.tree, self.largest = SumTree(self.buffer.capacity), float(state["largest"])
        self.tree.set(torch.arange(len(self.buffer)), state["priorities"])


def check_filled(size: int) -> None:
    """Something to draw from.

    Raises:
        ValueError: there is nothing.
    """
    if size == 0:
        raise ValueError("the memory is empty: add transitions before drawing any")
