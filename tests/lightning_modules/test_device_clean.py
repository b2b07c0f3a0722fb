"""A training step of every objective on a device that holds no values.

See ``tests/trellis/networks/test_device_clean.py``: what runs there waits for no GPU on its way.
"""

from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from every_objective import OBJECTIVES, adam, run, short_run
from lightning.fabric.utilities import move_data_to_device
from torch.utils._python_dispatch import TorchDispatchMode

from trellis.lightning_modules.graph import GraphClassification, GraphRegression, GraphTasks
from trellis.rl.replay_block import ReplayBlock

# What an objective must read, as its docstring says.
READS_VALUES = {
    "NodeClassification": "which nodes are labelled",
    "NodeRegression": "which nodes have a target",
    "MaskedLM": "which tokens are masked",
    "BidirectionalLM": "how long the longest word is",
    "PMIFactorization": "where a sparse matrix has numbers",
    **dict.fromkeys(("A2C", "PPO", "TRPO", "REINFORCE"), "which steps only reset an environment"),
}


class OnMeta(TorchDispatchMode):
    """An error for each tensor that is made on another device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for x in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(x, torch.Tensor):
                assert x.device.type == "meta", f"{function} makes a tensor on {x.device}"
        return output


class Ended(Exception):
    """The step that was to be seen is over."""


class StepOnMeta(L.Callback):
    """Takes the third step on the meta device, and ends the run: checks of the first are over."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx < 2:
            return
        if isinstance(batch, ReplayBlock):
            batch = stepped(batch).apply(lambda x: x.to("meta"))
            pl_module.end_step = lambda *args, **kwargs: None  # logs what the environments did
        batch = move_data_to_device(batch, torch.device("meta"))
        pl_module.to("meta")
        pl_module.log = pl_module.log_dict = lambda *args, **kwargs: None
        try:
            with OnMeta():
                output = pl_module.training_step(batch, batch_idx)
                if pl_module.automatic_optimization:
                    (output["loss"] if isinstance(output, dict) else output).backward()
        finally:
            pl_module.to_empty(device="cpu")  # where Lightning takes the weights in the end
        raise Ended


def stepped(block: ReplayBlock) -> ReplayBlock:
    """The block once its environments, which are the host's, have made their steps."""
    batches = iter(list(block))
    after = ReplayBlock(len(block), lambda _: None, lambda: next(batches), lambda *_: None)
    after.rollouts = block.rollouts
    return after


def step_on_meta(name: str, root: Any) -> BaseException | None:
    options = {"callbacks": [StepOnMeta()], "enable_checkpointing": False}
    kind = OBJECTIVES[name].objective.func
    if kind not in (GraphClassification, GraphRegression, GraphTasks):
        return short_run(name, root, **options).error
    # PyG's convolution of the other tests looks for the graph's own self-loops.
    case = OBJECTIVES[name]._replace(objective=partial(kind, optimizer=adam))
    return run(case, root, max_epochs=1, accelerator="cpu", **options).error


@pytest.mark.parametrize("name", OBJECTIVES)
def test_takes_a_step_on_the_meta_device(name, tmp_path) -> None:
    error = step_on_meta(name, tmp_path)
    if name in READS_VALUES:
        # What torch says of nonzero(), of item() or of a sparse matrix, where there are no values.
        with pytest.raises(RuntimeError, match="nonzero|item|unsupported scalarType"):
            raise error
    elif not isinstance(error, Ended):
        raise AssertionError(f"{name} makes or reads a value on its way") from error
