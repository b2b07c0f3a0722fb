"""Two processes that start once and take many cases: half a second each instead of ten."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_two_processes(what: str, folder: Path) -> dict[str, Any]:
    """What both find together.

    Args:
        what: of ``process_of_two.py``: "configs" or "objectives".
        folder: for their runs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    script = str(Path(__file__).with_name("process_of_two.py"))
    pair = [
        subprocess.Popen(
            [sys.executable, script, what, str(folder)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=(folder / f"{rank}.txt").open("w"),
        )
        for rank in range(2)
    ]
    try:
        codes = [process.wait(timeout=3000) for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert codes == [0, 0], (folder / "0.txt").read_text()[-3000:]
    everything: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return everything
