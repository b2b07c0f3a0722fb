"""Causal attention over 4,096 tokens: to all, to the last 128, and linear, one thread."""

import time
from functools import partial

import pytest
import torch
from measurements import report
from torch import Tensor

from trellis.nn.attention import KeyValues, attend_causally
from trellis.nn.linear_attention import attend_linearly
from trellis.nn.local_attention import attend_locally

TOKENS, HEADS, WIDTH, WINDOW, ROUNDS = 4096, 4, 32, 128, 5


def full(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return attend_causally(query, KeyValues(keys, values))


def linear(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return attend_linearly(query, keys, values)[0]


@pytest.mark.slow
def test_local_and_linear_attention_are_faster_on_long_texts() -> None:
    torch.manual_seed(0)
    kinds = {
        "to the last 128": partial(attend_locally, window=WINDOW),
        "linear": linear,
        "to all": full,
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(ROUNDS + 1):
        for name, attend in kinds.items():
            parts = [torch.randn(1, HEADS, TOKENS, WIDTH, requires_grad=True) for _ in range(3)]
            start = time.perf_counter()
            attend(*parts).sum().backward()
            if number:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    report("Causal attention, 4,096 tokens with gradients", "ms", times)
    medians = {name: sorted(each)[ROUNDS // 2] for name, each in times.items()}
    print({name: f"{ms:.1f} ms" for name, ms in medians.items()})
    assert max(medians["to the last 128"], medians["linear"]) < medians["to all"]
