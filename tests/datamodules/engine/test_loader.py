import math
import tracemalloc
from itertools import cycle, islice

import pytest
import torch

from trellis.datamodules.engine import loader as loader_module
from trellis.datamodules.engine.base import tensor_loader
from trellis.datamodules.engine.loader import Loader


def numbers(count: int, **options) -> Loader:
    return Loader(count, fetch=lambda indices: indices, **options)


def served(loader: Loader) -> list[int]:
    return [int(index) for batch in loader for index in batch]


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(loader_module, "rank_and_world", lambda: (rank, world))


@pytest.mark.parametrize("batch_size", [1, 3, 10, 11])
def test_every_epoch_serves_each_example_once(batch_size: int) -> None:
    loader = numbers(10, batch_size=batch_size, shuffle=True)
    for epoch in range(3):
        loader.set_epoch(epoch)
        assert sorted(served(loader)) == list(range(10))
        assert len(list(loader)) == len(loader)


def test_epochs_differ_and_a_seed_repeats_them() -> None:
    def orders(seed: int) -> list[list[int]]:
        loader = numbers(50, batch_size=7, shuffle=True, seed=seed)
        result = []
        for epoch in range(3):
            loader.set_epoch(epoch)
            result.append(served(loader))
        return result

    first = orders(0)
    assert first == orders(0)
    assert first[0] != first[1] != first[2]
    second = orders(1)
    assert all(one != other for one in first for other in second), "not the epochs of each other"


def test_resuming_takes_the_seed_of_the_checkpoint() -> None:
    whole, other = (numbers(50, batch_size=7, shuffle=True, seed=seed) for seed in (5, 6))
    other.load_state_dict(whole.state_dict())
    assert served(other) == served(whole)
    other.set_epoch(1)
    whole.set_epoch(1)
    assert served(other) == served(whole)


def test_the_seed_of_seed_everything_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    default = numbers(50, shuffle=True)
    assert served(default) == served(numbers(50, shuffle=True, seed=7))


def test_without_shuffling_the_order_is_the_given_one() -> None:
    assert served(numbers(5, batch_size=2)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_resuming_serves_the_rest_of_the_epoch(stop: int) -> None:
    options = {"batch_size": 3, "shuffle": True, "seed": 5}
    whole = numbers(11, **options)
    whole.set_epoch(2)
    expected = [batch.tolist() for batch in whole]

    broken = numbers(11, **options)
    broken.set_epoch(2)
    batches = iter(broken)
    before = [next(batches).tolist() for _ in range(stop)]
    state = broken.state_dict()

    resumed = numbers(11, **options)
    resumed.load_state_dict(state)
    resumed.set_epoch(2)
    after = [batch.tolist() for batch in resumed]
    # After the last batch the state is that of a fresh epoch.
    assert (before + after if stop < 4 else after) == expected
    assert [batch.tolist() for batch in resumed] == expected, "the next epoch starts at its start"


@pytest.mark.parametrize("count", [8, 9, 11])
def test_shards_of_two_ranks_are_disjoint_and_complete(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    shards = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        loader = numbers(count, batch_size=2, shuffle=True, seed=3)
        batches = [batch.tolist() for batch in loader]
        assert len(loader) == len(batches)
        once = [batch for i, batch in enumerate(batches) if not loader.repeats(i * 2 + rank)]
        shards.append([example for batch in once for example in batch])
    assert sorted(shards[0] + shards[1]) == list(range(count))


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_padding_gives_each_rank_as_many_batches(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Also when there are fewer batches than processes: one without would hang the others."""
    world, shards, lengths = 4, [], set()
    for rank in range(world):
        as_rank(monkeypatch, rank, world)
        loader = numbers(count, batch_size=2, shuffle=True)
        lengths |= {len(loader), len(list(loader))}
        shards += served(loader)
    assert lengths == {math.ceil(math.ceil(count / 2) / world)}
    assert set(shards) == set(range(count))


def by_a_list(loader: Loader, rank: int, world: int) -> list[list[int]]:
    """The batches of one process, by a list of all: what the loader did once."""
    generator = torch.Generator().manual_seed(loader.seed * 1_000_003 + loader.epoch)
    order = torch.arange(loader.num_examples)
    if loader.shuffle:
        order = torch.randperm(loader.num_examples, generator=generator)
    batches = [batch.tolist() for batch in order.split(loader.batch_size)]
    if loader.drop_last and len(batches[-1]) < loader.batch_size:
        batches.pop()
    if len(batches) % world:
        batches += list(islice(cycle(batches), world - len(batches) % world))
    return batches[rank::world]


@pytest.mark.parametrize("world", [1, 2, 5])
@pytest.mark.parametrize("count", [4, 7, 9, 12])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_cut_one_by_one_are_those_of_a_list(
    monkeypatch: pytest.MonkeyPatch,
    world: int,
    count: int,
    drop_last: bool,
    shuffle: bool,
) -> None:
    loader = Loader(count, list, batch_size=3, drop_last=drop_last, shuffle=shuffle)
    for rank in range(world):
        as_rank(monkeypatch, rank, world)
        expected = by_a_list(loader, rank, world)
        assert [[int(i) for i in batch] for batch in loader] == expected
        assert [batch.tolist() for batch in loader.batches()] == expected
        assert [batch.tolist() for batch in loader.batches()[1:]] == expected[1:]
        assert len(loader) == len(expected)


def test_a_long_run_needs_no_memory() -> None:
    """The list of all batches, and the order of all examples, would not fit into any machine."""
    tracemalloc.start()
    loader = numbers(10**15)
    batches = iter(loader)
    assert [next(batches).tolist() for _ in range(3)] == [[0], [1], [2]]
    loader.load_state_dict({"batches": 10**15 - 2})
    assert [batch.tolist() for batch in loader] == [[10**15 - 2], [10**15 - 1]]
    assert len(loader) == 10**15
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_drop_last_leaves_out_the_short_batch() -> None:
    loader = numbers(7, batch_size=3, drop_last=True)
    assert [len(batch) for batch in loader] == [3, 3]
    assert len(loader) == 2


def test_a_plan_cuts_the_order() -> None:
    def by_parity(order: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        return [order[order % 2 == parity] for parity in (0, 1)]

    loader = numbers(7, plan=by_parity)
    assert [batch.tolist() for batch in loader] == [[0, 2, 4, 6], [1, 3, 5]]
    assert len(loader) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_examples": 0}, "split is empty"),
        ({"num_examples": 3, "batch_size": 0}, "batch_size=0: .* at least 1"),
        ({"num_examples": 3, "batch_size": 4, "drop_last": True}, "leaves nothing of 3"),
    ],
)
def test_what_cannot_be_served_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loader(fetch=lambda indices: indices, **options)


def test_tensors_are_shuffled_to_train_alone() -> None:
    x = torch.arange(50)
    for train in (True, False):
        parts = [part for part, _ in tensor_loader(x, x, batch_size=7, train=train)]
        assert torch.equal(torch.cat(parts), x) != train
        assert torch.equal(torch.cat(parts).sort().values, x)


def test_tensor_batches_pair_each_example_with_its_target() -> None:
    x, y = torch.arange(20.0).view(10, 2), torch.arange(10)
    batches = list(tensor_loader(x, y, batch_size=4, train=True))
    assert [len(b) for b, _ in batches] == [4, 4, 2]
    for inputs, targets in batches:
        assert torch.equal(inputs, x[targets])
    assert [b.tolist() for _, b in tensor_loader(x, y, batch_size=6, train=False)] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9],
    ]
