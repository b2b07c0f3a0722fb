"""Training of sequence models through ``Trainer.fit``, beside a plain loop over the same network.

Both run in turns in one process, over the same batches, with clipping, schedule, logger and
progress line on; ``pytest tests/benchmarks/test_sequence_speed.py -m "" -s`` shows the numbers.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis import Trainer
from trellis.datamodules.base import DataModule
from trellis.datamodules.multi30k import Multi30k
from trellis.datamodules.tiny_shakespeare import TinyShakespeare
from trellis.lightning_modules.base import Objective
from trellis.lightning_modules.causal_lm import CausalLM
from trellis.lightning_modules.sequence_to_sequence import SequenceToSequence
from trellis.networks.gpt import GPT
from trellis.networks.transformer import TransformerSeq2Seq
from trellis.optim.matrix_decay import MatrixDecayAdamW
from trellis.optim.schedule import Schedule
from trellis.sequence.batches import TokenPairs
from trellis.sequence.subword import BPETokenizer

pytestmark = [pytest.mark.slow, pytest.mark.data]
GPT_STEPS, PAIR_STEPS, ROUNDS = 150, 15, 3
PLANNING_GPT_MS = 46.7  # nanoGPT, the same size on two threads of such a machine
PLANNING_TOKENS = 1400  # target tokens a second

adamw = partial(MatrixDecayAdamW, lr=1e-3)
schedule = partial(Schedule, warmup_steps=5)
gpt = partial(
    GPT, context=64, embed_dim=128, num_heads=4, num_layers=4, dropout=0.0, bias=False
)
transformer = partial(TransformerSeq2Seq, embed_dim=256, num_layers=3, dropout=0.1)


class Stopwatch(L.Callback):
    """Seconds of every step after the first few, from start to start."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.starts.append(time.perf_counter())

    def on_train_batch_end(self, *args: Any) -> None:
        self.end = time.perf_counter()


def plain_loop(
    network: nn.Module, batches: Any, steps: int, loss_of: Callable[[nn.Module, Any], Tensor]
) -> float:
    """Seconds of ``steps`` steps without any trainer."""
    optimizer = adamw(network.parameters())
    rates = schedule(optimizer, total_steps=steps + 10)
    start = time.perf_counter()
    for index, batch in enumerate(batches):
        if index == steps:
            break
        loss = loss_of(network, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
    return time.perf_counter() - start


def trained(objective: Objective, data: DataModule, steps: int, root: Path) -> float:
    """Seconds of ``steps`` steps through ``Trainer.fit``."""
    watch = Stopwatch()
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_steps=steps, gradient_clip_val=1.0,
        limit_val_batches=0, enable_model_summary=False, callbacks=[watch],
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    assert trainer.global_step == steps
    return watch.end - watch.starts[0]


def next_token_loss(network: nn.Module, batch: Tensor) -> Tensor:
    logits, _ = network(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def pair_loss(network: nn.Module, batch: TokenPairs) -> Tensor:
    logits = network(batch.source, batch.target[:, :-1])
    labels = batch.target[:, 1:].flatten()
    return F.cross_entropy(
        logits.flatten(0, 1), labels, ignore_index=0, label_smoothing=0.1
    )


@pytest.fixture(autouse=True)
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_gpt_step(tmp_path: Path, data_dir: Path) -> None:
    data = TinyShakespeare(str(data_dir), steps_per_epoch=GPT_STEPS)
    data.setup()
    ratios, plain_ms = [], []
    for _ in range(ROUNDS):
        objective = CausalLM(gpt, adamw, schedule)
        fit = trained(objective, data, GPT_STEPS, tmp_path)
        plain = plain_loop(
            gpt(data.spec.num_tokens), data.train_dataloader(), GPT_STEPS, next_token_loss
        )
        ratios.append(fit / plain)
        plain_ms.append(1000 * fit / GPT_STEPS)
        print(f"GPT: fit {plain_ms[-1]:.1f} ms/step, plain {1000 * plain / GPT_STEPS:.1f}")
    assert min(ratios) <= 1.03
    assert min(plain_ms) <= 0.9 * PLANNING_GPT_MS


def test_sequence_to_sequence_tokens(tmp_path: Path, data_dir: Path) -> None:
    bpe = partial(BPETokenizer, num_tokens=8000)
    data = Multi30k(str(data_dir), tokenizer=bpe, max_tokens=4096)
    data.setup()
    spec = data.spec
    sizes = {
        "source_tokens": spec.source.num_tokens,
        "target_tokens": spec.target.num_tokens,
        "source_pad_id": spec.source.pad_id,
        "target_pad_id": spec.target.pad_id,
    }
    L.seed_everything(0, verbose=False)
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(PAIR_STEPS))]
    tokens = sum(int((batch.target[:, 1:] != 0).sum()) for batch in batches)
    ratios, rates = [], []
    for _ in range(ROUNDS):
        objective = SequenceToSequence(transformer, adamw, schedule, label_smoothing=0.1)
        fit = trained(objective, data, PAIR_STEPS, tmp_path)
        plain = plain_loop(
            transformer(**sizes), data.train_dataloader(), PAIR_STEPS, pair_loss
        )
        ratios.append(plain / fit)
        rates.append(tokens / fit)
        print(f"pairs: fit {tokens / fit:,.0f} target tokens/s, plain {tokens / plain:,.0f}")
    assert median(ratios) >= 0.95
    assert max(rates) >= PLANNING_TOKENS
