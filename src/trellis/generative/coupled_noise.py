"""Which noise becomes which example."""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from trellis.checks import choose_from

Coupling = Literal["independent", "optimal"]


def couple(noise: Tensor, x: Tensor, coupling: Coupling) -> Tensor:
    """Noise in the order of the examples that it belongs to.

    Args:
        noise: ``[B, *shape]``.
        x: examples ``[B, *shape]``.
        coupling: ``independent`` leaves the order; ``optimal`` makes the sum of squared
            distances the smallest, on the CPU.
    Shape:
        -> ``[B, *shape]``
    Raises:
        ValueError: an unknown coupling.

    Source: Tong et al. 2024, section 3.3; Pooladian et al. 2023.

    >>> couple(torch.tensor([[5.0], [1.0]]), torch.tensor([[0.0], [4.0]]), "optimal")
    tensor([[1.],
            [5.]])
    """
    if choose_from("coupling", coupling, Coupling) == "independent":
        return noise
    cost = torch.cdist(x.flatten(1).float(), noise.flatten(1).float()).square()
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.from_numpy(columns).to(noise.device)]
