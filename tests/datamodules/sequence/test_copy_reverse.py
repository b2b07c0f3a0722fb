import pytest
import torch
from sequence_cases import check_exact_resume, plain

from trellis.datamodules.sequence.copy_reverse import CopyReverse
from trellis.sequence.tokenizer import BOS, EOS, PAD, from_json

SMALL = {"num_train": 40, "num_val": 9, "num_test": 9, "batch_size": 8}


@pytest.mark.parametrize("task", ["reverse", "copy"])
@pytest.mark.parametrize("min_length", [None, 1, 4])
def test_targets_are_the_sources_written_again(task: str, min_length: int | None) -> None:
    data = CopyReverse(task, length=6, min_length=min_length, **SMALL)
    lengths = set()
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        for source, target in zip(batch.source.tolist(), batch.target.tolist(), strict=True):
            symbols = source[: source.index(EOS)]
            assert all(4 <= symbol < 14 for symbol in symbols)
            again = symbols[::-1] if task == "reverse" else symbols
            padding = [PAD] * (len(source) - len(symbols) - 1)
            assert source == [*symbols, EOS, *padding]
            assert target == [BOS, *again, EOS, *padding]
            lengths.add(len(symbols))
        assert batch.source.size(1) == max(s.index(EOS) for s in batch.source.tolist()) + 1
    assert lengths == set(range(min_length or 6, 7))


def test_the_tokenizer_reads_and_writes_the_symbols() -> None:
    data = CopyReverse(num_symbols=12, length=5, **SMALL)
    tokenizer = from_json(data.spec.source.tokenizer)
    batch = next(iter(data.val_dataloader()))
    for source, reference in zip(batch.source.tolist(), batch.references, strict=True):
        assert tokenizer.decode(source) == reference[::-1]
        assert set(reference) <= set("0123456789ab")
    assert data.spec.target.num_tokens == 16
    assert next(iter(data.train_dataloader())).references == ()


def test_all_symbols_are_as_frequent() -> None:
    data = CopyReverse(num_symbols=5, length=16, num_train=2000, batch_size=2000)
    (batch,) = data.train_dataloader()
    counts = batch.source[:, :-1].flatten().bincount()[4:]
    assert counts.shape == (5,)
    assert (counts - 6400).abs().max() < 4 * (6400 * 0.8) ** 0.5


def test_epochs_bring_new_sequences_and_resume_exactly() -> None:
    data = CopyReverse(min_length=2, **SMALL)
    check_exact_resume(data.train_dataloader(), data.train_dataloader())


def test_held_out_sequences_stay_and_are_their_own() -> None:
    first, second = CopyReverse(seed=1, **SMALL), CopyReverse(seed=2, **SMALL)
    for split in ("val", "test"):
        assert plain(first.loader(split)) == plain(second.loader(split))
    assert plain(first.loader("train")) != plain(second.loader("train"))
    rows = {
        split: {tuple(row) for batch in first.loader(split) for row in batch.source.tolist()}
        for split in ("train", "val", "test")
    }
    assert [len(found) for found in rows.values()] == [40, 9, 9]
    assert len(set.union(*rows.values())) == 58


def test_the_seed_of_seed_everything_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert plain(CopyReverse(**SMALL).loader("train")) == plain(
        CopyReverse(seed=7, **SMALL).loader("train")
    )


def test_the_batch_does_not_depend_on_its_size() -> None:
    rows = [
        torch.cat([b.source for b in CopyReverse(**{**SMALL, "batch_size": size}).loader("train")])
        for size in (8, 40)
    ]
    assert torch.equal(*rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sort"}, "task='sort': choose from reverse, copy"),
        ({"num_symbols": 1}, "num_symbols=1: give 2 to 62"),
        ({"num_symbols": 63}, "num_symbols=63: give 2 to 62"),
        ({"min_length": 0}, "min_length=0: give 1 to length=16"),
        ({"min_length": 17}, "min_length=17: give 1 to length=16"),
        ({"length": 0}, "give 1 to length=0"),
        ({"num_val": 0}, "num_val=0: give at least 1"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
    ],
)
def test_sizes_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CopyReverse(**options)
