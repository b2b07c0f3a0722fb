"""New texts come in batches as those of the test split, from what the checkpoint knows."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from sequence_cases import plain, written

from trellis.datamodules.sequence.conll import CoNLL
from trellis.datamodules.sequence.date_formats import DateFormats
from trellis.datamodules.sequence.labelled_text import LabelledText
from trellis.datamodules.sequence.new_lines import read_new_lines
from trellis.datamodules.sequence.parallel_text import ParallelText
from trellis.datamodules.sequence.tiny_shakespeare import TinyShakespeare
from trellis.sequence.subword import BPETokenizer
from trellis.sequence.tokenizer import WordTokenizer

OPINIONS = "good\ta fine film\nbad\tdull, dull, dull\ngood\tfine indeed\nbad\ta film\n"
TAGGED = "Ann B\nLee I\nsings O\n\nBob B\nreads O\n\nrain O\n"
GERMAN = "ein Haus\nein sehr altes Haus\nder Mond\n"


def fitted(data: Any) -> Any:
    data.prepare_data()
    data.setup()
    return data


def examples(loader: Any) -> list[Any]:
    """Padded rows one by one, as if each had been a batch of its own."""
    return [row for batch in plain(loader) for row in batch[0]]


def test_texts_are_encoded_as_those_of_the_test_file(tmp_path: Path) -> None:
    files = [written(tmp_path, f"{split}.txt", OPINIONS) for split in ("train", "test")]
    data = fitted(LabelledText(*files, max_tokens=40))
    new = written(tmp_path, "new.txt", "a fine film\ndull, dull, dull\nfine indeed\na film")
    for file in files:
        Path(file).unlink()
    fresh = LabelledText(*files, max_tokens=40)
    loader, names = fresh.inputs(new, data.spec)
    assert names == ["a fine film", "dull, dull, dull", "fine indeed", "a film"]
    assert examples(loader) == examples(data.predict_dataloader())


def test_long_new_texts_are_cut_or_refused_as_in_training(tmp_path: Path) -> None:
    file = written(tmp_path, "train.txt", OPINIONS)
    new = written(tmp_path, "new.txt", "fine\na fine film indeed\n")
    spec = fitted(LabelledText(file, file, max_tokens=40)).spec
    [(tokens, _)] = LabelledText(file, file, max_length=4, max_tokens=40).inputs(new, spec).loader
    assert tokens.shape == (2, 4)
    with pytest.raises(ValueError, match=r"new.txt, line 2: a text of 6 tokens, more than max_t"):
        LabelledText(file, file, max_tokens=5).inputs(new, spec)


@pytest.mark.parametrize("tokenizer", [None, BPETokenizer])
def test_words_to_tag_are_those_between_spaces(tmp_path: Path, tokenizer: Any) -> None:
    file = written(tmp_path, "train.txt", TAGGED)
    data = fitted(CoNLL(file, file, tokenizer=tokenizer, max_tokens=30))
    new = written(tmp_path, "new.txt", "Ann  Lee sings\nBob reads\nrain\n")
    loader, _ = CoNLL("gone", "gone", tokenizer=tokenizer, max_tokens=30).inputs(new, data.spec)
    assert examples(loader) == examples(data.predict_dataloader())
    for (_, placed), (_, tags) in zip(loader, data.predict_dataloader(), strict=True):
        assert torch.equal(placed == -100, tags == -100)  # which tokens begin a word


def test_sources_need_no_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    german = written(tmp_path, "de.txt", GERMAN)
    english = written(tmp_path, "en.txt", "a house\na very old house\nthe moon\n")
    pairs = ((german, english), (german, english))
    data = fitted(ParallelText(*pairs, tokenizer=WordTokenizer, max_tokens=20))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GERMAN.encode())))
    loader, names = data.inputs("-", data.spec)
    assert names == GERMAN.split("\n")[:-1]
    assert examples(loader) == examples(data.predict_dataloader())
    dates = DateFormats()
    [batch] = dates.inputs(written(tmp_path, "d.txt", "9 may 1998"), dates.spec).loader
    assert dates.source.decode(batch.source[0].tolist()) == "9 may 1998"


@pytest.mark.parametrize("stream", [False, True])
def test_a_new_text_is_read_in_the_windows_of_validation(tmp_path: Path, stream: bool) -> None:
    text = "the rain in spain stays mainly in the plain. " * 40
    options = {"context": 16, "batch_size": 3, "stream": stream}
    data = fitted(TinyShakespeare(path=written(tmp_path, "t.txt", text), **options))
    held_out = text[int(0.9 * len(text)) :]
    loader, names = data.inputs(written(tmp_path, "new.txt", held_out), data.spec)
    rows = [row for batch in plain(loader) for row in batch]
    assert names == [str(16 * number) for number in range(len(rows))]
    # Every token but the first is a target once, and in its order.
    assert "".join(data.tokenizer.decode(row[1:]) for row in rows) == held_out[1:]
    assert len(list(loader)[0]) == (1 if stream else 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\n\nthree\n", "new.txt, line 2: it is empty: give each line a text"),
        ("\n", "new.txt is empty: give it text"),
        ("a\x80", "new.txt"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "new.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_new_lines(str(tmp_path / "new.txt"))
    with pytest.raises(FileNotFoundError, match=r"input=.*nowhere: no such file"):
        read_new_lines(str(tmp_path / "nowhere"))


def test_a_model_of_tokens_that_are_not_text_says_so(tmp_path: Path) -> None:
    from trellis.datamodules.sequence.copy_reverse import CopyReverse

    data = CopyReverse()
    with pytest.raises(ValueError, match="CopyReverse predicts its test split only"):
        data.inputs(written(tmp_path, "new.txt", "1 2"), data.spec)
