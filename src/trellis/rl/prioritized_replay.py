"""Prioritized replay: transitions with large TD errors are sampled more often.

B counts transitions of a sample, N those that are stored.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trellis.checks import at_least_one, check_same_shape, probability
from trellis.rl.replay import ReplayBatch, ReplayBuffer, Transitions, check_filled
from trellis.rl.sum_tree import SumTree


class PrioritizedReplay:
    r"""Transitions sampled in proportion to a power of their last TD error.

    .. math::
        P(i) = \frac{p_i^\alpha}{\sum_k p_k^\alpha}, \quad p_i = |\delta_i| + \epsilon, \quad
        w_i = \frac{(N P(i))^{-\beta}}{\max_j w_j}

    New transitions get the largest priority so far, so that each is likely to be sampled soon.

    Args:
        buffer: of the transitions; on the CPU.
        alpha: 0 samples uniformly, 1 in proportion to the errors.
        epsilon: keeps the probability of transitions without error above 0.
    Raises:
        ValueError: alpha outside [0, 1], epsilon not positive, a buffer that is not empty.

    Source: Schaul et al. 2016, sections 3.3 and 3.4, the proportional variant. The maximum is
    taken over the weights of one sample.
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
        """Store transitions in place of the oldest; returns their indices."""
        indices = self.buffer.add(transitions)
        self.tree.set(indices, torch.full((len(indices),), self.largest, dtype=torch.double))
        return indices

    def sample(
        self, batch_size: int, beta: float, generator: torch.Generator | None = None
    ) -> ReplayBatch:
        """Sample one transition from each of B strata of equal probability.

        Args:
            batch_size: B.
            beta: how far the weights correct the bias of the sampling, in [0, 1]: usually from
                0.4 at the start to 1 at the end.
            generator: of random numbers.
        Raises:
            ValueError: an empty buffer, B below 1, beta outside [0, 1].
        """
        at_least_one("batch_size", batch_size)
        probability("beta", beta)
        check_filled(len(self.buffer))
        offsets = torch.rand(batch_size, generator=generator, dtype=torch.double)
        mass = (torch.arange(batch_size) + offsets) / batch_size * self.tree.total
        indices = self.tree.find(mass)
        probs = self.tree.get(indices) / self.tree.total
        weights = (len(self.buffer) * probs) ** -beta
        weights = (weights / weights.max()).float()
        return ReplayBatch(self.buffer.take(indices), weights, indices)

    def update(self, indices: Tensor, errors: Tensor) -> None:
        """Set the priorities of a sample by its new TD errors.

        Args:
            indices: of the sample.
            errors: TD errors of either sign.
        Shape:
            ``[B]`` each
        Raises:
            ValueError: shapes differ, or an error is not finite, which would make its transition
                the only one that is ever sampled.
        """
        check_same_shape("give one error for each transition", indices=indices, errors=errors)
        errors = errors.detach().to("cpu", torch.double)
        if not bool(errors.isfinite().all()):
            raise ValueError("errors hold NaN or infinity: the loss has diverged")
        priorities = (errors.abs() + self.epsilon) ** self.alpha
        self.largest = max(self.largest, float(priorities.max()))
        self.tree.set(indices, priorities)

    def state_dict(self) -> dict[str, Any]:
        """All transitions and their priorities: tensors and numbers, a copy."""
        priorities = self.tree.get(torch.arange(len(self.buffer)))
        return {**self.buffer.state_dict(), "priorities": priorities, "largest": self.largest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: it is of another capacity, or of other shapes.
        """
        self.buffer.load_state_dict(state)
        self.tree, self.largest = SumTree(self.buffer.capacity), float(state["largest"])
        self.tree.set(torch.arange(len(self.buffer)), state["priorities"])
