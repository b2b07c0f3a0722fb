"""What a step is spared changes nothing, and Lightning still does what it is spared of."""

import inspect
from functools import partial

import lightning as L
import pytest
import torch
from learning_cases import Points, mlp, quiet_trainer
from lightning.pytorch.utilities import signature_utils

from trellis.lightning_modules.engine.light_step import LightStep
from trellis.lightning_modules.vector.classification import Classification


class Watched(Classification):
    """Notes what Lightning calls the hook under way."""

    def training_step(self, batch, batch_idx):
        self.seen = vars(self)["_current_fx_name"]
        return super().training_step(batch, batch_idx)


def steps(objective: Classification, root, **options) -> L.Trainer:
    trainer = quiet_trainer(root, max_steps=3, limit_val_batches=0, **options)
    trainer.fit(objective, datamodule=Points())
    return trainer


def test_lightning_names_the_hook_under_way_by_this_attribute(tmp_path):
    objective = Watched(mlp)
    steps(objective, tmp_path)
    assert objective.seen == "training_step", "LightStep.__setattr__ spares nothing any more"


def test_parameters_are_still_found_among_attributes():
    module = type("Module", (LightStep, L.LightningModule), {})()
    module.weight, module.part = torch.nn.Parameter(torch.ones(1)), torch.nn.Linear(1, 1)
    assert [name for name, _ in module.named_parameters()] == [
        "weight",
        "part.weight",
        "part.bias",
    ]


def test_lightning_reads_the_signature_at_each_step_and_finds_it_made(tmp_path, monkeypatch):
    asked = []

    def read(function):
        if function.__name__ != "training_step":
            return inspect.getfullargspec(function)
        asked.append(function)
        with monkeypatch.context() as patch:
            patch.delattr(inspect, "_signature_from_function")  # without it nothing is worked out
            return inspect.getfullargspec(function)

    monkeypatch.setattr(
        signature_utils, "inspect", type("Inspect", (), {"getfullargspec": staticmethod(read)})
    )
    steps(Watched(mlp), tmp_path)
    assert len(asked) >= 3, "LightStep.__init_subclass__ spares nothing any more"


@pytest.mark.parametrize("cls", [Classification, Watched])
def test_the_signature_is_that_of_the_method(cls):
    made = inspect.signature(cls.training_step)
    assert list(made.parameters) == ["self", "batch", "batch_idx"]


class Own(torch.optim.SGD):
    """Sees to its gradients itself."""

    calls = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        type(self).calls += 1
        super().zero_grad(set_to_none)


def test_gradients_are_gone_before_each_step(tmp_path):
    class Gradients(L.Callback):
        def on_before_backward(self, trainer, pl_module, loss) -> None:
            assert all(parameter.grad is None for parameter in pl_module.parameters())

    steps(Classification(mlp, partial(torch.optim.SGD, lr=0.1)), tmp_path, callbacks=[Gradients()])
    steps(Classification(mlp, partial(Own, lr=0.1)), tmp_path, callbacks=[Gradients()])
    assert Own.calls == 3
