"""What callbacks share that use the validation split once more after a fit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from trellis.analysis.pictures import empty_figure
from trellis.lightning_modules.engine.logging import log_picture
from trellis.lightning_modules.engine.sharding import gathered

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Hook = Callable[[Any, L.Trainer, L.LightningModule], None]


def report(hook: Hook) -> Hook:
    """Decorates a hook that shows something: by the first process, and not in ``fast_dev_run``."""
    by_the_first = rank_zero_only(hook)

    @wraps(hook)
    def unless_tried_out(self: Any, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            with gathered(pl_module):
                by_the_first(self, trainer, pl_module)

    return unless_tried_out


class PictureAfterFit(L.Callback, ABC):
    """Base of the callbacks that log one picture when a fit ends.

    A subclass names the picture by ``key`` and defines ``check`` and ``figure``.
    """

    key: ClassVar[str]

    @abstractmethod
    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse before the training what ``figure`` could not show after it.

        Raises:
            ValueError: the objective or the data does not fit.
        """

    @abstractmethod
    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """The picture, ``None`` if there is nothing to show."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # matplotlib is an extra
        self.check(trainer, pl_module)

    @report
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (figure := self.figure(trainer, pl_module)) is not None:
            log_picture(trainer, self.key, figure)


@contextmanager
def evaluation(pl_module: L.LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes and random states are as before.

    A checkpoint that is written later must not depend on it.
    """
    modes = {module: module.training for module in pl_module.modules()}
    with isolate_rng(), torch.no_grad(), gathered(pl_module):
        pl_module.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def validation_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The batches that the fit validates on, on the device of this process."""
    loaders = trainer.val_dataloaders
    if loaders is None:
        return
    loaders = loaders if isinstance(loaders, (list, tuple)) else [loaders]
    for loader, limit in zip(loaders, trainer.num_val_batches, strict=True):
        for batch in islice(loader, None if limit == float("inf") else int(limit)):
            converted = trainer.precision_plugin.convert_input(batch)
            yield trainer.strategy.batch_to_device(converted)


def require_objective(caller: str, objective: L.LightningModule, *kinds: type) -> None:
    """Refuse objectives of other kinds.

    Raises:
        ValueError: names the caller, the kinds and the objective.
    """
    if not isinstance(objective, kinds):
        known = " and ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{caller} works with {known}, not with {type(objective).__name__}")
