"""Sparse codes in a given dictionary: least squares with an L1 penalty.

Legend: B examples of D entries, K atoms.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one, not_negative


def ista(x: Tensor, atoms: Tensor, penalty: float, num_steps: int = 100) -> Tensor:
    r"""Iterative shrinkage and thresholding from codes of 0.

    .. math:: \min_h \tfrac12 \lVert x - h D \rVert^2 + \lambda \lVert h \rVert_1: \quad
        h \leftarrow S_{\lambda / L}(h - \tfrac1L (h D - x) D^\top)

    with :math:`S_t` the soft threshold at t and L the largest eigenvalue of :math:`D D^\top`. The
    excess over the minimum falls as 1 / steps.

    Args:
        x: examples.
        atoms: the dictionary D.
        penalty: lambda.
        num_steps: how often.
    Shape:
        x ``[B, D]``, atoms ``[K, D]`` -> codes ``[B, K]``
    Raises:
        ValueError: a negative penalty, no steps, or examples and atoms of different sizes.

    Source: Daubechies et al. 2004; Beck and Teboulle 2009, eq. 1.4.

    >>> ista(torch.tensor([[3.0, -0.5]]), torch.eye(2), penalty=1.0)
    tensor([[2., -0.]])
    """
    step, code = _shrinkage(x, atoms, penalty, num_steps), x.new_zeros(len(x), len(atoms))
    for _ in range(num_steps):
        code = step(code)
    return code


def fista(x: Tensor, atoms: Tensor, penalty: float, num_steps: int = 100) -> Tensor:
    r"""``ista`` with momentum: the excess over the minimum falls as the squared inverse of steps.

    .. math:: t' = \tfrac12 (1 + \sqrt{1 + 4 t^2}), \quad
        y = h' + \tfrac{t - 1}{t'} (h' - h), \quad h'' = p(y)

    where p is the step of ``ista``.

    Source: Beck and Teboulle 2009, section 4.

    >>> fista(torch.tensor([[3.0, -0.5]]), torch.eye(2), penalty=1.0)
    tensor([[2., -0.]])
    """
    step, code = _shrinkage(x, atoms, penalty, num_steps), x.new_zeros(len(x), len(atoms))
    ahead, momentum = code, 1.0
    for _ in range(num_steps):
        before, code = code, step(ahead)
        after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = code + (momentum - 1) / after * (code - before)
        momentum = after
    return code


def _shrinkage(
    x: Tensor, atoms: Tensor, penalty: float, num_steps: int
) -> Callable[[Tensor], Tensor]:
    """One step from codes to codes, after checks."""
    not_negative("penalty", penalty)
    at_least_one("num_steps", num_steps)
    if x.dim() != 2 or atoms.dim() != 2 or x.size(1) != atoms.size(1):
        raise ValueError(
            f"x {list(x.shape)} and atoms {list(atoms.shape)}: give [B, D] and [K, D]"
        )
    products, gram = x @ atoms.t(), atoms @ atoms.t()
    rate = 1 / torch.linalg.matrix_norm(gram, ord=2)

    def step(code: Tensor) -> Tensor:
        moved = code - rate * (code @ gram - products)
        return moved.sign() * F.relu(moved.abs() - rate * penalty)

    return step
