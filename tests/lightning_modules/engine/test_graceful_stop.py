"""Ctrl-C: once to finish the step, twice to stop at once."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.engine import checkpointing, graceful_stop
from trellis.lightning_modules.engine.graceful_stop import GracefulStop, Stopped
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification

torch.set_num_threads(1)


class Press(L.Callback):
    """Ctrl-C in the forward pass of a step, ``times`` times."""

    def __init__(self, step: int, times: int) -> None:
        self.step, self.times, self.finished = step, times, []

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def on_train_batch_end(self, trainer, *args) -> None:
        self.finished.append(trainer.global_step)

    def on_validation_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            self.finished.append("validation")


def press(root, step: int, times: int) -> tuple[Press, Trainer]:
    callback = Press(step, times)
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], max_epochs=2, limit_train_batches=3,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        trainer.fit(Classification(), datamodule=Digits())
    return callback, trainer


@pytest.fixture(autouse=True)
def _handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_once_finishes_the_step(tmp_path):
    callback, trainer = press(tmp_path, step=1, times=1)
    assert callback.finished == [1, 2]
    path = trainer.checkpoint_callback.last_model_path
    assert torch.load(path, weights_only=True)["global_step"] == 2


def test_after_the_last_batch_the_epoch_is_finished(tmp_path):
    callback, _ = press(tmp_path, step=2, times=1)
    assert callback.finished == [1, 2, 3, "validation"]


def test_twice_stops_inside_the_step_and_saves_nothing(tmp_path, caplog):
    callback, trainer = press(tmp_path, step=1, times=2)
    assert callback.finished == [1]
    assert not list(tmp_path.rglob("*.ckpt"))
    said = "Stopped inside step 2, which is not saved; no checkpoint had been written"
    assert said in caplog.text


def test_twice_leaves_the_state_before_the_step(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    _, trainer = press(tmp_path, step=2, times=2)
    path = trainer.checkpoint_callback.last_model_path
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert f"which is not saved; to go on: trellis fit --ckpt_path {path}" in caplog.text


def test_in_the_last_step_the_run_ends_by_itself(tmp_path):
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Press(1, 1)], max_epochs=1, limit_train_batches=2,
    )  # fmt: skip
    trainer.fit(Classification(), datamodule=Digits())
    assert trainer.state.finished


def test_a_run_that_ends_by_itself_gives_the_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1, limit_train_batches=1, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(Classification(), datamodule=Digits())
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def _put_handlers_back(_handlers_come_back):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def at_a_boundary(stop: GracefulStop, monkeypatch, *others: int) -> None:
    """Between two steps of this process and of others, which got these signals."""
    monkeypatch.setattr(graceful_stop, "is_over", lambda trainer: False)

    def reduce(value, reduce_op):
        together = torch.stack([value, *map(torch.tensor, others)])
        return {"max": together.max, "min": together.min, "sum": together.sum}[reduce_op]()

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce, launcher=None)
    stop.on_boundary(SimpleNamespace(strategy=strategy, world_size=1 + len(others)), None)


def after_a_step(stop: GracefulStop, monkeypatch, *others: int) -> None:
    """The boundary at which several processes ask each other, and the next one."""

    def all_reduce(own, operation, group, async_op):
        assert async_op
        assert operation == torch.distributed.ReduceOp.MAX
        together = torch.stack([own, *map(torch.tensor, others)]).max()
        return SimpleNamespace(wait=lambda: own.copy_(together))

    monkeypatch.setattr(graceful_stop.dist, "all_reduce", all_reduce)
    stop._group = object()
    at_a_boundary(stop, monkeypatch, *others)  # the answers are not there yet
    at_a_boundary(stop, monkeypatch, *others)


@pytest.mark.usefixtures("_put_handlers_back")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_processes_stop_whichever_got_the_signal(number, monkeypatch):
    error = Stopped if number == signal.SIGINT else SIGTERMException
    after_a_step(GracefulStop(), monkeypatch, 0)
    with pytest.raises(error):
        after_a_step(GracefulStop(), monkeypatch, number)
    asked = GracefulStop()
    asked._handle(number, None)
    with pytest.raises(error):
        after_a_step(asked, monkeypatch, 0)
    assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


@pytest.mark.usefixtures("_put_handlers_back")
def test_processes_without_a_group_of_torch_stop_at_once(monkeypatch):
    at_a_boundary(GracefulStop(), monkeypatch, 0)
    with pytest.raises(Stopped):
        at_a_boundary(GracefulStop(), monkeypatch, signal.SIGINT)


@pytest.mark.usefixtures("_put_handlers_back")
def test_sigterm_after_ctrl_c_is_no_second_one(monkeypatch):
    stop = GracefulStop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        stop._handle(number, None)
    with pytest.raises(Stopped):
        at_a_boundary(stop, monkeypatch)


@pytest.mark.usefixtures("_put_handlers_back")
def test_the_next_run_is_not_stopped_by_the_signal_of_the_last(tmp_path, monkeypatch):
    stop = GracefulStop()
    stop._handle(signal.SIGINT, None)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False)
    stop.on_train_start(trainer, Classification())
    try:
        at_a_boundary(stop, monkeypatch)
        stop._handle(signal.SIGINT, None)  # the first one again
    except KeyboardInterrupt:  # which would end the tests
        pytest.fail("stopped by the signal of the last run")


@pytest.mark.usefixtures("_put_handlers_back")
def test_in_another_thread_signals_are_left_alone(tmp_path, monkeypatch):
    """Python lets the main one alone handle them."""
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False)
    before = signal.getsignal(signal.SIGINT)

    def train() -> None:
        stop = GracefulStop()
        stop.on_train_start(trainer, Classification())
        with pytest.raises(Stopped):
            after_a_step(stop, monkeypatch, signal.SIGINT)

    with ThreadPoolExecutor() as pool:
        pool.submit(train).result()
    assert signal.getsignal(signal.SIGINT) is before
