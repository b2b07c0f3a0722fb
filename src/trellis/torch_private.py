"""All that touches private names of torch; no other file does.

Optimisers of torch rest on most of these functions, which run over many small tensors at once;
there is no public form of them. Each has a test in ``test_torch_private.py``.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:  # takes a second, and most who import this file shard nothing
    from torch.distributed.fsdp import FSDPModule

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


def trace_gradients() -> None:
    """Let ``torch.compile`` take ``torch.autograd.grad`` into its graphs, from now on."""
    import torch._dynamo.config  # takes a second, and most who import this file compile nothing

    torch._dynamo.config.trace_autograd_ops = True


def begin_as_root(network: "FSDPModule") -> None:
    """Make ``network`` the root of the sharded modules in it, as its first ``forward`` would.

    Else one of them that is called before would take itself for the root.
    """
    network._get_fsdp_state()._lazy_init()
