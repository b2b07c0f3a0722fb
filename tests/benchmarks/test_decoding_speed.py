"""Beams of 5 over 1,000 sentences in batches, beside the same search one sentence at a time."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from measurements import report
from torch import Tensor

from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.batches import Ragged, token_budget
from trellis.sequence.beam_search import beam_search

SENTENCES, ALONE = 1000, 100
BOS, EOS = 1, 2


class AsLongAsTheSource:
    """An untrained network whose translations end as a trained one's would: with the source."""

    def __init__(self, network: TransformerSeq2Seq) -> None:
        self.network = network

    def encode(self, source: Tensor) -> tuple[tuple[Any, Tensor], tuple[Any, Tensor]]:
        memory, state = self.network.encode(source)
        return (memory, (source != 0).sum(1)), (state, torch.zeros(len(source)))

    def decode(self, tokens: Tensor, state: Any, memory: Any) -> tuple[Tensor, Any]:
        logits, inner = self.network.decode(tokens, state[0], memory[0])
        ends = state[1] + 1 >= memory[1]
        logits[:, -1, EOS] = torch.where(ends, 50.0, -50.0)
        return logits, (inner, state[1] + 1)


@torch.no_grad()
def translated(
    network: AsLongAsTheSource, sources: Ragged, batches: Sequence[Tensor]
) -> tuple[float, dict[int, list[int]]]:
    """Sentences a second, and what was written for each."""
    written: dict[int, list[int]] = {}
    start = time.perf_counter()
    for batch in batches:
        memory, state = network.encode(sources.padded(batch, 0))
        prompt = torch.full((len(batch), 1), BOS)
        best = beam_search(
            network.decode, prompt, state, memory, eos_id=EOS, max_new_tokens=60, num_beams=5
        ).best()
        written.update(zip(batch.tolist(), best, strict=True))
    return len(written) / (time.perf_counter() - start), written


@pytest.mark.slow
def test_a_batched_beam_is_three_times_faster_than_one_sentence_at_a_time() -> None:
    torch.manual_seed(0)
    # Vocabularies and lengths of Multi30k's test2016.
    lengths = (13 + 4 * torch.randn(SENTENCES)).round().clamp(4, 35).long()
    sources = Ragged([torch.randint(4, 7853, (int(n),)).tolist() for n in lengths])
    network = AsLongAsTheSource(
        TransformerSeq2Seq(7853, 5893, source_pad_id=0, target_pad_id=0).eval()
    )
    order = torch.arange(SENTENCES)
    batches = token_budget(sources.lengths, 1024, shuffle=False)(order, torch.Generator())
    singles = list(order[:: SENTENCES // ALONE].split(1))
    translated(network, sources, singles[:5])
    alone, one_by_one = translated(network, sources, singles)
    together, all_written = translated(network, sources, batches)
    print(f"\nsentences/s with beams of 5: one at a time {alone:.1f}, in batches of 1,024 tokens "
          f"{together:.1f}, {together / alone:.1f} times faster")  # fmt: skip
    sides = {"trellis, batches of 1,024 tokens": [together], "one sentence at a time": [alone]}
    report("Beams of 5", "sentences/s", sides)
    assert together / alone >= 3
    assert [len(all_written[i]) for i in range(SENTENCES)] == (lengths - 1).tolist()
    same = sum(all_written[i] == tokens for i, tokens in one_by_one.items())
    assert same == ALONE
