"""What Lightning spends on each step of a module, spared where nothing comes of it."""

import inspect
from typing import Any

from torch.optim import Optimizer


class LightStep:
    """A mixin before ``LightningModule``: the same steps, less time between them.

    Only what is done anew in each step and always gives the same is left out; should Lightning
    change, it is at worst in vain, and ``tests/lightning_modules/test_light_step.py`` says so.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Lightning reads the signature before each step, to see if it takes batch_idx: Python
        # works it out anew each time, unless it finds it here.
        step: Any = vars(cls).get("training_step")
        if inspect.isfunction(step):
            step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        # The name of the hook under way, written 40 times a step: torch would look each time
        # whether it is a parameter, a buffer or a module.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """``optimizer.zero_grad()`` without torch's entry in a profile."""
        if type(optimizer).zero_grad is not Optimizer.zero_grad:
            optimizer.zero_grad()
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
