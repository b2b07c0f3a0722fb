"""Private names of Lightning still mean what ``lightning_private`` takes them for."""

import inspect
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import Points, mlp, quiet_trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import signature_utils

from trellis.lightning_modules.engine import lightning_private
from trellis.lightning_modules.engine.lightning_private import LightStep
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


class AtEachStep(L.Callback):
    """Calls a function with the trainer as each batch ends."""

    def __init__(self, function: Any) -> None:
        self.function, self.results = function, []

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        self.results.append(self.function(trainer))


def at_each_step(function: Any, root: Path, **options: Any) -> list[Any]:
    watch = AtEachStep(function)
    steps(Classification(mlp), root, callbacks=[watch], **options)
    return watch.results


def test_dump_checkpoint_is_what_save_checkpoint_writes(tmp_path: Path) -> None:
    def both(trainer: L.Trainer) -> tuple[dict, dict]:
        trainer.save_checkpoint(tmp_path / "written.ckpt")
        dumped = lightning_private.dump_checkpoint(trainer)
        return dumped, torch.load(tmp_path / "written.ckpt", weights_only=True)

    dumped, written = at_each_step(both, tmp_path)[-1]
    changed = "Lightning's dump_checkpoint no longer makes what save_checkpoint writes"
    assert dumped.keys() == written.keys(), changed
    assert torch.equal(*(next(iter(each["state_dict"].values())) for each in (dumped, written)))


def test_logged_steps_are_those_of_the_loggers_x_axis(tmp_path: Path) -> None:
    def of(trainer: L.Trainer) -> tuple[bool, int]:
        step = lightning_private.logged_step(trainer)
        return lightning_private.logs_this_step(trainer), step

    found = at_each_step(of, tmp_path, log_every_n_steps=2, logger=None)
    assert [step for _, step in found] == [0, 1, 2], "Lightning counts logged steps elsewhere"
    # As a batch ends, its step is not yet counted.
    assert [logs for logs, _ in found] == [False, True, False], (
        "Lightning decides elsewhere whether a step is logged"
    )


def test_loaders_get_their_states_back(tmp_path: Path) -> None:
    given = []

    def restore(trainer: L.Trainer) -> None:
        loader = trainer.train_dataloader
        loader.load_state_dict = given.append
        lightning_private.restore_loaders(trainer, [{"batches": 3, "seed": 7}])

    at_each_step(restore, tmp_path)
    assert given[:1] == [{"batches": 3, "seed": 7}], (
        "Lightning no longer keeps the training loaders in fit_loop._combined_loader"
    )


class TwoSteps(Classification):
    """Two steps of its optimiser a batch, counted as one or not at all."""

    counted = True

    def __init__(self, **options: Any) -> None:
        super().__init__(mlp)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        if not self.counted:
            lightning_private.do_not_count(optimizer)
            self.twice(batch, optimizer)
            return
        with lightning_private.counted_as_one([optimizer]):
            self.twice(batch, optimizer)

    def twice(self, batch: Any, optimizer: Any) -> None:
        for _ in range(2):
            self.manual_backward(torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))
            optimizer.step()


@pytest.mark.parametrize(("counted", "steps"), [(True, 3), (False, 0)])
def test_steps_of_an_optimiser_count_once_or_not_at_all(
    counted: bool, steps: int, tmp_path: Path
) -> None:
    objective = TwoSteps()
    objective.counted = counted
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=3, limit_val_batches=0)
    trainer.fit(objective, datamodule=Points())
    assert trainer.global_step == steps, (
        "Lightning counts an optimiser's steps elsewhere than in _on_before_step, _on_after_step"
    )


class Dumps(L.Callback):
    """Where the loops are in the last hook of each batch, and in the boundary after it."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self.after: list[Any] = []

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        lightning_private.announce_boundaries(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        dumped = lightning_private.dump_checkpoint(trainer)
        self.inside.append(deepcopy(dumped["loops"]["fit_loop"]))

    def on_boundary(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.is_last_batch:  # after that the epoch is over, too
            dumped = lightning_private.dump_between_steps(trainer)
            self.after.append(deepcopy(dumped["loops"]["fit_loop"]))


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_dump_between_steps_has_the_form_of_one_in_the_last_hook(
    tmp_path: Path, accumulated: int
) -> None:
    dumps, options = Dumps(), {"limit_train_batches": 5, "limit_val_batches": 0}
    trainer = quiet_trainer(
        tmp_path, callbacks=[dumps], max_epochs=1, accumulate_grad_batches=accumulated, **options
    )
    trainer.fit(Classification(mlp), datamodule=Points())
    assert len(dumps.inside) == 5
    assert dumps.after == dumps.inside[:-1], "Lightning counts batches elsewhere"


class Noted(L.Callback):
    """After which steps a run is over, and which plateaus wait after a validation."""

    def __init__(self) -> None:
        self.over: list[tuple[int, bool]] = []
        self.waiting: list[tuple[int, list[int]]] = []

    def on_train_start(self, trainer: L.Trainer, *args: Any) -> None:
        lightning_private.announce_boundaries(trainer)

    def on_boundary(self, trainer: L.Trainer, *args: Any) -> None:
        self.over.append((trainer.global_step, lightning_private.is_over(trainer)))

    def on_validation_end(self, trainer: L.Trainer, *args: Any) -> None:
        if not trainer.sanity_checking:
            waiting = lightning_private.waiting_plateaus(trainer)
            self.waiting.append((trainer.current_epoch, waiting))


@pytest.mark.parametrize(
    ("options", "last"),
    [({"max_epochs": 2}, 6), ({"max_steps": 4, "max_epochs": -1}, 4), ({"max_steps": 3}, 3)],
)
def test_a_run_is_over_after_its_last_step(
    tmp_path: Path, options: dict[str, Any], last: int
) -> None:
    noted, short = Noted(), {"limit_train_batches": 3, "limit_val_batches": 0}
    trainer = quiet_trainer(tmp_path, callbacks=[noted], **short, **options)
    trainer.fit(Classification(mlp), datamodule=Points())
    assert {step for step, _ in noted.over} == set(range(1, last + 1))
    assert all(over == (step == last) for step, over in noted.over)


@pytest.mark.parametrize("every", [1, 2])
def test_a_plateau_waits_for_each_validation(tmp_path: Path, every: int) -> None:
    noted, short = Noted(), {"limit_train_batches": 1, "limit_val_batches": 1}
    trainer = quiet_trainer(
        tmp_path, callbacks=[noted], max_epochs=4, check_val_every_n_epoch=every, **short
    )
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0)
    trainer.fit(Classification(mlp, lr_scheduler=plateau), datamodule=Points())
    assert noted.waiting == [(epoch, [0]) for epoch in range(every - 1, 4, every)]


def test_the_data_module_of_an_earlier_call_is_forgotten(tmp_path: Path) -> None:
    trainer, loader = steps(Classification(mlp), tmp_path), Points().train_dataloader()
    trainer._data_connector.attach_data(trainer.model, loader)
    assert trainer.datamodule is not None, "Lightning forgets it: forget_earlier_data is in vain"
    lightning_private.forget_earlier_data(trainer)
    assert trainer.datamodule is None
    given = Points()
    trainer._data_connector.attach_data(trainer.model, datamodule=given)
    lightning_private.forget_earlier_data(trainer)
    assert trainer.datamodule is given, "Lightning keeps the data module of a call elsewhere"


def test_a_trainer_that_spawns_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    assert not lightning_private.spawns_processes(quiet_trainer(tmp_path))
    spawning = quiet_trainer(tmp_path, strategy="ddp_fork", devices=2)
    assert lightning_private.spawns_processes(spawning), (
        "Lightning's launchers no longer share _MultiProcessingLauncher"
    )


def test_ddp_is_told_to_look_for_unused_parameters_unless_the_user_has_told_it(
    tmp_path: Path,
) -> None:
    def told(strategy: str, look: bool) -> Any:
        trainer = quiet_trainer(tmp_path, strategy=strategy, devices=2)
        if look:
            lightning_private.look_for_unused_parameters(trainer)
        return trainer.strategy._ddp_kwargs.get("find_unused_parameters")

    changed = "DDPStrategy keeps its options elsewhere than in _ddp_kwargs"
    assert told("ddp", look=False) is None, changed
    assert told("ddp", look=True) is True, changed
    assert told("ddp_find_unused_parameters_false", look=True) is False, changed
    lightning_private.look_for_unused_parameters(quiet_trainer(tmp_path))  # one process: nothing


def test_lightning_shares_no_sigterm_of_its_own(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path)
    changed = "Lightning shares SIGTERM elsewhere than in _broadcast_sigterm_tensor"
    assert hasattr(type(trainer.fit_loop.epoch_loop), "_broadcast_sigterm_tensor"), changed
    lightning_private.share_no_sigterm(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None


def test_lightning_passes_over_the_hooks_that_callbacks_leave_empty(tmp_path: Path) -> None:
    class Counts(L.Callback):
        batches = 0

        def on_train_batch_end(self, *args: Any) -> None:
            self.batches += 1
            assert self.on_before_backward is None

    class Empty(L.Callback):
        @property
        def state_key(self) -> str:
            hook = inspect.stack()[1].frame.f_locals.get("hook_name")
            assert hook not in lightning_private.STEP_HOOKS, "Lightning names empty hooks again"
            return super().state_key

    told: list[str] = []
    by_name = L.pytorch.callbacks.LambdaCallback(on_before_backward=lambda *args: told.append(""))
    callbacks = [Counts(), Empty(), by_name]
    steps(Classification(mlp), tmp_path, callbacks=callbacks)
    assert callbacks[0].batches == len(told) == 3
    for callback in callbacks:
        assert callable(callback.on_after_backward)


def test_only_slurm_requeues(tmp_path: Path) -> None:
    environment = L.pytorch.plugins.environments.SLURMEnvironment
    trainer = quiet_trainer(tmp_path, strategy="ddp_fork", devices=2)
    assert not lightning_private.requeues(trainer)
    trainer.strategy.cluster_environment = environment(auto_requeue=True)
    assert lightning_private.requeues(trainer)
    trainer.strategy.cluster_environment = environment(auto_requeue=False)
    assert not lightning_private.requeues(trainer)


def test_a_checkpoint_does_not_beat_what_is_typed() -> None:
    ours = lightning_private.TypedBeatsCheckpointCLI
    (base,) = ours.__bases__
    assert "_parse_ckpt_path" in vars(base), (
        "LightningCLI reads a checkpoint's hyper-parameters elsewhere than in _parse_ckpt_path"
    )


@pytest.mark.long
def test_settings_of_a_wandb_logger_reach_its_run(tmp_path: Path, monkeypatch: Any) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    logger = L.pytorch.loggers.WandbLogger()
    settings = lightning_private.WandbSettings(logger)
    assert (settings.project, settings.has_run) == ("lightning_logs", False)
    assert not settings.uploads_checkpoints
    settings.use(project="p", folder=str(tmp_path), name="n", run_id="i")
    assert settings.given("name") == "n"
    try:
        run = logger.experiment
        changed = "WandbLogger keeps what it tells wandb.init elsewhere"
        assert (run.project, run.name, run.id) == ("p", "n", "i"), changed
        assert settings.has_run
        assert logger.save_dir == str(tmp_path)
    finally:
        wandb.finish()


class Boundaries(L.Callback):
    """Notes the order of a validation, the schedules and the boundary after them."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        lightning_private.announce_boundaries(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append("validation")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append("epoch")

    def on_boundary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append((trainer.global_step, lightning_private.is_over(trainer)))


def test_a_boundary_comes_after_all_that_follows_a_batch_or_an_epoch(tmp_path: Path) -> None:
    callback = Boundaries()
    trainer = quiet_trainer(
        tmp_path, callbacks=[callback], max_epochs=2, limit_train_batches=2, val_check_interval=1,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Classification(mlp), datamodule=Points())
    assert callback.seen == [
        "validation", (1, False), "validation", "epoch", (2, False),
        "validation", (3, False), "validation", "epoch", (4, True),
    ], "Lightning's on_advance_end is no longer the last thing of a batch or an epoch"  # fmt: skip


def test_all_processes_share_one_copy_of_the_weights(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, strategy="sharded", devices=2)
    assert trainer.strategy._data_parallel_size == "auto", (
        "ModelParallelStrategy keeps its size elsewhere than in _data_parallel_size"
    )
    lightning_private.one_group_of_all_processes(trainer.strategy)
    assert trainer.strategy._data_parallel_size == 2


def test_the_optimiser_that_lightning_has_wrapped() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    wrapped = LightningOptimizer(optimizer)
    assert lightning_private.bare_optimizer(wrapped) is optimizer, "it is no longer in _optimizer"
    assert lightning_private.bare_optimizer(optimizer) is optimizer


class StepsAlone(Classification):
    """Takes its own steps by the shortest way, and counts the hooks before them."""

    hooks = 0

    def __init__(self, network) -> None:
        super().__init__(network)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        with lightning_private.counted_as_one([optimizer]):
            lightning_private.take_step(self, optimizer)

    def on_before_optimizer_step(self, optimizer) -> None:
        self.hooks += 1


class StepsAsUsual(StepsAlone):
    """Takes them by Lightning's way."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(Classification.training_step(self, batch, batch_idx))
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"profiler": "simple"}, {"precision": "bf16-mixed"}])
def test_the_shortest_step_is_lightnings(options, tmp_path):
    weights = []
    for kind in (StepsAlone, StepsAsUsual):
        torch.manual_seed(0)
        objective = kind(mlp)
        counted = Counted()
        steps(objective, tmp_path, callbacks=[counted], **options)
        assert objective.hooks == counted.hooks == 3
        weights.append([parameter.detach() for parameter in objective.parameters()])
    assert all(map(torch.equal, *weights))


class Counted(L.Callback):
    """Counts the hooks before a step."""

    hooks = 0

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.hooks += 1


def test_steps_are_short_in_training_and_as_they_were_after_it(tmp_path: Path) -> None:
    class Looks(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *batch: Any) -> None:
            loop = trainer.fit_loop.epoch_loop
            self.short = [
                "_build_kwargs" in vars(loop),
                "output_result_cls" in vars(loop.automatic_optimization),
                "_on_before_batch_transfer" in vars(pl_module),
                "_apply_batch_transfer_handler" in vars(pl_module),
            ]

    looks, objective = Looks(), Classification(mlp)
    trainer = steps(objective, tmp_path, callbacks=[looks])
    assert all(looks.short)
    loop = trainer.fit_loop.epoch_loop
    for owner in (loop, loop.automatic_optimization, objective, looks):
        kept = {"_build_kwargs", "output_result_cls", "_on_before_batch_transfer"}
        assert not kept & vars(owner).keys()


def test_batches_pass_the_hooks_of_the_module_or_the_data(tmp_path: Path) -> None:
    class Doubles(Points):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [2 * batch[0], batch[1]]

    class Notes(Classification):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen = batch[0]
            return super().training_step(batch, batch_idx)

    seen = []
    for data in (Points(), Doubles()):
        objective = Notes(mlp)
        trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
        trainer.fit(objective, datamodule=data)
        seen.append(objective.seen)
    assert torch.equal(2 * seen[0], seen[1])


def test_a_profiler_sees_the_hooks_of_batches(tmp_path: Path) -> None:
    profiler = L.pytorch.profilers.SimpleProfiler()
    steps(Classification(mlp), tmp_path, profiler=profiler)
    moves = [name for name in profiler.recorded_durations if "transfer_batch_to_device" in name]
    assert sum(len(profiler.recorded_durations[name]) for name in moves) == 3
