r"""The natural gradient :math:`F^{-1} g`, steepest in the change of the policy itself.

F, the Fisher matrix, has a row and a column for each of P parameters and is never formed: only
its products with vectors are, and conjugate gradients solve for its inverse.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trellis.checks import at_least_one


def fisher_vector_product(
    kl: Tensor, parameters: Sequence[Tensor], damping: float = 0.0
) -> Callable[[Tensor], Tensor]:
    r"""Products with the Fisher matrix, the second derivative of a divergence.

    .. math:: F v = \nabla (v^\top \nabla \, KL(\pi_\text{old} \,\|\, \pi_\theta)) \quad
        \text{at } \theta = \text{old}

    The gradient is computed once, and each product is a backward pass through its graph.

    Args:
        kl: mean over the states of the divergence of the distributions from themselves, the first
            one detached; it is 0, but its second derivative is F.
        parameters: theta.
        damping: added to the diagonal, which limits steps along flat directions.
    Returns:
        A function from v ``[P]`` to ``F v + damping v``.

    Raises:
        ValueError: a divergence that depends on no parameter.

    Source: Pearlmutter 1994; Schulman et al. 2015, appendix C.1.
    """
    parameters = list(parameters)
    if not kl.requires_grad:
        raise ValueError("kl has no gradient: detach only the first of its two distributions")
    gradient = flatten(
        torch.autograd.grad(
            kl, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
    )

    def product(vector: Tensor) -> Tensor:
        derivative = torch.autograd.grad(
            gradient @ vector,
            parameters,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return flatten(derivative) + damping * vector

    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    target: Tensor,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Tensor:
    r"""Solves :math:`A x = b` for a symmetric positive definite A, given by its products.

    In P iterations it is exact up to rounding, and close in far fewer if the eigenvalues of A are
    clustered. Where A is singular but b is in its range, it finds the shortest solution.

    Args:
        product: from x to A x.
        target: b.
        iterations: at most, one product each.
        tolerance: of the squared norm of the residual, as a share of that of b.
    Shape:
        ``[P]`` -> ``[P]``
    Raises:
        ValueError: iterations below 1.

    Source: Hestenes and Stiefel 1952; Nocedal and Wright 2006, algorithm 5.2.

    >>> conjugate_gradient(lambda x: torch.tensor([2.0, 4.0]) * x, torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    at_least_one("iterations", iterations)
    solution, residual = torch.zeros_like(target), target.clone()
    direction, squared = residual.clone(), residual @ residual
    enough = tolerance * float(squared)
    for _ in range(iterations):
        if float(squared) <= enough:
            break
        image = product(direction)
        curvature = direction @ image
        # Rounding can leave a residual outside the range of a singular A, where no step is right.
        if float(curvature) <= 0:
            break
        length = squared / curvature
        solution = solution + length * direction
        residual = residual - length * image
        before, squared = squared, residual @ residual
        direction = residual + squared / before * direction
    return solution


def trust_region_step(
    direction: Tensor, product: Callable[[Tensor], Tensor], max_kl: float
) -> Tensor:
    r"""A direction scaled so that the policy changes by ``max_kl``, to second order.

    .. math:: \Delta\theta = x \sqrt{2 \epsilon / (x^\top F x)}, \quad x = F^{-1} g

    Args:
        direction: x.
        product: from v to F v.
        max_kl: epsilon, in nats.
    Shape:
        ``[P]`` -> ``[P]``
    Raises:
        ValueError: ``max_kl`` not positive.

    Source: Kakade 2001; Schulman et al. 2015, appendix C.
    """
    if max_kl <= 0:
        raise ValueError(f"max_kl={max_kl}: give a positive number of nats")
    curvature = direction @ product(direction)
    # A zero direction, where nothing can be gained, gives a zero step.
    return direction * (2 * max_kl / curvature.clamp(min=torch.finfo(direction.dtype).tiny)).sqrt()


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all entries, in order: ``[P]``."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
