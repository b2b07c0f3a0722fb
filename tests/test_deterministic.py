"""The same command gives the same numbers: every graph config, in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from config_cases import CONFIGS
from runs_of_graphs import OTHER_SEED


def found(folder: Path, order: str, seed: int) -> dict[str, Any]:
    """Runs of a process whose sets of texts have an order of their own, and with two threads."""
    folder.mkdir()
    script = str(Path(__file__).with_name("runs_of_graphs.py"))
    done = subprocess.run(
        [sys.executable, script, str(folder), order],
        env={**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return runs


@pytest.mark.data
@pytest.mark.long
def test_two_runs_of_every_graph_config_are_bit_equal(tmp_path: Path, data_dir: str) -> None:
    first = found(tmp_path / "first", "forwards", 1)
    second = found(tmp_path / "second", "backwards", 2)
    configs = {path.name for path in CONFIGS if path.parent.name == "graph"}
    assert set(first) == set(second) == {*configs, "another seed"}
    assert [name for name in first if first[name] != second[name]] == []
    assert first[OTHER_SEED]["weights"] != first["another seed"]["weights"]
