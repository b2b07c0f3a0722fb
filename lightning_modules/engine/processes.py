"""Several processes end together: an error in one of them ends all, with one message."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar

import lightning as L
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing.spawn import ProcessException

from trellis.lightning_modules.engine.graceful_stop import Stopped, in_main_thread
from trellis.lightning_modules.engine.lightning_private import spawns_processes


class EndTogether(L.Callback):
    """End all processes of a run soon after one of them failed, and let that one say why.

    The others wait for it inside a collective, where no exception and no signal reaches Python:
    they would stay there until a timeout of half an hour, then each with an error of its own. So
    a thread of each looks once a second whether another one has failed. What all processes raise
    alike, such as a wrong option, is raised in all, and told by one.

    Nothing can be saved then, for a checkpoint needs all processes; ``BestAndLastCheckpoint``
    writes ``last.ckpt`` after the first step and once a minute.
    """

    patience: ClassVar[float] = 2.0  # seconds in which processes that raise alike are expected to
    _runs: ClassVar[Any] = count()

    def __init__(self) -> None:
        self._store: dist.Store | None = None
        self._thread: threading.Thread | None = None
        self._failed, self._over = False, threading.Event()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or self._store is not None or not dist.is_initialized():
            return  # the processes of a TPU form no group of torch's, and have no store
        environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        self._store = dist.TCPStore(
            environment.main_address,
            environment.main_port,
            is_master=False,
            timeout=timedelta(seconds=30),
        )
        self._key = f"trellis/failed/{next(self._runs)}"
        self._failed, self._over = False, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="end-together")
        self._thread.start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._store is None:
            return
        if not self._failed:
            trainer.strategy.barrier("EndTogether")  # the first process keeps the store
        self._stop_watching()
        self._store = None

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if trainer.world_size == 1 or not dist.is_initialized():
            return  # or the process that only starts the others
        if isinstance(exception, (Stopped, SIGTERMException)):
            self._stop_watching()
            return
        self._failed = True
        try:
            self.setup(trainer, pl_module, "")  # it may have failed before
            assert self._store is not None
            place = self._store.add(self._key, 1)
            end = time.monotonic() + self.patience
            while (alike := self._store.add(self._key, 0)) < trainer.world_size:
                if time.monotonic() > end:
                    break
                time.sleep(0.05)
        except Exception:  # the store went with the first process, which has told its error
            _leave()
        if place > 1:
            exception.told = True  # type: ignore[attr-defined]
            if alike < trainer.world_size:
                _leave()
        self._stop_watching()

    def _stop_watching(self) -> None:
        # A thread that is inside the store when Python ends aborts the process.
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _watch(self) -> None:
        store, over = self._store, self._over
        assert store is not None
        while not over.wait(1.0):
            try:
                failed = store.check([self._key])
            except Exception:  # the store went with the first process
                failed = True
            if failed:
                # The main thread may still come to an exception of its own.
                if not over.wait(self.patience + 1) and not self._failed:
                    _leave()
                return


@contextmanager
def signals_passed_on(trainer: L.Trainer) -> Iterator[None]:
    """Let signals reach the processes that ``trainer`` starts from this one, and waits for.

    A terminal sends Ctrl-C to all of them; as SIGTERM it does not count as a second one.

    Raises:
        KeyboardInterrupt: they ended after Ctrl-C.
        SIGTERMException: they ended after SIGTERM.
        RuntimeError: one of them failed; says what it said.
    """
    if not spawns_processes(trainer) or not in_main_thread():
        yield
        return
    asked: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        asked.append(number)
        for process in trainer.strategy.launcher.procs:  # type: ignore[union-attr]
            process.terminate()

    former = {each: signal.signal(each, pass_on) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except ProcessException as error:
        code = getattr(error, "exit_code", 0)  # one of them got the signal, and told the others
        number = asked[0] if asked else code - 128
        if number == signal.SIGINT:
            raise KeyboardInterrupt from None
        if number == signal.SIGTERM:
            raise SIGTERMException from None
        raise RuntimeError(str(error).strip().splitlines()[-1]) from None
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _leave() -> None:
    """End this process without a word: another one tells what was wrong."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
