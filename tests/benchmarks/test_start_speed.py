"""From the command to the end of the first step, beside a minimal script of Lightning's CLI.

``pytest tests/benchmarks/test_start_speed.py -m "" -s`` shows the numbers.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from measurements import report

pytestmark = pytest.mark.slow
ROUNDS = 5
TRELLIS = str(Path(sys.executable).with_name("trellis"))
# With what `trellis fit` imports, too: metrics, and scikit-learn for its digits.
SCRIPT = """
import lightning as L
import torch
import torchmetrics
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class Digits(L.LightningDataModule):
    def train_dataloader(self):
        x, y = load_digits(return_X_y=True)
        rows = TensorDataset(torch.tensor(x, dtype=torch.float), torch.tensor(y))
        return DataLoader(rows, batch_size=32, shuffle=True)


class Classifier(L.LightningModule):
    def __init__(self, width: int = 64):
        super().__init__()
        self.network = torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)
        )
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


LightningCLI(Classifier, Digits)
"""
ONE_STEP = [
    "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
]  # fmt: skip


def seconds(words: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=os.environ)
    return time.perf_counter() - start


def test_first_step_beside_a_minimal_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ours = [TRELLIS, "fit", "--model=Classification", "--data=Digits", *ONE_STEP]
    theirs = [sys.executable, "script.py", "fit", *ONE_STEP]
    pairs = [(seconds(ours, tmp_path), seconds(theirs, tmp_path)) for _ in range(ROUNDS)]
    sides = {"trellis": [a for a, _ in pairs], "minimal script": [b for _, b in pairs]}
    report("From the command to the end of one step", "s", sides)
    assert median(a / b for a, b in pairs) <= 1.15


@pytest.mark.parametrize("word", ["--help", "list"])
def test_help_and_list_come_at_once(word: str, tmp_path: Path) -> None:
    times = [seconds([TRELLIS, word], tmp_path) for _ in range(ROUNDS)]
    report(f"trellis {word}", "s", {"trellis": times})
    assert median(times) < 1
