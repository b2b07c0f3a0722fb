"""What objectives share that make their own optimisation steps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from trellis.lightning_modules.engine.lightning_private import do_not_count
from trellis.lightning_modules.engine.objective import plan, steps_often
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


def descend(module: L.LightningModule, number: int, loss: Tensor) -> None:
    """A step of one of several optimisers, of which only the first one's count.

    Else ``global_step`` would count the steps of all.

    Args:
        module: which makes its own steps.
        number: of the optimiser, in the order of ``configure_optimizers``.
        loss: to descend.
    """
    optimizers: Any = module.optimizers()
    optimizer = optimizers[number]
    if number:
        do_not_count(optimizer)
    optimizer.zero_grad()
    module.manual_backward(loss)
    optimizer.step()


def scheduled(
    optimizers: Sequence[Optimizer],
    lr_scheduler: LRSchedulerCallable | None,
    total_steps: Callable[[], int],
) -> Any:
    """What ``configure_optimizers`` returns for several optimisers with a scheduler each.

    Args:
        optimizers: of which the first one's steps count.
        lr_scheduler: from an optimiser to a learning rate scheduler; ``None``: there are none.
        total_steps: steps of the first optimiser in the run; see ``plan``.
    """
    if lr_scheduler is None:
        return optimizers
    schedulers = [lr_scheduler(optimizer) for optimizer in optimizers]
    for scheduler in schedulers:
        plan(scheduler, total_steps)
    return optimizers, [{"scheduler": scheduler} for scheduler in schedulers]


def planned_steps(trainer: L.Trainer, batches: int = 1) -> int:
    """Steps in the whole run of an optimiser that steps once in so many batches."""
    limit = int(trainer.estimated_stepping_batches)  # or max_steps, if that is less
    if trainer.max_epochs in (None, -1):
        return limit
    return int(min(limit, trainer.num_training_batches * trainer.max_epochs / batches))


def step_schedulers(schedulers: Iterable[Any], stepped: bool, is_last_batch: bool) -> None:
    """Step the schedulers that are due at the end of a batch, before any validation.

    Args:
        schedulers: of the objective.
        stepped: whether the optimiser whose steps count has stepped in this batch.
        is_last_batch: of the epoch.
    """
    # Schedulers of epochs are stepped in the last batch, before the validation, as Lightning
    # does: the checkpoints of the validation and of the end of the epoch then agree.
    for scheduler in schedulers:
        if hasattr(scheduler, "monitor"):
            continue  # until its metric has been logged
        if stepped if steps_often(scheduler) else is_last_batch:
            scheduler.step()


def step_plateaus(schedulers: Iterable[Any], metrics: Mapping[str, Tensor]) -> None:
    """Step the schedulers that wait for a metric, Lightning's ``ReduceLROnPlateau``."""
    for scheduler in schedulers:
        if hasattr(scheduler, "monitor"):
            scheduler.step(metrics[scheduler.monitor])
