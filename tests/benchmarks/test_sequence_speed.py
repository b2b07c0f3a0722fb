"""Training of sequence models through ``Trainer.fit``, beside a plain loop over the same network.

Both run in turns in one process, over the same batches, with clipping, schedule, logger and
progress line on; ``pytest tests/benchmarks/test_sequence_speed.py -m "" -s`` shows the numbers.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from measurements import report
from torch import Tensor, nn

from trellis import Trainer
from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.sequence.multi30k import Multi30k
from trellis.datamodules.sequence.tiny_shakespeare import TinyShakespeare
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.optim.matrix_decay import MatrixDecayAdamW
from trellis.optim.schedule import Schedule
from trellis.sequence.batches import TokenPairs
from trellis.sequence.subword import BPETokenizer

pytestmark = [pytest.mark.slow, pytest.mark.data]
GPT_STEPS, PAIR_STEPS, ROUNDS = 60, 15, 3
LEAST = 1400  # target tokens a second

adamw = partial(MatrixDecayAdamW, lr=1e-3)
schedule = partial(Schedule, warmup_steps=5)
gpt = partial(GPT, context=64, embed_dim=128, num_heads=4, num_layers=4, dropout=0.0, bias=False)
transformer = partial(TransformerSeq2Seq, embed_dim=256, num_layers=3, dropout=0.1)


class Stopwatch(L.Callback):
    """When each step began, and when the last one ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *args: Any) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, *args: Any) -> None:
        self.times.append(time.perf_counter())


def plain_loop(
    network: nn.Module, batches: Any, steps: int, loss_of: Callable[[nn.Module, Any], Tensor]
) -> list[float]:
    """When each of ``steps`` steps began, and when the last one ended, without any trainer."""
    optimizer = adamw(network.parameters())
    rates = schedule(optimizer, total_steps=steps + 10)
    times = []
    for batch in islice(batches, steps):
        times.append(time.perf_counter())
        loss = loss_of(network, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
    return [*times, time.perf_counter()]


def trained(
    objective: Objective, data: DataModule, steps: int, root: Path, *, compiled: bool = False
) -> list[float]:
    """The same through ``Trainer.fit``."""
    watch = Stopwatch()
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", max_steps=steps, gradient_clip_val=1.0,
        limit_val_batches=0, enable_model_summary=False, callbacks=[watch], compile=compiled,
    )  # fmt: skip
    trainer.fit(objective, datamodule=data)
    assert trainer.global_step == steps
    return watch.times


def step_ms(times: list[float]) -> float:
    """The median step: now and then the machine itself holds one up."""
    return 1000 * median(b - a for a, b in pairwise(times))


def next_token_loss(network: nn.Module, batch: Tensor) -> Tensor:
    logits, _ = network(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def pair_loss(network: nn.Module, batch: TokenPairs) -> Tensor:
    logits = network(batch.source, batch.target[:, :-1])
    labels = batch.target[:, 1:].flatten()
    return F.cross_entropy(logits.flatten(0, 1), labels, ignore_index=0, label_smoothing=0.1)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


def gpt_steps(data: TinyShakespeare, root: Path) -> dict[str, float]:
    """Milliseconds a step, through ``Trainer.fit`` and in a plain eager loop."""
    fit, compiled = (
        step_ms(trained(CausalLM(gpt, adamw, schedule), data, GPT_STEPS, root, compiled=each))
        for each in (False, True)
    )
    network = gpt(data.spec.num_tokens)
    plain = plain_loop(network, data.train_dataloader(), GPT_STEPS, next_token_loss)
    found = {"trellis": fit, "trellis, compiled": compiled, "plain loop": step_ms(plain)}
    print(f"GPT: {', '.join(f'{side} {ms:.1f} ms' for side, ms in found.items())}")
    return found


def test_gpt_step(tmp_path: Path, data_dir: Path) -> None:
    data = TinyShakespeare(str(data_dir), steps_per_epoch=GPT_STEPS)
    data.setup()
    with threads(1):
        rounds = [gpt_steps(data, tmp_path) for _ in range(ROUNDS)]
    sides = {side: [each[side] for each in rounds] for side in rounds[0]}
    report("Character GPT, a step", "ms", sides)
    assert median(each["trellis"] / each["plain loop"] for each in rounds) <= 1 / 0.98
    assert median(each["plain loop"] / each["trellis, compiled"] for each in rounds) >= 1.25


@pytest.mark.parametrize("number", [1, 2])
def test_sequence_to_sequence_tokens(number: int, tmp_path: Path, data_dir: Path) -> None:
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
    batches = islice(data.train_dataloader(), PAIR_STEPS)
    tokens = sum(int((batch.target[:, 1:] != 0).sum()) for batch in batches)
    ratios, rates, others = [], [], []
    with threads(number):
        for _ in range(ROUNDS):
            objective = SequenceToSequence(transformer, adamw, schedule, label_smoothing=0.1)
            fit = trained(objective, data, PAIR_STEPS, tmp_path)
            network = transformer(**sizes)
            plain = plain_loop(network, data.train_dataloader(), PAIR_STEPS, pair_loss)
            ratios.append(step_ms(plain) / step_ms(fit))
            rates.append(tokens / PAIR_STEPS * 1000 / step_ms(fit))
            others.append(tokens / PAIR_STEPS * 1000 / step_ms(plain))
            print(f"pairs: fit {rates[-1]:,.0f} target tokens/s, {ratios[-1]:.2f} of a plain loop")
    sides = {"trellis": rates, "plain loop": others}
    report(f"Transformer on Multi30k, {number} thread(s)", "target tokens/s", sides)
    assert median(ratios) >= 0.97
    assert max(rates) >= LEAST / (3 - number)
