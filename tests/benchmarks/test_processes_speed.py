"""Two processes on two cores beside one, each with a thread, over batches of the same total size.

``pytest tests/benchmarks/test_processes_speed.py -m "" -s`` shows the numbers.
"""

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from forked_pair import in_two_processes
from measurements import report
from torch.multiprocessing import start_processes
from turns import Ticks

from trellis import Trainer
from trellis.datamodules.image.mnist import MNIST
from trellis.datamodules.sequence.multi30k import Multi30k
from trellis.lightning_modules.generative.variational import Variational
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.networks.generative.vae import VAE
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.subword import BPETokenizer

pytestmark = [pytest.mark.slow, pytest.mark.data]
ROUNDS = 2
adam = partial(torch.optim.Adam, lr=1e-3, fused=True)


class NoTurns:
    """Nobody else takes part."""

    def give(self) -> None: ...

    def take(self, side: str) -> None: ...


def vae(data_dir: str, size: int) -> tuple[Any, Any]:
    return Variational(VAE, adam), MNIST(data_dir, size, flatten=True, pixels="unit")


def translation(data_dir: str, size: int) -> tuple[Any, Any]:
    network = partial(TransformerSeq2Seq, embed_dim=256, num_layers=3)
    bpe = partial(BPETokenizer, num_tokens=8000)
    data = Multi30k(data_dir, tokenizer=bpe, max_tokens=size)
    return SequenceToSequence(network, adam), data


def seconds(folder: Path, objective: Any, data: Any, processes: int, steps: int) -> list[float]:
    """Of each step but the first ones, in one of the processes."""
    torch.set_num_threads(1)
    ticks = Ticks(NoTurns(), "", 1)  # type: ignore[arg-type]
    trainer = Trainer(
        default_root_dir=folder / str(processes), accelerator="cpu", max_steps=steps,
        devices=processes, strategy="ddp" if processes > 1 else "auto", limit_val_batches=0,
        enable_model_summary=False, enable_progress_bar=False, callbacks=[ticks],
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    return ticks.steps[3:]


def _alone(_: int, folder: Path, *args: Any) -> None:
    torch.save(seconds(folder, *args), folder / "alone.pt")


# A step of 512 images is so short that summing the gradients over the loopback device, 2.6 MB each
# way, is a third of it: reported only.
@pytest.mark.parametrize(
    ("make", "size", "steps", "least"),
    [(vae, 512, 60, 1.0), (vae, 2048, 24, 1.6), (translation, 4096, 9, 1.6)],
)
def test_two_processes_beside_one(
    make: Any, size: int, steps: int, least: float, tmp_path: Path, data_dir: str
) -> None:
    sides: dict[str, list[float]] = {"two processes": [], "one process": []}
    two, one = make(data_dir, size // 2), make(data_dir, size)
    for _, data in (two, one):
        data.setup()
    for _ in range(ROUNDS):
        both = in_two_processes(seconds, tmp_path, *two, 2, steps)
        start_processes(_alone, (tmp_path, *one, 1, steps), start_method="fork")
        sides["two processes"].append(size / median(both[0]))
        sides["one process"].append(size / median(torch.load(tmp_path / "alone.pt")))
    report(
        f"Training with two processes: {make.__name__}, batches of {size:,}", "samples/s", sides
    )
    pairs = zip(*sides.values(), strict=True)
    assert median(two / one for two, one in pairs) >= least
