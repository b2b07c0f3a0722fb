"""Files of word vectors: written and read, by others too; broken lines are named."""

import gzip
from pathlib import Path

import pytest
import torch

from trellis.sequence.word_vectors import read_word_vectors, write_word_vectors

WORDS = ["été", "cat", "a_b"]


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    vectors[1, 2] = 1e-30
    write_word_vectors(tmp_path / name, WORDS, vectors)
    read = read_word_vectors(tmp_path / name)
    assert read.words == WORDS
    assert torch.equal(read.vectors, vectors)
    some = read_word_vectors(tmp_path / name, ["cat", "dog"])
    assert some.words == ["cat"]
    assert torch.equal(some.vectors, vectors[1:2])


def test_gensim_reads_what_is_written(tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    vectors = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    write_word_vectors(tmp_path / "vectors.txt", WORDS, vectors)
    theirs = models.KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.txt"))
    assert theirs.index_to_key == WORDS
    assert torch.equal(torch.from_numpy(theirs.vectors), vectors)
    theirs.save_word2vec_format(str(tmp_path / "theirs.txt"))
    assert torch.allclose(read_word_vectors(tmp_path / "theirs.txt").vectors, vectors)


def test_files_of_glove_have_no_header_and_the_first_of_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\ncat 3 4.5\nthe 9 9\n")
    words, vectors = read_word_vectors(path)
    assert words == ["the", "cat"]
    assert vectors.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2 3\nthe 1 2 3\ncat 1 2\n", "line 3: 2 numbers, and the first line announces 3"),
        ("the 1 2 3\ncat 1 2 3 4\n", "line 2: 4 numbers, and the first one has 3"),
        ("the 1 2\n\ncat 1 2\n", "line 2: 0 numbers"),
        ("the 1 2\ncat 1 x\n", "line 2: could not convert string to float: 'x'"),
        ("the 1 2\ncat 1 nan\n", "line 2: nan is not a finite number"),
        ("", "holds no word vectors"),
        ("5 3\n", "holds no word vectors"),
    ],
)
def test_a_broken_line_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"vectors.txt.*{message}"):
        read_word_vectors(path)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"2 2\nthe \xff\xfe\x00\x01\n")
    with pytest.raises(ValueError, match="line 2: .*not a text file in UTF-8"):
        read_word_vectors(path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        read_word_vectors(tmp_path / "nowhere")


def test_words_that_a_line_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'New York'"):
        write_word_vectors(tmp_path / "v.txt", ["New York"], torch.ones(1, 2))
    with pytest.raises(ValueError, match="2 words and 1 vectors"):
        write_word_vectors(tmp_path / "v.txt", ["a", "b"], torch.ones(1, 2))
    assert not (tmp_path / "v.txt").exists()
