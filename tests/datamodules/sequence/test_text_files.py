import gzip
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from trellis.datamodules.sequence.text_files import (
    learn_tokenizer,
    read_lines,
    read_text,
    require_ids,
)
from trellis.sequence.tokenizer import CharTokenizer, Tokenizer, WordTokenizer


def test_lines_are_cut_at_line_ends_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone \u2028 still one\r\n\r\n  three\x0b3 \x85\nfour".encode())
    assert read_lines(path) == ["one \u2028 still one", "", "three\x0b3", "four"]
    path.write_bytes(b"one\n\n")
    assert read_lines(path) == ["one", ""]
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"eins\nzwei\n"))
    assert read_lines(tmp_path / "a.gz") == ["eins", "zwei"]


def test_text_keeps_its_spaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b" a \r\n b\n\n")
    assert read_text(tmp_path / "a") == " a \n b\n\n"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r" is empty: give a file with text"),
        (b" \n\n ", r" is empty"),
        ("gut\nGrün ist".encode("latin-1"), r", line 2, column 3: byte 0xfc is not UTF-8"),
        ("né\nüé ".encode() + b"\xff", r", line 2, column 4: byte 0xff is not UTF-8; convert"),
        (b"cut \xc3", r", line 1, column 5: byte 0xc3"),
    ],
)
def test_bad_files_are_named_with_the_place(
    tmp_path: Path, content: bytes, message: str, compressed: bool
) -> None:
    path = tmp_path / ("bad.gz" if compressed else "bad.txt")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ValueError, match=f"{path.name}{message}"):
        read_text(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.txt is missing: put it there"):
        read_text(tmp_path / "none.txt")


class Counting:
    """A factory that counts its calls and has a name."""

    calls = 0


class CountedTokenizer(CharTokenizer):
    def __init__(self, texts: Iterable[str], *, special: bool = False, lowercase: bool = False):
        Counting.calls += 1
        super().__init__(texts, special=special, lowercase=lowercase)

    def to_json(self) -> str:
        return super().to_json().replace("CountedTokenizer", "CharTokenizer")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    monkeypatch.setattr(Counting, "calls", 0)
    return Counting


def vocabulary(
    folder: Path, texts: tuple[str, ...] = ("abc", "d"), lowercase: bool = False, **options: bool
) -> Tokenizer:
    factory = partial(CountedTokenizer, **options)
    return learn_tokenizer(factory, texts, lowercase=lowercase, folder=folder)


def test_a_vocabulary_is_learnt_once(tmp_path: Path, calls: type[Counting]) -> None:
    first, second = vocabulary(tmp_path), vocabulary(tmp_path)
    assert first.to_json() == second.to_json()
    assert calls.calls == 1
    kept = [path.name for path in (tmp_path / "vocabularies").iterdir()]
    assert len(kept) == 1, "no temporary file is left"
    assert kept[0].endswith(".json")


def test_other_texts_and_options_are_other_vocabularies(
    tmp_path: Path, calls: type[Counting]
) -> None:
    made = [
        vocabulary(tmp_path),
        vocabulary(tmp_path, ("abcd",)),
        vocabulary(tmp_path, ("ab", "cd")),
        vocabulary(tmp_path, ("Abc", "d")),
        vocabulary(tmp_path, ("Abc", "d"), lowercase=True),
        vocabulary(tmp_path, special=True),
    ]
    assert calls.calls == len(made)
    assert [tokenizer.num_tokens for tokenizer in made] == [4, 4, 4, 4, 4, 8]
    assert made[4].lowercase
    assert not made[3].lowercase


@pytest.mark.parametrize("content", ["", "{", '{"class":"CharTokenizer"'])
def test_a_file_that_is_not_whole_is_written_again(
    tmp_path: Path, calls: type[Counting], content: str
) -> None:
    expected = vocabulary(tmp_path).to_json()
    (path,) = (tmp_path / "vocabularies").iterdir()
    written = path.read_text()
    path.write_text(content)
    with pytest.warns(UserWarning, match="was changed after it was written"):
        assert vocabulary(tmp_path).to_json() == expected
    assert calls.calls == 2
    assert path.read_text() == written


@pytest.mark.parametrize("change", [("abcd", "abce"), ("abcd", "dcba"), ("false", "true")])
def test_a_vocabulary_that_was_changed_is_learnt_again(
    tmp_path: Path, calls: type[Counting], change: tuple[str, str]
) -> None:
    expected = vocabulary(tmp_path).to_json()
    (path,) = (tmp_path / "vocabularies").iterdir()
    written = path.read_text()
    path.write_text(written.replace(*change))
    with pytest.warns(UserWarning, match=r"vocabularies.*\.json was changed after it was written"):
        assert vocabulary(tmp_path).to_json() == expected
    assert calls.calls == 2
    assert path.read_text() == written


def test_a_folder_that_cannot_be_written_to_is_no_error(
    tmp_path: Path, calls: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocabularies").write_text("a file where the folder belongs")
    assert vocabulary(tmp_path).num_tokens == 4
    (tmp_path / "vocabularies").unlink()

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert vocabulary(tmp_path).num_tokens == 4
    assert list((tmp_path / "vocabularies").iterdir()) == [], "nothing half written is left"


def test_a_factory_without_a_name_learns_each_time(tmp_path: Path, calls: type[Counting]) -> None:
    for _ in range(2):
        learn_tokenizer(
            lambda texts, *, lowercase: CountedTokenizer(texts, lowercase=lowercase),
            ["abc"],
            lowercase=False,
            folder=tmp_path,
        )
    assert calls.calls == 2
    assert list(tmp_path.iterdir()) == []


def test_errors_of_learning_are_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no word is left") as caught:
        learn_tokenizer(
            partial(WordTokenizer, min_count=5), ["a b"], lowercase=False, folder=tmp_path
        )
    assert caught.value.__context__ is None


def test_a_missing_id_says_how_to_get_it() -> None:
    require_ids(WordTokenizer(["a"], mask=True), "pad_id", "mask_id")
    with pytest.raises(ValueError, match="CharTokenizer has no eos_id: give it special=True"):
        require_ids(CharTokenizer(["a"]), "eos_id")
    with pytest.raises(ValueError, match="WordTokenizer has no mask_id: give it mask=True"):
        require_ids(WordTokenizer(["a"]), "mask_id")
    with pytest.raises(ValueError, match="CharTokenizer has no mask_id: give another"):
        require_ids(CharTokenizer(["a"]), "mask_id")
