"""All that touches private names of torch; no other file does.

Optimisers of torch rest on these functions, which run over many small tensors at once; there is
no public form of them. Each has a test in ``test_torch_private.py``.
"""

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...] | list[Tensor]


def total_norm(tensors: Tensors) -> Tensor:
    """The 2-norm of all entries together.

    ``torch.nn.utils.get_total_norm`` sorts the tensors by device and type first, for half of its
    time.
    """
    return torch.stack(torch._foreach_norm(tensors)).norm()


def scale_(tensors: Tensors, factor: Tensor) -> None:
    """Multiply each tensor by the same number, in place."""
    torch._foreach_mul_(tensors, factor)


def copy_(targets: Tensors, sources: Tensors) -> None:
    """Copy each source to its target."""
    torch._foreach_copy_(targets, sources)


def lerp_(targets: Tensors, sources: Tensors, weight: float) -> None:
    """Move each target towards its source by ``weight``, a share of the way."""
    torch._foreach_lerp_(targets, sources, weight)
