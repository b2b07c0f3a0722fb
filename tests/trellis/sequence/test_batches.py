"""Ragged batches against torch's padding; budgets that hold in every epoch."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from trellis.sequence.batches import Ragged, consecutive_budget, token_budget


def lengths_of(number: int, longest: int = 30, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, longest + 1, (number,), generator=generator)


def epoch(plan, number: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(plan(torch.randperm(number, generator=generator), generator))


def padded_size(batch: torch.Tensor, lengths: torch.Tensor) -> int:
    return len(batch) * int(lengths[batch].max())


@pytest.mark.parametrize("pad_id", [0, 7])
def test_padding_is_that_of_torch(pad_id: int) -> None:
    sequences = [list(range(10, 10 + length)) for length in lengths_of(20).tolist()]
    ragged = Ragged(sequences)
    for indices in ([3], [0, 19, 5], [7, 7]):
        expected = pad_sequence(
            [torch.tensor(sequences[i]) for i in indices], batch_first=True, padding_value=pad_id
        )
        assert torch.equal(ragged.padded(torch.tensor(indices), pad_id), expected)
    assert [row.tolist() for row in (ragged[0], ragged[19])] == [sequences[0], sequences[19]]


def test_empty_sequences_are_all_padding() -> None:
    ragged = Ragged([[1, 2], [], [3], []])
    padded = ragged.padded(torch.tensor([3, 0, 1]), pad_id=9)
    assert padded.tolist() == [[9, 9], [1, 2], [9, 9]]
    assert ragged.padded(torch.tensor([1, 3]), pad_id=9).shape == (2, 0)
    assert Ragged([[], []]).padded(torch.tensor([1]), pad_id=9).shape == (1, 0)
    with pytest.raises(ValueError, match="there are no sequences"):
        Ragged([])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("round_to", [1, 8])
def test_each_example_once_and_within_the_budget(shuffle: bool, round_to: int) -> None:
    lengths = lengths_of(500)
    plan = token_budget(lengths, 200, shuffle=shuffle, round_to=round_to)
    batches = epoch(plan, 500, seed=1)
    assert torch.cat(batches).sort().values.tolist() == list(range(500))
    assert max(padded_size(batch, lengths) for batch in batches) <= 200


@pytest.mark.parametrize(("max_tokens", "sizes"), [(8, [2, 2, 1]), (9, [3, 2]), (14, [4, 1])])
def test_a_batch_may_fill_its_budget_but_not_outgrow_it(max_tokens: int, sizes: list) -> None:
    for plan in (token_budget, consecutive_budget):
        batches = plan(torch.tensor([3] * 5), max_tokens)(torch.arange(5), torch.Generator())
        assert sorted(map(len, batches), reverse=True) == sizes


def test_like_lengths_stand_together() -> None:
    lengths = lengths_of(5000)
    batches = epoch(token_budget(lengths, 300), 5000, seed=0)
    padded = sum(padded_size(batch, lengths) for batch in batches)
    assert lengths.sum() / padded > 0.97
    rough = epoch(token_budget(lengths, 300, round_to=10), 5000, seed=0)
    assert lengths.sum() / sum(padded_size(batch, lengths) for batch in rough) < 0.9
    # A batch is as large as the budget allows: the shortest of the next would not fit.
    by_length = sorted(batches, key=lambda b: (*lengths[b].aminmax(), -len(b)))
    for batch, after in zip(by_length, by_length[1:], strict=False):
        assert (len(batch) + 1) * int(lengths[after].min()) > 300


def test_epochs_have_as_many_batches_and_other_companions() -> None:
    """Lightning counts the batches of the first epoch and stops the others there."""
    lengths = lengths_of(2000)
    plan = token_budget(lengths, 300)
    epochs = [epoch(plan, 2000, seed) for seed in range(5)]
    assert len({len(batches) for batches in epochs}) == 1
    companions = [{frozenset(batch.tolist()) for batch in batches} for batches in epochs]
    assert len(companions[0] & companions[1]) < 0.1 * len(companions[0])


def test_shuffled_batches_are_not_sorted_by_length_and_follow_the_generator() -> None:
    lengths = lengths_of(500)
    first, again, other = (epoch(token_budget(lengths, 100), 500, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    means = [[float(lengths[batch].float().mean()) for batch in e] for e in (first, other)]
    assert means[0] != sorted(means[0])
    assert means[0] != means[1]


def test_unshuffled_batches_do_not_depend_on_the_generator() -> None:
    plan, order = token_budget(lengths_of(100), 60, shuffle=False), torch.arange(100)
    first, second = (plan(order, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert [b.tolist() for b in first] == [b.tolist() for b in second]
    firsts = [int(batch.min()) for batch in first]
    assert firsts == sorted(firsts)


def test_consecutive_batches_keep_the_order() -> None:
    lengths = torch.tensor([2, 2, 5, 1, 1, 1, 9, 1])
    plan = consecutive_budget(lengths, 6)
    batches = plan(torch.arange(8), torch.Generator())
    assert [b.tolist() for b in batches] == [[0, 1], [2], [3, 4, 5], [6], [7]]


def test_a_longest_in_the_middle_counts() -> None:
    """The longest of a batch need not be its last."""
    batches = consecutive_budget(torch.tensor([3, 1, 1]), 6)(torch.arange(3), torch.Generator())
    assert [b.tolist() for b in batches] == [[0, 1], [2]]


@pytest.mark.parametrize("plan", [token_budget, consecutive_budget])
def test_a_longer_sequence_is_alone(plan) -> None:
    batches = plan(torch.tensor([50, 2, 2]), 10)(torch.arange(3), torch.Generator())
    assert sorted(b.tolist() for b in batches) == [[0], [1, 2]]


def test_budgets_are_checked() -> None:
    lengths = torch.tensor([1])
    with pytest.raises(ValueError, match="max_tokens=0: give at least 1"):
        token_budget(lengths, 0)
    with pytest.raises(ValueError, match="max_tokens=-1: give at least 1"):
        consecutive_budget(lengths, -1)
    with pytest.raises(ValueError, match="round_to=0: give at least 1"):
        token_budget(lengths, 5, round_to=0)
