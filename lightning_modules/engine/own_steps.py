"""What objectives share that make their own optimisation steps."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer

from trellis.torch_private import scale_, total_norm


def clip_gradients(optimizer: Optimizer, max_norm: float | None) -> None:
    """Scale the gradients of one optimiser down to a common norm; ``None`` leaves them.

    For objectives that step by themselves; the trainer's ``gradient_clip_val`` serves the others.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if max_norm is None or not gradients:
        return
    scale_(gradients, (max_norm / (total_norm(gradients) + 1e-6)).clamp(max=1.0))


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients pass through ``network``, none are computed for its parameters."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_()
