"""Two processes forked from the test, which has imported everything: a pair starts in no time."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes


def in_two_processes(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What ``function(folder, *args)`` returns in each of two processes, as ``torchrun`` starts.

    An error in one of them ends both, and is raised here.
    """
    for rank in range(2):
        (folder / f"{rank}.pt").unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = start_processes(
        _enter, (port, function, folder, args), nprocs=2, start_method="fork", join=False
    )
    end = time.monotonic() + 600
    while not pair.join(timeout=5):
        if time.monotonic() > end:
            for process in pair.processes:
                process.kill()
            raise TimeoutError(f"{function.__name__}: the two processes wait for each other")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _enter(
    rank: int, port: int, function: Callable[..., Any], folder: Path, args: tuple[Any, ...]
) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test",
        WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0",
        RANK=str(rank), LOCAL_RANK=str(rank),
    )  # fmt: skip
    torch.save(function(folder, *args), folder / f"{rank}.pt")
    # The first process holds what both meet by: it stays until the other is done with it.
    end = time.monotonic() + 60
    while not (folder / f"{1 - rank}.pt").exists() and time.monotonic() < end:
        time.sleep(0.01)
