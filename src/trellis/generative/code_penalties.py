"""Regularisers of the code of an autoencoder: sparsity and contraction.

Legend: B examples, L dimensions of the code.
"""

import torch
from torch import Tensor

from trellis.checks import can_read, check_unit_interval, probability


def activation_kl(code: Tensor, target: float) -> Tensor:
    r"""KL divergence of the mean activation of each unit from a small target, in nats.

    .. math:: \sum_l \rho \ln\frac{\rho}{\hat\rho_l} + (1 - \rho) \ln\frac{1 - \rho}
        {1 - \hat\rho_l}, \quad \hat\rho_l = \frac1B \sum_b h_{bl}

    Args:
        code: activations h, in [0, 1], as after a sigmoid.
        target: :math:`\rho`, in (0, 1).
    Shape:
        code ``[B, L]`` -> scalar
    Raises:
        ValueError: a target outside (0, 1), or activations outside [0, 1] (not checked on a GPU,
            where it would force a synchronisation).

    Source: Ng 2011, "Sparse autoencoder", section 3 (CS294A lecture notes).

    >>> activation_kl(torch.full((5, 3), 0.25), 0.25)
    tensor(0.)
    """
    if probability("target", target) in (0, 1):
        raise ValueError(f"target={target}: give a mean activation above 0 and below 1")
    if can_read(code):
        fix = "give code_activation='sigmoid', or no target for an L1 penalty"
        check_unit_interval("code", code, f"a target of mean activation takes [0, 1]; {fix}")
    smallest = torch.finfo(code.dtype).eps  # keeps the gradient of a unit that is always off
    mean = code.mean(0).clamp(smallest, 1 - smallest)
    return (
        target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()
    ).sum()


def squared_jacobian(code: Tensor, x: Tensor) -> Tensor:
    r"""Squared Frobenius norm of the Jacobian of the code, differentiable.

    .. math:: \sum_{l, d} \left(\frac{\partial h_l}{\partial x_d}\right)^2

    Exact, by one vectorised backward pass for each dimension of the code; for one sigmoid layer
    it equals :math:`\sum_l (h_l (1 - h_l))^2 \sum_d W_{ld}^2`.

    Args:
        code: computed from x, for each example independently (no batch norm).
        x: examples, with ``requires_grad``.
    Shape:
        code ``[B, L]``, x ``[B, *shape]`` -> ``[B]``

    Source: Rifai et al. 2011, eq. 4.

    >>> x = torch.ones(1, 3, requires_grad=True)
    >>> squared_jacobian(x.square(), x)
    tensor([12.], grad_fn=<SumBackward1>)
    """
    rows = torch.eye(code.size(1), dtype=code.dtype, device=code.device)
    rows = rows[:, None, :].expand(-1, len(code), -1)  # [L, B, L]
    (jacobian,) = torch.autograd.grad(
        code, x, rows, create_graph=True, is_grads_batched=True
    )  # [L, B, *shape]
    return jacobian.square().flatten(2).sum((0, 2))
