"""best.ckpt and last.ckpt: which state, how often, and what an interruption leaves."""

import errno
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import SGD

from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.engine.checkpointing import BestAndLastCheckpoint
from trellis.lightning_modules.engine.graceful_stop import Stopped
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification

torch.set_num_threads(1)


class Clock:
    """A clock that moves only when told to, and a second for each file written."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Slow(BestAndLastCheckpoint):
    """Each file takes ``seconds`` to write; remembers what was written, and in which step."""

    def __init__(self, clock: Clock, seconds: float = 1.0, **options) -> None:
        super().__init__(**options)
        self.clock, self.seconds, self.written = clock, seconds, []

    def _write(self, trainer, state, path) -> float:
        self.written.append((Path(path).name, trainer.global_step, state["global_step"]))
        save, strategy = trainer.strategy.save_checkpoint, trainer.strategy

        def slow_save(*args, **options):
            self.clock.now += self.seconds
            save(*args, **options)

        strategy.save_checkpoint = slow_save
        try:
            return super()._write(trainer, state, path)
        finally:
            strategy.save_checkpoint = save


class Score(L.Callback):
    """Logs the given scores, one a validation; the clock moves ``seconds`` in between."""

    def __init__(self, scores, clock: Clock | None = None, seconds: float = 1.0) -> None:
        self.scores, self.clock, self.seconds = list(scores), clock, seconds
        self.weights: list[dict] = []

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            pl_module.log("score", self.scores[len(self.weights)])
            self.weights.append({k: v.clone() for k, v in pl_module.state_dict().items()})
            if self.clock:
                self.clock.now += self.seconds


sgd = partial(SGD, lr=0.1)


def fit(root, *callbacks, epochs, **options):
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), max_epochs=epochs,
        limit_train_batches=2, limit_val_batches=1, **options,
    )  # fmt: skip
    trainer.fit(Classification(optimizer=sgd), datamodule=Digits())
    return trainer


def weights_in(path) -> dict:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [
        ("max", [1.0, 3.0, 3.0, 2.0], 1),
        ("min", [4.0, 2.0, 3.0, 2.0], 1),
        ("max", [math.nan, 1.0, math.nan, 0.5], 1),
        ("max", [-math.inf, -5.0, -6.0, -5.0], 1),
    ],
)
def test_best_is_the_first_of_the_best(mode, scores, best, tmp_path):
    score = Score(scores)
    trainer = fit(tmp_path, score, BestAndLastCheckpoint("score", mode), epochs=4)
    keeper = trainer.checkpoint_callback
    assert keeper.best_model_score == scores[best]
    assert_equal(weights_in(keeper.best_model_path), score.weights[best])
    assert_equal(weights_in(keeper.last_model_path), score.weights[-1])
    assert not list(tmp_path.rglob(".*"))


def test_nothing_but_nan_is_no_best(tmp_path):
    trainer = fit(tmp_path, Score([math.nan] * 2), BestAndLastCheckpoint("score", "max"), epochs=2)
    assert trainer.checkpoint_callback.best_model_path == ""
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]


def test_writing_takes_a_twentieth_of_the_time(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score(range(45), clock), Slow(clock, monitor="score", mode="max")
    fit(tmp_path, score, keeper, epochs=45)
    best = [entry for entry in keeper.written if entry[0] == "best.ckpt"]
    # Written at once, then 19 seconds after the last one ended, and the newest at the end.
    assert [step // 2 for _, step, _ in best] == [1, 20, 39, 45]
    assert all(written == step for _, step, written in best)
    assert_equal(weights_in(keeper.best_model_path), score.weights[-1])


def test_the_state_that_waits_is_the_best_and_not_the_newest(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score([1, 2, 3, 0, 0], clock), Slow(clock, monitor="score", mode="max")
    fit(tmp_path, score, keeper, epochs=5)
    assert_equal(weights_in(keeper.best_model_path), score.weights[2])
    assert keeper.written[-1] == ("best.ckpt", 10, 6)


def test_what_waited_gives_way_to_what_is_written(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score([1, 2, 3, 4], clock, 8.0), Slow(clock, monitor="score", mode="max")
    fit(tmp_path, score, keeper, epochs=4)
    best = [step // 2 for name, step, _ in keeper.written if name == "best.ckpt"]
    assert best == [1, 4]
    assert_equal(weights_in(keeper.best_model_path), score.weights[3])


def test_an_exception_writes_what_waits(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score([1, 2], clock), Slow(clock, monitor="score", mode="max")
    with pytest.raises(IndexError):  # the third validation has no score
        fit(tmp_path, score, keeper, epochs=5)
    assert_equal(weights_in(keeper.best_model_path), score.weights[1])
    assert keeper.last_model_path == ""  # no run passes through the middle of a validation


class Ends(L.Callback):
    """Ends the third validation with an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_validation_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == 6:
            raise self.error


@pytest.mark.parametrize(
    ("error", "best"), [(OSError(errno.ENOSPC, "full"), 0), (OSError(errno.EIO, "broken"), 1)]
)
def test_a_full_disk_is_not_written_to_again(error, best, tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score([1, 2], clock), Slow(clock, monitor="score", mode="max")
    with pytest.raises(OSError, match=error.strerror):
        fit(tmp_path, score, Ends(error), keeper, epochs=5)
    assert len(keeper.written) == best + 1
    assert_equal(weights_in(keeper.best_model_path), score.weights[best])


def test_sigterm_in_a_validation_leaves_no_state_that_no_run_passes(tmp_path):
    score, keeper = Score([1, 2]), BestAndLastCheckpoint("score", "max")
    with pytest.raises((SIGTERMException, SystemExit)):
        fit(tmp_path, score, Ends(SIGTERMException()), keeper, epochs=5)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["best.ckpt"]


def test_the_end_is_written_once(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    keeper = Slow(clock, monitor="score", mode="max")
    fit(tmp_path, Score([0] * 9, clock), keeper, epochs=9, max_steps=3)
    assert [entry for entry in keeper.written if entry[0] == "last.ckpt"] == [("last.ckpt", 3, 3)]


def test_the_best_of_a_resumed_run_lies_beside_its_last(tmp_path):
    def resumed() -> str:
        keeper = BestAndLastCheckpoint("score", "max")
        keeper.best_model_score = 1.0  # and no path: the checkpoint is somebody else's
        keeper.on_fit_start(SimpleNamespace(ckpt_path=str(tmp_path / "last.ckpt")), None)
        return keeper.best_model_path

    (tmp_path / "last.ckpt").touch()
    assert resumed() == ""
    (tmp_path / "best.ckpt").touch()
    assert resumed() == str(tmp_path / "best.ckpt")


def test_last_is_written_once_a_minute(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score, keeper = Score([0] * 9, clock, seconds=25.0), Slow(clock, monitor="score", mode="max")
    fit(tmp_path, score, keeper, epochs=9)
    last = [step // 2 for name, step, _ in keeper.written if name == "last.ckpt"]
    # 60 seconds after the start and after each writing (one second); and at the end.
    assert last == [3, 6, 9]


def test_slow_disks_are_asked_less_often(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(checkpointing, "time", clock)
    score = Score([0] * 40, clock, seconds=25.0)
    keeper = Slow(clock, seconds=20.0, monitor="score", mode="max")
    fit(tmp_path, score, keeper, epochs=40)
    last = [step // 2 for name, step, _ in keeper.written if name == "last.ckpt"]
    assert min(b - a for a, b in zip(last, last[1:-1], strict=False)) * 25 >= 19 * 20


def test_an_unknown_monitor_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"monitor='val/f1' was not logged.*score.*val/accuracy"):
        fit(tmp_path, Score([1]), BestAndLastCheckpoint("val/f1"), epochs=1)


def test_the_monitor_is_the_objectives(tmp_path):
    trainer = fit(tmp_path, epochs=1)
    assert trainer.checkpoint_callback.monitor == "val/loss"
    assert trainer.checkpoint_callback.mode == "min"


def test_a_trial_run_writes_nothing(tmp_path):
    fit(tmp_path, epochs=1, fast_dev_run=True)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_resumed_run_remembers_the_best(tmp_path):
    first = fit(tmp_path, Score([5, 1]), BestAndLastCheckpoint("score", "max"), epochs=2)
    keeper = BestAndLastCheckpoint("score", "max")
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        callbacks=[Score([2, 3]), keeper], max_epochs=4, limit_train_batches=2,
        limit_val_batches=1,
    )  # fmt: skip
    last = first.checkpoint_callback.last_model_path
    trainer.fit(Classification(optimizer=sgd), datamodule=Digits(), ckpt_path=last)
    assert keeper.best_model_score == 5
    assert keeper.best_model_path == first.checkpoint_callback.best_model_path


class Accurate(Classification):
    monitor, monitor_mode = "val/accuracy", "max"


def test_another_objective_has_a_best_of_its_own(tmp_path):
    trainer = fit(tmp_path, epochs=1)
    keeper, first = trainer.checkpoint_callback, trainer.model
    keeper.best_model_score = 0.0  # no loss is less
    trainer.fit_loop.max_epochs = 2
    trainer.fit(first, datamodule=Digits())
    assert keeper.best_model_score == 0.0, "the same one trains on"
    keeper.best_model_score = 2.0  # no accuracy is more
    trainer.fit_loop.max_epochs = 3
    trainer.fit(Accurate(optimizer=sgd), datamodule=Digits())
    assert (keeper.monitor, keeper.mode) == ("val/accuracy", "max")
    assert keeper.best_model_score == float(trainer.callback_metrics["val/accuracy"]) > 0
    assert_equal(weights_in(keeper.best_model_path), trainer.model.state_dict())


class Break(L.Callback):
    """Makes a weight NaN in the third step, which then ends with ``error``."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_boundary(self, trainer, pl_module) -> None:
        if trainer.global_step == 3:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(math.nan)
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("on purpose"), Stopped()])
def test_weights_that_are_not_finite_are_never_written(error, tmp_path):
    with pytest.raises((RuntimeError, SystemExit)):
        fit(tmp_path, Break(error), epochs=4)
    (best,) = tmp_path.rglob("*.ckpt")
    assert best.name == "best.ckpt"
    assert all(weight.isfinite().all() for weight in weights_in(best).values())
