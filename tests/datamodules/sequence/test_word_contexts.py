"""Words in windows: drawn by seed, epoch and batch alone; sets to judge by, and what is broken."""

import gzip
from pathlib import Path

import pytest
import torch
from word_cases import contexts, cooccurrences, write_topics

from trellis.datamodules.sequence import WordContexts
from trellis.datamodules.sequence.word_contexts import SPAN
from trellis.sequence.word_tests import WordTests


def equal(one: object, other: object) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))  # type: ignore[call-overload]


def test_batches_depend_on_seed_epoch_and_place_alone() -> None:
    one, two = contexts(), contexts()
    for data in (one, two):
        data.setup()
    loader, again = one.train_dataloader(), two.train_dataloader()
    first = list(loader)
    assert len(first) == -(-len(one.ids) // SPAN) > 1
    again.load_state_dict({"batches": 2, "seed": loader.seed})
    assert equal(next(iter(again)), first[2])
    loader.set_epoch(1)
    assert not equal(next(iter(loader)), first[0])
    assert equal(one.evaluated(0), two.evaluated(0))


def test_pairs_stand_in_one_line_and_all_are_there_in_expectation() -> None:
    """Windows of random size: a distance d of at most w is there with (w - d + 1) / w."""
    data = contexts(batch_size=4)
    data.setup()
    loader, counts, epochs = data.train_dataloader(), torch.zeros(16, 16), 60
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for batch in loader:
            block, place, other = batch.near.nonzero().unbind(1)
            pairs = batch.center[block, place] * 16 + batch.context[block, other]
            counts += pairs.bincount(minlength=256).view(16, 16)
    whole = cooccurrences(weighting="linear", batch_size=None)
    whole.setup()
    (cells,) = whole.train_dataloader()
    expected = torch.zeros(16, 16)
    expected[cells.center, cells.context] = cells.counts
    # Spans cut a few windows.
    assert torch.equal(counts > 0, expected > 0)
    assert float(counts.sum() / epochs / expected.sum()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(counts / epochs, expected, rtol=0.1, atol=2)


def test_words_rank_by_frequency_and_rare_ones_close_ranks(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("B a b rare b\na a b\n")
    data = WordContexts(str(path), min_count=2, pairs=[], analogies="", sample=0)
    data.setup()
    assert data.test_ids == ["b", "a"]
    assert data.ids.tolist() == [0, 1, 0, 0, 1, 1, 0]
    assert data.lines.tolist() == [0] * 4 + [1] * 3
    assert data.spec.scales == ()
    assert len(data.val_dataloader()) == data.num_val_batches
    assert torch.cat(list(data.predict_dataloader())).tolist() == [0, 1]


@pytest.mark.data
def test_published_sets_are_found_and_unknown_words_counted(data_dir: str, tmp_path: Path) -> None:
    text = write_topics(tmp_path)
    text.write_text(text.read_text() + "tiger cat love sex Athens Greece Oslo Norway\n" * 9)
    data = WordContexts(str(text), data_dir)
    data.setup()
    *_, tests = data.test_dataloader()
    assert isinstance(tests, WordTests)
    assert [each.name for each in tests.pairs] == ["wordsim353"]  # SimLex-999 has one of the pairs
    (pairs,) = tests.pairs
    words = [data.test_ids[number] for number in pairs.ids.flatten().tolist()]
    assert words == ["love", "sex", "tiger", "cat", "tiger", "tiger"]
    assert pairs.ratings.tolist() == pytest.approx([6.77, 7.35, 10])
    assert pairs.unknown == 350
    assert tests.analogies is not None
    assert len(tests.analogies.ids) > 0
    assert len(tests.analogies.ids) + tests.analogies.unknown == 19_544


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "sea0 sea1\n"}, "pairs.txt, line 1: 'sea0 sea1' is not two words and a rating"),
        ({"pairs": "# a\nsea0 sea1 high\n"}, "pairs.txt, line 2: 'sea0 sea1 high' is not two"),
        ({"analogies": ": a\nsea0 sea1 sky0\n"}, "analogies.txt, line 2: .* is not four words"),
        ({"window": 0}, "window=0: give at least 1"),
        ({"sample": -1.0}, "sample=-1.0: give at least 0"),
        ({"block_length": 0}, "block_length=0: give at least 1"),
        ({"path": "nowhere.txt"}, "nowhere.txt is missing"),
    ],
)
def test_what_is_broken_is_named(options: dict, message: str, tmp_path: Path) -> None:
    for name in ("pairs", "analogies"):
        if name in options:
            path = tmp_path / f"{name}.txt"
            path.write_text(options[name])
            options = {name: [str(path)] if name == "pairs" else str(path)}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        contexts(**options).setup()


def test_words_alone_in_their_lines_have_no_pairs(tmp_path: Path) -> None:
    path = tmp_path / "alone.txt"
    path.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="alone.txt: no line has two words"):
        cooccurrences(path=str(path)).setup()
