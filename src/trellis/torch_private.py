"""All that touches private names of torch; no other file does.

Optimisers of torch rest on most of these functions, which run over many small tensors at once;
there is no public form of them. Each has a test in ``test_torch_private.py``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

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


def is_transformed() -> bool:
    """Whether a transformation of ``torch.func`` runs, such as ``vmap``, ``jvp`` or ``grad``."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def trace_gradients() -> None:
    """Let ``torch.compile`` take ``torch.autograd.grad`` into its graphs, from now on."""
    import torch._dynamo.config  # takes a second, and most who import this file compile nothing

    torch._dynamo.config.trace_autograd_ops = True


def tracing_errors() -> tuple[type[Exception], ...]:
    """What ``torch.compile(fullgraph=True)`` raises: no single graph, or too many of them."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return TorchDynamoException, FailOnRecompileLimitHit


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], start: Any, steps: Any, *, backwards: bool = False
) -> tuple[Any, Any]:
    """A loop over the first axis that an export keeps as one, of any number of steps.

    Args:
        step: from what is carried and one step's input to what is carried on and the output, all
            of them tensors or tuples of tensors.
        start: what is carried into the first step.
        steps: inputs of all steps.
        backwards: from the last step to the first.
    Returns:
        What the last step carries on, and the outputs of all steps.
    """
    from torch._higher_order_ops.scan import scan as loop  # takes long to import

    def apart(carried: Any, inputs: Any) -> tuple[Any, Any]:  # what share memory is refused
        carried, output = step(carried, inputs)
        return carried, tree_map(torch.clone, output)

    return loop(apart, tree_map(torch.clone, start), steps, dim=0, reverse=backwards)


def begin_as_root(network: "FSDPModule") -> None:
    """Make ``network`` the root of the sharded modules in it, as its first ``forward`` would.

    Else one of them that is called before would take itself for the root.
    """
    network._get_fsdp_state()._lazy_init()


@contextmanager
def numbers_from_zero() -> Iterator[None]:
    """Let a program that is traced here take open sizes and numbers of 0 and 1, too.

    Else torch refuses them where a number is an input of its own.
    """
    from torch.fx.experimental import _config

    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        yield
