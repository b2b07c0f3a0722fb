"""A worker of a Ray cluster is killed, and the run goes on from its last checkpoint."""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from config_cases import parsed
from forked_pair import in_two_processes

from trellis.lightning_modules.commands.ledger import configs_dir

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]
SCRIPT = Path(__file__).parents[1] / "docs/ray_train.py"
CONFIG = configs_dir() / "graph/mlp_digits.yaml"
SLOW = """
import time
import lightning as L


class Slow(L.Callback):
    def on_train_batch_start(self, *args):
        time.sleep(0.1)
"""


def descendants(process: int) -> dict[int, str]:
    """Number -> command of all processes that ``process`` has started, and these in turn."""
    rows = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    listed = [line.split(None, 2) for line in rows.splitlines()]
    found: dict[int, str] = {}
    parents = {process}
    while parents:
        started = {int(pid): text for pid, parent, text in listed if int(parent) in parents}
        found.update(started)
        parents = set(started)
    return found


def uninterrupted(folder: Path) -> dict[str, Any]:
    two = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    cli = parsed(
        CONFIG, folder, *two, "--trainer.max_epochs=40", "--trainer.limit_val_batches=1.0"
    )
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli.model.state_dict()


def test_a_killed_worker_is_replaced_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    words = [
        f"--config={CONFIG}", "--seed_everything=0", "--trainer.max_epochs=40",
        "--trainer.accelerator=cpu", "--trainer.callbacks+=slow.Slow",
        "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0",
    ]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--folder", str(tmp_path / "runs"), "--", *words],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0",
             "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    try:
        end = time.monotonic() + 300
        while not list(tmp_path.rglob("last.ckpt")):
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.2)
        workers = [p for p, text in descendants(run.pid).items() if "RayTrainWorker" in text]
        assert len(workers) == 2
        os.kill(workers[-1], signal.SIGKILL)
        output, _ = run.communicate(timeout=400)
    finally:
        run.terminate()
    assert run.returncode == 0, output[-5000:]
    first, second = sorted(tmp_path.glob("runs/mlp_digits/*/checkpoints/last.ckpt"))
    assert 0 < torch.load(first)["epoch"] < 40
    found = torch.load(second)
    assert found["epoch"] == 40
    expected = in_two_processes(uninterrupted, tmp_path)[0]
    assert all(torch.equal(value, expected[name]) for name, value in found["state_dict"].items())
