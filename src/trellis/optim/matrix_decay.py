"""AdamW with weight decay for matrices only."""

from collections.abc import Iterable

import torch
from torch import nn


class MatrixDecayAdamW(torch.optim.AdamW):
    """AdamW that decays matrices, but neither biases nor the gains of norms.

    Args:
        params: parameters of a network.
        lr: learning rate.
        betas: decay rates of the two moment estimates.
        eps: added to the square root of the second moment.
        weight_decay: of the parameters with two or more dimensions.
        fused: one kernel for all parameters, on the CPU as well.

    Source: Radford et al. 2018, section 4.1 ("on all non bias or gain weights").

    >>> optimizer = MatrixDecayAdamW(torch.nn.Linear(2, 2).parameters(), weight_decay=0.1)
    >>> [group["weight_decay"] for group in optimizer.param_groups]
    [0.1, 0.0]
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        fused: bool = True,
    ) -> None:
        matrices: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        for parameter in params:
            (matrices if parameter.dim() > 1 else vectors).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        # AdamW rejects an empty group.
        groups = [group for group in groups if group["params"]]
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=fused)
