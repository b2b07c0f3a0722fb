"""Optimisers with weight decay for matrices only."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import not_negative


class MatrixDecayAdamW(torch.optim.AdamW):
    """AdamW that decays matrices, but neither biases nor the gains of norms.

    Args:
        params: parameters of a network, or groups of them with options of their own.
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
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        fused: bool = True,
    ) -> None:
        groups: list[Any] = [*params]
        if not any(isinstance(group, dict) for group in groups):
            groups = [{"params": groups}]
        parts = [part for group in groups for part in _divided(group, weight_decay)]
        super().__init__(parts, lr=lr, betas=betas, eps=eps, fused=fused)


def _divided(group: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """The matrices of a group, and the rest without decay; AdamW rejects an empty group."""
    parameters: list[nn.Parameter] = [*group["params"]]
    matrices = [each for each in parameters if each.dim() > 1]
    others = [each for each in parameters if each.dim() <= 1]
    decayed = {"weight_decay": weight_decay, **group, "params": matrices}
    kept = {**group, "params": others, "weight_decay": 0.0}
    return [part for part in (decayed, kept) if part["params"]]


class MatrixDecayLBFGS(torch.optim.LBFGS):
    r"""L-BFGS for batches that are the whole data, with an L2 penalty on matrices only.

    .. math:: L + \tfrac{\lambda}{2} \sum_W \lVert W \rVert^2

    With linear models this is ridge and logistic regression, to their optimum.

    Args:
        params: parameters of a network.
        lr: 1 where a line search chooses the length of each step.
        weight_decay: the factor lambda, of the parameters with two or more dimensions.
        max_iter: iterations in each step of the trainer.
        history_size: steps that the Hessian is estimated from.
        tolerance_grad: largest entry of the gradient at which a step ends early.

    Source: Liu and Nocedal 1989.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1.0,
        weight_decay: float = 0.0,
        max_iter: int = 100,
        history_size: int = 20,
        tolerance_grad: float = 1e-7,
    ) -> None:
        parameters = [*params]
        super().__init__(
            parameters,
            lr=lr,
            max_iter=max_iter,
            history_size=history_size,
            tolerance_grad=tolerance_grad,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
        self.weight_decay = not_negative("weight_decay", weight_decay)
        self.matrices = [parameter for parameter in parameters if parameter.dim() > 1]

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Up to ``max_iter`` iterations.

        Args:
            closure: computes the loss and its gradients.
        """

        def penalised() -> Tensor:
            loss = closure()
            with torch.no_grad():
                for matrix in self.matrices:
                    assert matrix.grad is not None, "the closure computes gradients"
                    matrix.grad.add_(matrix, alpha=self.weight_decay)
                    loss = loss + 0.5 * self.weight_decay * matrix.square().sum()
            return loss

        return super().step(penalised)
