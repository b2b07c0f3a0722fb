import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from sequence_cases import check_exact_resume, plain, written

from trellis.datamodules.sequence.sentence_order import SentenceOrder
from trellis.sequence.batches import SentencePairs
from trellis.sequence.tokenizer import BOS, EOS, PAD, WordTokenizer

Words = partial(WordTokenizer, mask=True)
# Documents of five sentences; the words of a sentence say which it is.
TEXT = "\n".join(
    "" if n % 6 == 5 else " ".join([f"w{n}", f"v{n}", "x"][: n % 3 + 1]) for n in range(600)
)


def ready(folder: Path, text: str = TEXT, **options) -> SentenceOrder:
    options = {"tokenizer": Words, "lowercase": False} | options
    data = SentenceOrder(written(folder, "text.txt", text), **options)
    data.prepare_data()
    data.setup()
    return data


def sentences(data: SentenceOrder, batch: SentencePairs) -> list[tuple[str, str, int]]:
    """First, second and label of each pair, once its layout is checked."""
    found = []
    for row, segments, label in zip(*plain([batch])[0], strict=True):
        assert row[0] == BOS
        middle = row.index(EOS)
        end = row.index(EOS, middle + 1)
        assert set(row[end + 1 :]) <= {PAD}
        assert segments[: middle + 1] == [0] * (middle + 1)
        assert segments[middle + 1 : end + 1] == [1] * (end - middle)
        assert set(segments[end + 1 :]) <= {0}
        decode = data.tokenizer.decode
        found.append((decode(row[:middle]), decode(row[middle:]), label))
    return found


def test_labels_say_whether_the_second_follows(tmp_path: Path) -> None:
    data = ready(tmp_path)
    lines = TEXT.split("\n")[:540]
    following = {(a, b) for a, b in zip(lines, lines[1:], strict=False) if a and b}
    assert len(following) == 4 * 90
    pairs = [pair for batch in data.train_dataloader() for pair in sentences(data, batch)]
    assert len(pairs) == len(following)
    assert {first for first, *_ in pairs} == {first for first, _ in following}
    for first, second, label in pairs:
        assert ((first, second) in following) is (label == 1)
    share = sum(label for *_, label in pairs) / len(pairs)
    assert abs(share - 0.5) < 4 * (0.25 / len(pairs)) ** 0.5


def test_any_other_sentence_may_be_the_second(tmp_path: Path) -> None:
    words = "abcdefghijklmnopqr"  # nine tenths of the lines
    data = ready(tmp_path, "\n".join([*words, "a", "b", "c"]))
    loader, seen = data.train_dataloader(), set()
    for epoch in range(60):
        loader.set_epoch(epoch)
        seen |= {
            (first, second)
            for batch in loader
            for first, second, label in sentences(data, batch)
            if label == 0
        }
    seconds = {first: {b for a, b in seen if a == first} for first in words[:-1]}
    for first, follower in zip(words, words[1:], strict=False):
        assert follower not in seconds[first]
    assert {b for _, b in seen} == set(words)
    assert len(seen) > 0.75 * 17 * 17


def test_validation_stays_and_training_changes(tmp_path: Path) -> None:
    data = ready(tmp_path)
    val, train = data.val_dataloader(), data.train_dataloader()
    before = plain(val), plain(train)
    val.set_epoch(1), train.set_epoch(1)
    assert plain(val) == before[0] == plain(data.test_dataloader())
    assert plain(train) != before[1]
    check_exact_resume(data.train_dataloader(), data.train_dataloader())
    assert len(data.splits["val"][0]) == 50
    assert data.tokenizer.encode("w539 w541") == [3, 3], "539 is empty, 541 held out"
    assert 3 not in data.tokenizer.encode("w537 w538")


def test_long_sentences_are_cut_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = ready(tmp_path, max_length=8)
    assert "90 of 450 sentences are truncated to 2 tokens, half of max_" in caplog.text
    assert max(batch.tokens.size(1) for batch in data.train_dataloader()) == 7
    caplog.clear()
    with caplog.at_level(logging.INFO):
        ready(tmp_path, max_length=9)
    assert "are cut" not in caplog.text


def test_word_pieces_are_the_default(tmp_path: Path) -> None:
    data = SentenceOrder(written(tmp_path, "text.txt", "The same words again.\n" * 100))
    data.setup()
    assert data.spec.mask_id == 4
    assert data.tokenizer.lowercase
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.dtype == batch.segments.dtype == batch.in_order.dtype == torch.int64


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"text\.txt is empty"),
        ("a\n" * 12, {}, r"text\.txt is too short: its 2 lines of val"),
        ("a\n\n" * 50, {}, r"text\.txt is too short: its 90 lines of train hold too few"),
        (TEXT, {"max_length": 4}, "max_length=4: give at least 5"),
        (TEXT, {"batch_size": 0}, "batch_size=0: give at least 1"),
        (TEXT, {"tokenizer": WordTokenizer}, "WordTokenizer has no mask_id: give it mask=True"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, text, **options)
