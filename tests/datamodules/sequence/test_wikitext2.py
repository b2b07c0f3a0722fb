"""WikiText-2: the published numbers of words, marks of lines, streams, new text, bad input."""

import gzip
from pathlib import Path

import pytest
import torch

from trellis.datamodules.sequence.wikitext2 import WikiText2
from trellis.sequence.tokenizer import from_json

LINES = {
    "train": " = A title = \n\n one two <unk> two \n",
    "valid": " one one \n",
    "test": "two\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "WikiText2" / "raw").mkdir(parents=True)
    for name, text in LINES.items():
        path = tmp_path / "WikiText2" / "raw" / f"wiki.{name}.tokens.gz"
        path.write_bytes(gzip.compress(text.encode()))
    return tmp_path


def ready(folder: Path, **options) -> WikiText2:
    data = WikiText2(data_dir=folder, **options)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.data
def test_the_published_numbers_of_words(data_dir: str) -> None:
    data = ready(Path(data_dir), stream=True)
    sizes = {split: len(part) for split, part in data.parts.items()}
    assert sizes == {"train": 2_088_628, "val": 217_646, "test": 245_569}
    special = 4  # of the tokenizer: no text has them
    assert data.spec.num_tokens == 33_278 + special
    assert data.tokenizer.decode([4, 5, 6, 7]) == "the , . of", "frequent words come first"
    batches = iter(data.train_dataloader())
    first, second = next(batches), next(batches)
    assert first.shape == (20, 36)
    assert torch.equal(first[:, -1], second[:, 0]), "a row continues"


def test_lines_end_with_a_token_and_unk_is_a_word(folder: Path) -> None:
    data = ready(folder, context=2, batch_size=1)
    words = data.tokenizer.decode(data.parts["train"].tolist())
    assert words == "= A title = <eos> <eos> one two <unk> two <eos>"
    assert data.tokenizer.decode(data.parts["test"].tolist()) == "two <eos>"


def test_a_new_text_is_read_as_the_training_text_was(folder: Path, tmp_path: Path) -> None:
    data = ready(folder, context=3, batch_size=1)
    (tmp_path / "new.txt").write_text("two one\ntitle three\n")
    loader, _ = data.inputs(str(tmp_path / "new.txt"), data.spec)
    tokenizer = from_json(data.spec.tokenizer)
    assert list(loader)[0].tolist() == [tokenizer.encode("two one <eos> title")]
    assert list(loader)[1].tolist() == [tokenizer.encode("title three <eos>")]


def test_a_missing_file_and_a_text_of_one_word_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="too short"):
        ready(folder, context=200)
    (folder / "WikiText2" / "raw" / "wiki.valid.tokens.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"wiki\.valid\.tokens\.gz"):
        ready(folder)
