"""Runs side by side, each worker process with one thread."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

Report = Callable[[Any], None]
# What a worker sends: what it is doing, that it is done, or what went wrong.
MADE, DONE, FAILED = "made", "done", "failed"


class Jobs:
    """Worker processes that take tasks, kept for as long as the ``with`` block.

    A worker imports once and runs many tasks. Stopped by Ctrl-C or SIGTERM, the call stops what is
    under way between two steps, keeps what was done until then, and waits for all workers.

    Args:
        number: of workers.
        work: a function at the top of a module: takes a task and a function that reports what it
            is doing, returns a result; tasks, reports and results are pickled.
    """

    def __init__(self, number: int, work: Callable[[Any, Report], Any]) -> None:
        if number < 1:
            raise ValueError(f"jobs={number}: give at least 1 process")
        self.number, self.work = number, work
        self._workers: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *exception: object) -> None:
        for connection in self._workers:
            connection.close()  # which ends a worker that waits for a task
        for process in self._workers.values():
            process.join()
        self._workers = {}

    def run(
        self,
        tasks: Sequence[Any],
        made: Callable[[Any, Any], None],
        done: Callable[[Any, Any], None],
    ) -> None:
        """Run all tasks, in any order.

        Args:
            tasks: one a call of ``work``.
            made: called with a task and what it reports.
            done: called with a task and its result.
        Raises:
            RuntimeError: a task failed; says which and why. The others are stopped, as by Ctrl-C.
        """
        self._start(min(self.number, len(tasks)))
        waiting = deque(tasks)
        busy: dict[Connection, Any] = {}
        with _sigterm_raises():
            try:
                idle = list(self._workers)
                while waiting or busy:
                    while idle and waiting:
                        connection, task = idle.pop(), waiting.popleft()
                        busy[connection] = task
                        connection.send(task)
                    for heard in wait(list(busy)):
                        assert isinstance(heard, Connection)
                        if self._hear(heard, busy, made, done):
                            idle.append(heard)
            except BaseException:
                self._stop(busy, made, done)
                raise

    def _start(self, number: int) -> None:
        context = get_context("spawn")  # a fork would copy torch's threads half
        while len(self._workers) < number:
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, self.work))
            with _one_thread_and_no_interrupt():
                process.start()
            theirs.close()
            self._workers[ours] = process

    @staticmethod
    def _hear(connection: Connection, busy: dict[Connection, Any], made: Any, done: Any) -> bool:
        """Take one message; whether the worker is idle after it."""
        task = busy[connection]
        try:
            what, value = connection.recv()
        except (EOFError, ConnectionResetError):
            del busy[connection]
            raise RuntimeError(f"{task}: its process ended without a word") from None
        if what == MADE:
            made(task, value)
            return False
        del busy[connection]
        if what == FAILED:
            raise RuntimeError(f"{task}: {value}")
        done(task, value)
        return True

    def _stop(self, busy: dict[Connection, Any], made: Any, done: Any) -> None:
        """End all workers, and keep the results that they have sent before."""
        for process in self._workers.values():
            process.terminate()
        for process in self._workers.values():
            process.join()
        for connection in list(busy):
            try:
                while not self._hear(connection, busy, made, done):
                    pass
            except RuntimeError:  # stopped before it was done, or failed, too
                pass
        self.__exit__()


def _worker(connection: Connection, work: Callable[[Any, Report], Any]) -> None:
    """Run the tasks that come until the connection is closed."""
    for task in _received(connection):
        try:
            answer = (DONE, work(task, lambda value: connection.send((MADE, value))))
        except Exception as error:
            if os.environ.get("TRELLIS_TRACEBACK"):
                sys.excepthook(type(error), error, error.__traceback__)
            answer = (FAILED, " ".join(str(error).split()) or type(error).__name__)
        except (KeyboardInterrupt, SystemExit):  # stopped between two steps; last.ckpt is written
            return
        connection.send(answer)


def _received(connection: Connection) -> Iterator[Any]:
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return


@contextmanager
def _one_thread_and_no_interrupt() -> Iterator[None]:
    """What a process that starts here inherits.

    Ctrl-C reaches every process of a terminal; outside of training a worker waits for what the
    first process says.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends the call as Ctrl-C does, with its own exit code."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
