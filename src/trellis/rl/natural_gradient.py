r"""The gradient by what it does to a policy, not to its parameters: :math:`F^{-1} g`.

F, the Fisher matrix, has a row and a column for each of P parameters and is never made: it is
multiplied by vectors, and solved for by conjugate gradients.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trellis.checks import at_least_one


def fisher_vector_product(
    kl: Tensor, parameters: Sequence[Tensor], damping: float = 0.0
) -> Callable[[Tensor], Tensor]:
    r"""Multiplication by the Fisher matrix, as the curvature of a divergence.

    .. math:: F v = \nabla (v^\top \nabla \, KL(\pi_\text{old} \,\|\, \pi_\theta)) \quad
        \text{at } \theta = \text{old}

    Two passes backwards for each product; the first gradient is made once.

    Args:
        kl: mean over the states, between the distributions detached and as they are; it is 0, but
            its curvature is F.
        parameters: theta.
        damping: added to the diagonal, which keeps flat directions from long steps.
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
        along = torch.autograd.grad(
            gradient @ vector,
            parameters,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return flatten(along) + damping * vector

    return product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    target: Tensor,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Tensor:
    r"""Solves :math:`A x = b` for a symmetric positive A of which only products are known.

    In P iterations it is exact up to rounding, and close in far fewer if the eigenvalues of A lie
    in a few heaps. Where A is singular but b is in its range, it finds the shortest solution.

    Args:
        product: from x to A x.
        target: b.
        iterations: at most, a product each.
        tolerance: of the squared length of what is left, as a share of that of b.
    Shape:
        ``[P]`` -> ``[P]``
    Raises:
        ValueError: iterations below 1.

    Source: Hestenes and Stiefel 1952; Nocedal and Wright 2006, algorithm 5.2.

    >>> conjugate_gradient(lambda x: torch.tensor([2.0, 4.0]) * x, torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    at_least_one("iterations", iterations)
    solution, rest = torch.zeros_like(target), target.clone()
    direction, left = rest.clone(), rest @ rest
    enough = tolerance * float(left)
    for _ in range(iterations):
        if float(left) <= enough:
            break
        image = product(direction)
        curvature = direction @ image
        # Rounding can leave a rest outside the range of a singular A, where no step is right.
        if float(curvature) <= 0:
            break
        length = left / curvature
        solution = solution + length * direction
        rest = rest - length * image
        before, left = left, rest @ rest
        direction = rest + left / before * direction
    return solution


def trust_region_step(
    direction: Tensor, product: Callable[[Tensor], Tensor], max_kl: float
) -> Tensor:
    r"""A direction made so long that the policy changes by ``max_kl``, to second order.

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
    # Where nothing is to be gained the direction is zero, and so is the step.
    return direction * (2 * max_kl / curvature.clamp(min=torch.finfo(direction.dtype).tiny)).sqrt()


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all entries, in order: ``[P]``."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
