"""A run that was stopped and resumed is the uninterrupted one, bit by bit."""

import math
import os
import shutil
import signal
from functools import cache
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import CASES, assert_equal_weights, quiet_trainer, run
from lightning.pytorch.callbacks import WeightAveraging

from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.engine.checkpointing import BestAndLastCheckpoint
from trellis.lightning_modules.engine.resume import RESULT

ORDINARY = ("classification", "carried", "pairs", "graph", "latent")
every_case = pytest.mark.parametrize(
    "name", [n if n in ORDINARY else pytest.param(n, marks=pytest.mark.long) for n in CASES]
)
# What stops a run matters little to an objective: `make test-all` tries each against each.
# These two keep most: hidden states between batches, and random numbers drawn by a schedule.
SOME = ("carried", "pairs")
some_cases = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SOME else pytest.mark.long) for n in CASES]
)

one_case = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n != "latent" else ()) for n in CASES]
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run of a case that nothing stops: once for all tests that stop it somewhere."""

    @cache
    def trained(name, **options):
        return run(CASES[name], tmp_path_factory.mktemp(name), **options)

    return trained


class Kill(L.Callback):
    """Send a signal in the middle of the step after ``step``."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


FORWARD = "on_before_backward"


class Fail(L.Callback):
    """Raise where ``hook`` is called after ``step`` steps."""

    def __init__(self, step: int, hook: str) -> None:
        self.step = step
        setattr(self, hook, self._raise)

    def _raise(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("failed on purpose")


def assert_continues(whole, stopped, resumed) -> None:
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    seen = stopped.recorder.batches + resumed.recorder.batches
    assert len(seen) == len(whole.recorder.batches)
    assert all(torch.equal(a, b) for a, b in zip(seen, whole.recorder.batches, strict=True))
    later = [m for m in whole.recorder.metrics if m["step"] > stopped.trainer.global_step]
    assert later
    assert resumed.recorder.metrics[-len(later) :] == later


@every_case
def test_same_command_twice(name, tmp_path, uninterrupted):
    first, second = uninterrupted(name), run(CASES[name], tmp_path)
    other = run(CASES[name], tmp_path, seed=1)
    assert_equal_weights(first, second)
    assert first.recorder.metrics == second.recorder.metrics
    assert other.recorder.metrics != first.recorder.metrics


SIGNALS = [(signal.SIGINT, 2), (signal.SIGTERM, 7), (signal.SIGINT, 9)]


@pytest.mark.parametrize(
    ("name", "number", "step"),
    [
        pytest.param(name, *at, marks=() if at[1] == 7 or name in SOME else pytest.mark.long)
        for name in CASES
        for at in SIGNALS
    ],
)
def test_signal_in_mid_epoch(name, number, step, tmp_path, uninterrupted):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = uninterrupted(name)
    stopped = run(CASES[name], tmp_path, callbacks=[Kill(step, number)])
    assert stopped.error is not None
    assert stopped.trainer.global_step == step + 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last)
    assert_continues(whole, stopped, resumed)


@some_cases
def test_epoch_end(name, tmp_path, uninterrupted):
    whole = uninterrupted(name)
    stopped = run(CASES[name], tmp_path, max_epochs=2)
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last)
    assert_continues(whole, stopped, resumed)


@pytest.mark.parametrize("step", [2, 4, 5, 7])  # the last batch of an epoch and the first too
@some_cases
def test_more_steps_after_max_steps(name, step, tmp_path, uninterrupted):
    whole = uninterrupted(name, max_epochs=-1, max_steps=12)
    stopped = run(CASES[name], tmp_path, max_epochs=-1, max_steps=step)
    resumed = run(
        CASES[name], tmp_path, seed=99, ckpt_path=stopped.last, max_epochs=-1, max_steps=12
    )
    assert stopped.trainer.global_step == step
    assert_equal_weights(whole, resumed)
    seen = stopped.recorder.batches + resumed.recorder.batches
    assert all(torch.equal(a, b) for a, b in zip(seen, whole.recorder.batches, strict=True))


@pytest.mark.parametrize("step", [3, 4, 5])  # the last batch of an epoch is the fifth
@some_cases
def test_signal_in_a_run_counted_in_steps(name, step, tmp_path, uninterrupted):
    options = {"max_epochs": -1, "max_steps": 12}
    whole = uninterrupted(name, **options)
    stopped = run(CASES[name], tmp_path, callbacks=[Kill(step)], **options)
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last, **options)
    assert_continues(whole, stopped, resumed)


@some_cases
def test_best_of_an_earlier_epoch(name, tmp_path, uninterrupted):
    # Every epoch is the best one so far: best.ckpt is the validation after the second.
    whole = uninterrupted(name)
    monitor = BestAndLastCheckpoint("epoch", "max")
    stopped = run(CASES[name], tmp_path, max_epochs=2, callbacks=[EpochMetric(), monitor])
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.best)
    assert_equal_weights(whole, resumed)


class EpochMetric(L.Callback):
    """Logs the number of the epoch."""

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        pl_module.log("epoch", float(trainer.current_epoch))


@pytest.mark.parametrize("step", [1, 3, 4])
@some_cases
def test_accumulated_gradients(name, step, tmp_path, uninterrupted):
    options = {"accumulate_grad_batches": 2}
    whole = uninterrupted(name, **options)
    stopped = run(CASES[name], tmp_path, callbacks=[Kill(step)], **options)
    # A signal at zero_grad arrives in the first half of an accumulation.
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last, **options)
    assert stopped.trainer.global_step == step
    assert_continues(whole, stopped, resumed)


@some_cases
def test_limited_epochs_and_validation_inside_them(name, tmp_path, uninterrupted):
    options = {"limit_train_batches": 4, "val_check_interval": 2}
    whole = uninterrupted(name, **options)
    for step in (2, 3, 4):  # the last batch before a validation, after it, the last of an epoch
        stopped = run(CASES[name], tmp_path, callbacks=[Kill(step)], **options)
        resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last, **options)
        assert_equal_weights(whole, resumed)
        assert resumed.recorder.metrics[-1] == whole.recorder.metrics[-1]


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_optimizer_step"])
@pytest.mark.parametrize("step", [3, 4, 6])  # the last batch of an epoch among them
@one_case
def test_an_exception_inside_a_step_leaves_the_state_before_it(
    name, step, hook, tmp_path, monkeypatch, uninterrupted
):
    whole = uninterrupted(name)
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    stopped = run(CASES[name], tmp_path, callbacks=[Fail(step, hook)])
    assert str(stopped.error) == "failed on purpose"
    assert torch.load(stopped.last, weights_only=True)["global_step"] == step
    resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=stopped.last)
    assert_continues(whole, stopped, resumed)


def test_an_exception_inside_a_step_writes_no_state_of_its_own(tmp_path, monkeypatch, caplog):
    """Dropout has drawn, running statistics have moved: no run passes through that state."""
    stopped = run(CASES["classification"], tmp_path / "first", callbacks=[Fail(3, FORWARD)])
    assert not list(tmp_path.rglob("*.ckpt"))
    said = "Failed inside step 4, which is not saved; no checkpoint had been written before"
    assert said in caplog.text
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    stopped = run(CASES["classification"], tmp_path / "second", callbacks=[Fail(3, FORWARD)])
    assert f"is not saved; to go on: trellis fit --ckpt_path {stopped.last}" in caplog.text


class KillIn(L.Callback):
    """Send a signal where ``hook`` is called after ``step`` steps."""

    def __init__(self, step: int, hook: str, number: int) -> None:
        self.step, self.number = step, number
        setattr(self, hook, self._kill)

    def _kill(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("averaged", [False, True])
def test_sigterm_within_a_validation_leaves_the_state_before_the_step(
    averaged, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    extra = {"val_check_interval": 2}

    def callbacks():
        return [WeightAveraging()] if averaged else []

    whole = run(CASES["classification"], tmp_path, callbacks=callbacks(), **extra)
    kill = KillIn(4, "on_validation_batch_start", signal.SIGTERM)
    stopped = run(CASES["classification"], tmp_path, callbacks=[kill, *callbacks()], **extra)
    assert "Stopped in the validation after step 4, which is not saved" in caplog.text
    assert torch.load(stopped.last, weights_only=True)["global_step"] == 3
    again = run(
        CASES["classification"], tmp_path, seed=99, ckpt_path=stopped.last,
        callbacks=callbacks(), **extra,
    )  # fmt: skip
    assert_equal_weights(whole, again)
    assert again.recorder.metrics == whole.recorder.metrics[-len(again.recorder.metrics) :]


class EveryStep(BestAndLastCheckpoint):
    """Keeps a copy of every ``last.ckpt``."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Path] = []

    def _write(self, trainer, state, path) -> float:
        super()._write(trainer, state, path)
        if path.endswith("last.ckpt"):
            self.copies.append(Path(shutil.copy(path, f"{path}.{len(self.copies)}")))
        return -math.inf


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
@every_case
def test_every_checkpoint_on_the_way(name, every, tmp_path, monkeypatch, uninterrupted):
    whole = uninterrupted(name, max_epochs=3)
    keeper = EveryStep()
    with monkeypatch.context() as patch:
        patch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
        run(CASES[name], tmp_path, max_epochs=2, callbacks=[keeper])
    assert len(keeper.copies) == 2 * 5  # four steps and the end of each epoch
    # The first step, the last one, the end of its epoch, in the second; or all.
    for copy in keeper.copies if every else [keeper.copies[i] for i in (0, 3, 4, 7)]:
        resumed = run(CASES[name], tmp_path, seed=99, ckpt_path=copy, max_epochs=3)
        assert_equal_weights(whole, resumed)
        assert resumed.recorder.metrics == whole.recorder.metrics[-len(resumed.recorder.metrics) :]
        step = torch.load(copy, weights_only=True)["global_step"]
        later = [m for m in whole.recorder.metrics if m["step"] > step]
        assert resumed.recorder.metrics[-len(later) :] == later


@pytest.mark.parametrize("entry", ["two processes", "a result"])
def test_what_cannot_be_resumed_can_be_evaluated(entry, tmp_path) -> None:
    first = run(CASES["classification"], tmp_path, max_epochs=1)
    content = torch.load(first.last, weights_only=True)
    if entry == "two processes":
        content["trellis_random_states"]["ranks"] *= 2
    else:
        content[RESULT] = True
    changed = tmp_path / "changed.ckpt"
    torch.save(content, changed)
    with pytest.raises(ValueError, match="init_from"):
        raise run(CASES["classification"], tmp_path, ckpt_path=changed).error
    trainer = quiet_trainer(tmp_path)
    options = {"datamodule": CASES["classification"].data(), "verbose": False}
    expected = trainer.test(first.objective, **options)
    assert (
        trainer.test(CASES["classification"].objective(), ckpt_path=changed, **options) == expected
    )
