"""How the benchmarks of a GPU are run: rounds of blocks of steps, with the GPU waited for."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import lightning as L
import torch

from trellis import Trainer

# Dense bfloat16, in FLOP/s, of the vendors' data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


@dataclass(frozen=True)
class Setting:
    """Where and how large.

    Args:
        device: ``cuda`` or ``cpu``.
        tiny: so small that it shows only that every part runs.
    """

    device: str
    tiny: bool

    @property
    def backend(self) -> str:
        """Of ``torch.compile``: inductor's C++ takes minutes of a CPU, for nothing that counts."""
        return "aot_eager" if self.tiny else "inductor"

    def synchronize(self) -> None:
        """Wait for what the GPU has been given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def in_rounds(
        self, sides: Mapping[str, Callable[["Blocks"], Any]], size: int, every: int
    ) -> dict[str, list[float]]:
        """Rates of each side's blocks; the sides run one after the other, twice.

        Args:
            sides: call the block's ``on_train_batch_end`` after each step.
            size: what a step is worth: tokens, images, or steps of environments.
            every: steps of a block.
        """
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(2):
            for side, run in sides.items():
                torch.manual_seed(0)
                blocks = Blocks(self, size, every)
                run(blocks)
                rates[side] += blocks.rates
        return rates


class Blocks(L.Callback):
    """Rates of blocks of steps; the first block, which compiles and warms up, is left out.

    Args:
        setting: whose GPU is waited for after each block.
        size: what a step is worth.
        every: steps of a block.
    """

    def __init__(self, setting: Setting, size: int, every: int) -> None:
        self.setting, self.size, self.every = setting, size, every
        self.rates: list[float] = []
        self.steps, self.last = 0, None

    def on_train_start(self, *args: object) -> None:
        """Nothing: a block begins where another ends."""

    def on_train_batch_end(self, *args: object) -> None:
        self.steps += 1
        if self.steps % self.every:
            return
        self.setting.synchronize()
        now = time.perf_counter()
        if self.last is not None:
            self.rates.append(self.size * self.every / (now - self.last))
        self.last = now


def fit(
    setting: Setting, objective: Any, data: Any, blocks: Blocks, *, compiled: bool = False,
    **options: Any,
) -> None:  # fmt: skip
    """One epoch through ``Trainer.fit``, with logger and progress line, without checkpoints."""
    callbacks: list[L.Callback] = [blocks]
    if compiled:
        options["compile"] = setting.backend
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            default_root_dir=root, accelerator=setting.device, devices=1, max_epochs=1,
            limit_val_batches=0, enable_checkpointing=False, enable_model_summary=False,
            callbacks=callbacks, **options,
        )  # fmt: skip
        trainer.fit(objective, datamodule=data)


def shown_peak(what: str, rates: Mapping[str, Sequence[float]], per_token: float) -> str:
    """Model FLOPs utilisation of each side, where the peak of the GPU is known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((peak for card, peak in PEAKS.items() if card in name), None)
    if peak is None:
        return ""
    used = {side: median(each) * per_token / peak for side, each in rates.items()}
    return f"{what}: MFU " + ", ".join(f"{side} {share:.1%}" for side, share in used.items())
