"""Several processes stop together: on a signal to any of them, and on an error in any of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trellis
from trellis.lightning_modules.commands.ledger import configs_dir

pytestmark = pytest.mark.long  # each starts two processes or three

TROUBLE = '''
import time
import lightning as L


class Trouble(L.Callback):
    """Slow steps, and an error in some process."""

    def __init__(self, ranks: list[int], step: int = 3) -> None:
        self.ranks, self.step = ranks, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        time.sleep(0.02)
        if trainer.global_step >= self.step and trainer.global_rank in self.ranks:
            raise ValueError("no such thing")
'''
COMMAND = (
    "from trellis.lightning_modules.cli import main\nif __name__ == '__main__':\n    main()\n"
)


def start(folder: Path, strategy: str, ranks: list[int]) -> "subprocess.Popen[str]":
    (folder / "trouble.py").write_text(TROUBLE)
    (folder / "command.py").write_text(COMMAND)
    config, data = "graph/mlp_digits.yaml", []
    if strategy == "sharded":  # which needs a network with blocks
        config = "sequence/transformer_reverse.yaml"
        data = ["--data.num_train=64", "--data.num_val=8", "--data.batch_size=8"]
        data += ["--model.lr_scheduler=null"]  # it would plan a run that ends
    words = [
        f"--config={configs_dir() / config}",
        *data,
        "--trainer.accelerator=cpu",
        "--trainer.devices=2",
        f"--trainer.strategy={strategy}",
        "--trainer.max_epochs=-1",
        f"--trainer.default_root_dir={folder / 'runs'}",
        "--trainer.run_name=test",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.callbacks+=trouble.Trouble",
        f"--trainer.callbacks.ranks={ranks}",
    ]
    return subprocess.Popen(
        [sys.executable, "command.py", "fit", *words],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a process group of its own, as a scheduler gives a job
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )


def members(group: int) -> list[int]:
    """The processes of a group that are no zombies, oldest first."""
    listed = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines()[1:]]
    return sorted(int(r[0]) for r in rows if int(r[1]) == group and not r[2].startswith("Z"))


def ended(process: "subprocess.Popen[str]", within: float = 60) -> str:
    """What it printed; all its processes have to be gone in time."""
    try:
        printed = process.communicate(timeout=within)[0]
        end = time.monotonic() + within
        while (left := members(process.pid)) and time.monotonic() < end:
            time.sleep(0.2)
        assert not left
        return printed
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs/test").iterdir()
    return run


@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        ("ddp", [1]),
        ("ddp", [0]),
        ("ddp", [0, 1]),
        ("ddp_fork", [1]),
        ("sharded", [1]),
    ],
)
def test_an_error_in_one_process_ends_all_with_one_message(
    strategy: str, ranks: list[int], tmp_path: Path
) -> None:
    process = start(tmp_path, strategy, ranks)
    printed = ended(process, within=180)
    assert process.returncode != 0
    assert printed.count("no such thing") == 1
    assert "Connection" not in printed
    assert "Traceback" not in printed
    trellis.load(only_run(tmp_path) / "checkpoints/last.ckpt")


@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork", "sharded"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["launcher", "one", "all"])
def test_a_signal_ends_all_after_the_same_step(
    strategy: str, number: signal.Signals, whom: str, tmp_path: Path
) -> None:
    process = start(tmp_path, strategy, ranks=[])
    end = time.monotonic() + 180
    while not list(tmp_path.glob("runs/test/*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)
    time.sleep(1)
    if whom == "all":
        os.killpg(process.pid, number)
    else:
        os.kill(members(process.pid)[0 if whom == "launcher" else -1], number)
    printed = ended(process)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert printed.count("Stopped after step") == 1
    assert "Traceback" not in printed
    trellis.load(only_run(tmp_path) / "checkpoints/last.ckpt")
