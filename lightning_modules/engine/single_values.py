"""Batch normalisation in a training batch with a single value of each channel."""

from typing import Any

from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def normalize_single_values(network: nn.Module) -> None:
    """Let batch norms use their running statistics where a batch has no variance.

    The last batch of an epoch may be one example, or a batch of graphs one node: torch ends the
    run there, and has no statistics of it to use. All other batches are as before.

    Args:
        network: its batch norms that keep running statistics get hooks.
    """
    for module in network.modules():
        if isinstance(module, NORMS) and module.track_running_stats:
            running = _RunningStatistics()
            module.register_forward_pre_hook(running.before)
            module.register_forward_hook(running.after, always_call=True)


class _RunningStatistics:
    """Evaluation mode for the length of one call."""

    def __init__(self) -> None:
        self.active = False

    def before(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.active = module.training and args[0].numel() == args[0].size(1)
        if self.active:
            module.training = False

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.active:
            module.training = True
            self.active = False
