"""Tabular policies: a row of probabilities for each state. Legend: S states, A actions."""

import torch
from torch import Tensor

from trellis.checks import probability


def epsilon_greedy(values: Tensor, epsilon: float = 0.0, ties: float = 0.0) -> Tensor:
    r"""Probabilities of the actions: a best one, or with probability epsilon any.

    .. math:: \pi(a|s) = \frac{\epsilon}{A} + (1 - \epsilon) \frac{1[a \in M_s]}{|M_s|},
        \quad M_s = \arg\max_a Q(s, a)

    Actions that are equally good share their probability.

    Args:
        values: Q, one row for each state.
        epsilon: share of the steps that explore.
        ties: values closer than this to the largest count as equal to it.
    Shape:
        ``[..., A]`` -> ``[..., A]``
    Raises:
        ValueError: epsilon outside [0, 1].

    Source: Sutton and Barto 2018, sections 2.2 and 4.2 (shared ties).

    >>> epsilon_greedy(torch.tensor([1.0, 3.0, 3.0, 0.0]), epsilon=0.2)
    tensor([0.0500, 0.4500, 0.4500, 0.0500])
    """
    probability("epsilon", epsilon)
    best = (values >= values.amax(-1, keepdim=True) - ties).to(values.dtype)
    return epsilon / values.size(-1) + (1 - epsilon) * best / best.sum(-1, keepdim=True)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Sample an action from each row of probabilities.

    Shape:
        ``[..., A]`` -> ``[...]``, of torch.long
    """
    rows = probabilities.reshape(-1, probabilities.size(-1))
    return torch.multinomial(rows, 1, generator=generator).view(probabilities.shape[:-1])
