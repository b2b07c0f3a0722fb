"""Packed sequences against the same ones in padded rows."""

import random

import pytest
import torch
import torch.nn.functional as F

from trellis.networks.sequence import BertTagger
from trellis.sequence.batches import Ragged
from trellis.sequence.packing import joined, packed, packed_rows, same_sequence

PAD, IGNORED = 0, -100


def sentences(lengths: list[int], low: int = 1, high: int = 30) -> Ragged:
    drawn = random.Random(0)
    return Ragged([[drawn.randrange(low, high) for _ in range(n)] for n in lengths])


@pytest.mark.parametrize("seed", range(5))
def test_rows_hold_each_sequence_once_and_little_padding(seed: int) -> None:
    drawn = random.Random(seed)
    lengths = [drawn.randint(1, 60) for _ in range(50)]
    rows = packed_rows(lengths)
    assert sorted(index for row in rows for index in row) == list(range(50))
    assert all(sum(lengths[index] for index in row) <= max(lengths) for row in rows)
    fewest = -(-sum(lengths) // max(lengths))
    assert len(rows) <= 11 / 9 * fewest + 6 / 9


def test_tokens_and_positions_are_those_of_the_sequences() -> None:
    lengths = [3, 7, 2, 5, 1]
    texts, rows = sentences(lengths), packed_rows(lengths)
    found = packed(texts, rows, PAD)
    for row, tokens, positions in zip(rows, found.tokens, found.positions, strict=True):
        starts = (positions == 0).nonzero().flatten().tolist()
        for start, index in zip(starts, row, strict=False):
            length = lengths[index]
            assert tokens[start : start + length].equal(texts[index])
            assert positions[start : start + length].tolist() == list(range(length))
        assert (tokens[sum(lengths[i] for i in row) :] == PAD).all()


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_packed_batch_learns_the_same_as_a_padded_one(norm_first: bool) -> None:
    torch.manual_seed(0)
    lengths = [3, 9, 2, 5, 1, 8, 4]
    texts, tags, rows = sentences(lengths), sentences(lengths, 0, 4), packed_rows(lengths)
    assert len(rows) < len(lengths)
    network = BertTagger(
        30, 4, pad_id=PAD, embed_dim=8, num_heads=2, num_layers=2, max_length=9,
        norm_first=norm_first, init_std=0.5,
    ).eval()  # fmt: skip

    def gradients(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, list[torch.Tensor]]:
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        return loss.item(), list(torch.autograd.grad(loss, list(network.parameters())))

    everything = torch.arange(len(lengths))
    padded = gradients(network(texts.padded(everything, PAD)), tags.padded(everything, IGNORED))
    short = gradients(network(*packed(texts, rows, PAD)), joined(tags, rows, IGNORED))
    assert short[0] == pytest.approx(padded[0], abs=1e-5)
    for mine, theirs in zip(short[1], padded[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_no_token_sees_another_sequence() -> None:
    network = BertTagger(30, 4, pad_id=PAD, embed_dim=8, num_heads=2, init_std=0.5).eval()
    tokens = torch.tensor([[5, 6, 7, 8, 9, PAD]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    before = network(tokens, positions)
    changed = network(torch.tensor([[5, 6, 7, 8, 4, PAD]]), positions)
    assert changed[0, :3].equal(before[0, :3])
    assert (changed[0, 3:5] - before[0, 3:5]).abs().amax(-1).min() > 1e-4
    assert changed.isfinite().all()
    assert same_sequence(positions)[0, 3].tolist() == [False] * 3 + [True] * 2 + [False]


def test_a_position_that_was_not_learnt_is_refused() -> None:
    network = BertTagger(30, 4, pad_id=PAD, embed_dim=8, num_heads=2, max_length=2)
    with pytest.raises(ValueError, match="positions"):
        network(torch.ones(1, 3, dtype=torch.long), torch.arange(3).unsqueeze(0))
