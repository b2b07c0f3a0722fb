"""The trainer's defaults, and that what is given takes their place."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import Points, mlp
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler

from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification


def test_nothing_is_profiled_unless_asked_for(tmp_path: Path) -> None:
    profiler = Trainer(default_root_dir=tmp_path, accelerator="cpu", profiler=None).profiler
    assert isinstance(profiler, PassThroughProfiler)
    with profiler.profile("outer"), profiler.profile("inner"):
        pass
    given = Trainer(default_root_dir=tmp_path, accelerator="cpu", profiler="simple").profiler
    assert isinstance(given, SimpleProfiler)


class Validations(L.Callback):
    """Steps that were trained, and those after which a validation came."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.trained = 0

    def on_train_batch_end(self, *args) -> None:
        self.trained += 1

    def on_validation_end(self, trainer, pl_module) -> None:
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize("limit", [0, 1])
def test_whether_training_validates_is_looked_up_once(limit, tmp_path, monkeypatch) -> None:
    asked, looked = [], []
    ours, lightnings = Trainer.enable_validation.fget, L.Trainer.enable_validation.fget
    monkeypatch.setattr(
        Trainer, "enable_validation", property(lambda self: asked.append(1) or ours(self))
    )
    monkeypatch.setattr(
        L.Trainer, "enable_validation", property(lambda self: looked.append(1) or lightnings(self))
    )
    seen = Validations()
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=2, limit_train_batches=4, val_check_interval=2,
        limit_val_batches=limit, num_sanity_val_steps=0, callbacks=[seen],
    )  # fmt: skip
    trainer.fit(Classification(mlp), datamodule=Points())
    assert seen.trained == 8
    assert seen.steps == ([2, 4, 6, 8] if limit else [])
    assert len(asked) >= 8, "Lightning asks no more after each step: nothing is spared"
    assert len(looked) <= 2, "once before the first step and once after it"


def test_weights_to_start_from_are_those_of_one_run(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        return Trainer(
            default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, max_epochs=1, limit_train_batches=1, limit_val_batches=0,
        )  # fmt: skip

    still = partial(torch.optim.SGD, lr=0.0)
    first, second, objective = trainer(), trainer(), Classification(mlp, still)
    first.fit(Classification(mlp, still), datamodule=Points())
    saved = first.checkpoint_callback.last_model_path
    second.fit(objective, datamodule=Points(), init_from=saved)
    for name, value in first.model.named_parameters():
        assert torch.equal(objective.get_parameter(name), value)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.fill_(1.0)
    second.fit(objective, datamodule=Points())
    assert all(bool((parameter == 1).all()) for parameter in objective.parameters())
