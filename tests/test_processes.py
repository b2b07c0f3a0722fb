"""Every config in two processes: the metrics of one, equal weights, and a bit-equal resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from config_cases import CONFIGS, NAMES, parsed

pytestmark = [pytest.mark.long, pytest.mark.data]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> dict[str, Any]:
    """What one pair of processes, which starts once, finds for all configs."""
    folder = tmp_path_factory.mktemp("two")
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
            [sys.executable, script, str(folder)],
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


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_two_processes_are_like_one(path: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    two = found[f"{path.parent.name}/{path.name}"]
    assert "error" not in two, two["error"]
    assert two["differ_after_resume"] == []
    assert two["differ_between_processes"] == []
    # A stream of text is divided by rows: a step of one process is a step of both.
    batches = 2 if path.stem == "lstm_shakespeare" else 4
    cli = parsed(path, tmp_path, f"--trainer.limit_val_batches={batches}")
    (one,) = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    assert two["metrics"] == pytest.approx(one, rel=1e-5, abs=1e-6)
