"""Where texts are cut, and how long shards are tried for."""

from itertools import pairwise
from pathlib import Path

import pytest

from trellis.sequence import token_shards
from trellis.sequence.token_shards import (
    Shard,
    Span,
    character_start,
    count_lines,
    encode_shards,
)
from trellis.sequence.tokenizer import EOS, CharTokenizer

# One to four bytes a character, and nothing to cut at between words.
JOINED = "aé語😀語é😀ab語語éa😀"


def starts(text: str) -> list[int]:
    """Bytes at which a character begins, and the end."""
    return [len(text[:count].encode()) for count in range(len(text) + 1)]


def written(folder: Path, text: str) -> Span:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return Span(str(path), 0, len(text.encode()))


def test_a_cut_comes_before_the_next_character(tmp_path: Path) -> None:
    span, allowed = written(tmp_path, JOINED), starts(JOINED)
    for position in range(span.end):
        expected = min(start for start in allowed if start >= position)
        assert character_start(span.path, position) == expected
        assert span.cut_at(position) == expected
    assert span.cut_at(span.end) == span.cut_at(span.end + 9) == span.end
    assert span._replace(start=4).cut_at(1) == 4


@pytest.mark.parametrize(
    ("text", "position", "cut"),
    [("ab cd ef\ngh", 1, 9), ("ab cd ef gh", 1, 3), ("ab cd", 3, 3), ("é\né", 1, 3)],
)
def test_a_cut_comes_after_a_line_or_else_a_space(
    tmp_path: Path, text: str, position: int, cut: int
) -> None:
    assert written(tmp_path, text).cut_at(position) == cut


@pytest.mark.parametrize("size", [1, 2, 7, 30, 99])
@pytest.mark.parametrize("text", [JOINED, "to be or\nnot to be é 語\n" * 3])
def test_pieces_are_the_text(
    tmp_path: Path, text: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_shards, "_LOOK_AHEAD", 8)
    span = written(tmp_path, text)
    pieces = list(span.pieces(size))
    assert (pieces[0].start, pieces[-1].end) == (0, span.end)
    assert all(one.end == other.start for one, other in pairwise(pieces))
    assert all(piece.end > piece.start for piece in pieces)
    assert "".join(piece.text() for piece in pieces) == text


@pytest.mark.parametrize("size", [1, 7, 30, 99])
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_lines_stay_whole(tmp_path: Path, size: int, end: str) -> None:
    text = "é a\n\n 語 \u2028b\r\n" + "long " * 9 + end
    span = written(tmp_path, text)._replace(by_line=True)
    pieces = list(span.pieces(size))
    assert (pieces[0].start, pieces[-1].end) == (0, span.end)
    assert all(one.end == other.start for one, other in pairwise(pieces))
    lines = [line for piece in pieces for line in piece.texts()]
    expected = [line.decode().strip() for line in text.encode().removesuffix(b"\n").split(b"\n")]
    assert lines == expected
    assert count_lines(span.path) == len(expected)
    tokenizer = CharTokenizer([text], special=True)
    ids = [i for piece in pieces for i in piece.encoded(piece.texts(), tokenizer).tolist()]
    assert ids == [i for line in expected for i in (*tokenizer.encode(line), EOS)]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert count_lines(written(tmp_path, "").path) == 0


@pytest.mark.parametrize("progress", [True, False])
def test_workers_may_be_killed_as_long_as_shards_are_written(
    tmp_path: Path, progress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, calls = CharTokenizer([JOINED]), []

    def one_shard_and_then_killed(shards, tokenizer, job, count) -> list[str]:
        calls.append(len(shards))
        if progress:
            shards[0].write(tokenizer)
        return ["exit status -9"]

    monkeypatch.setattr(token_shards, "SHARD", 0)
    monkeypatch.setattr(token_shards, "_run_workers", one_shard_and_then_killed)
    span = written(tmp_path, JOINED)
    shards = [Shard(str(tmp_path / f"shard-{number}"), [span]) for number in range(6)]
    if progress:  # the last one is written by this process
        assert encode_shards(shards, tokenizer, tmp_path, num_workers=2) == 5
        assert calls == [6, 5, 4, 3, 2]
        assert not any(shard.is_missing() for shard in shards)
        return
    with pytest.raises(RuntimeError, match=r"3 times in a row .* \(exit status -9\)"):
        encode_shards(shards, tokenizer, tmp_path, num_workers=2)
    assert calls == [6, 6, 6]
