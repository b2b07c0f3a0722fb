"""``trellis translate``: order, odd lines, pieces, and what it refuses."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from text_checkpoints import failing, language_model_of, translator_of

from trellis import load
from trellis.lightning_modules import cli
from trellis.lightning_modules.commands import translate
from trellis.lightning_modules.commands.translate import read_pieces
from trellis.lightning_modules.sequence import translation
from trellis.lightning_modules.sequence.translation import Translator
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.beam_search import beam_search
from trellis.sequence.tokenizer import CharTokenizer, WordTokenizer

WORDS = {
    "ein": "a", "zwei": "two", "drei": "three", "vier": "four", "fünf": "five", "mann": "man",
    "frau": "woman", "hund": "dog", "katze": "cat", "läuft": "runs",
}  # fmt: skip
# Frequent words come first: the n-th of one vocabulary translates the n-th of the other.
SOURCE, TARGET = (
    WordTokenizer([f"{word} " * (20 - n) for n, word in enumerate(words)])
    for words in (WORDS.keys(), WORDS.values())
)
LINES = ["ein mann läuft", "", "zwei", "drei vier fünf hund läuft", "   ", "zwei frau", "hund"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a network that has learnt ``WORDS``."""
    return translator_of(SOURCE, TARGET, tmp_path_factory.mktemp("translator"), steps=120)


def translated(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], str]:
    """Lines of stdout, and stderr."""
    cli.main(["translate", *words])
    captured = capsys.readouterr()
    assert not captured.out or captured.out.endswith("\n")
    return captured.out.split("\n")[:-1], captured.err


def by_hand(line: str) -> str:
    return " ".join(WORDS[word] for word in line.split())


def test_lines_keep_their_order_and_their_number(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches of a few tokens, sorted by length inside."""
    (tmp_path / "x.de").write_text("\n".join(LINES))
    for options in (["--max_tokens", "1"], ["--max_tokens", "8"], ["--num_beams", "1"], []):
        out, err = translated(capsys, checkpoint, str(tmp_path / "x.de"), *options)
        assert out == [by_hand(line) for line in LINES]
        assert "7 lines in" in err


def test_standard_input_and_output_files(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a byte-order mark, Windows' line ends and no end of the last line."""
    raw = "\ufeffein hund\r\nläuft\r\n\r\nzwei".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    output = tmp_path / "x.en"
    output.write_text("of an earlier run\n")
    out, _ = translated(capsys, checkpoint, "-", "--output", str(output))
    assert out == []
    assert output.read_bytes() == b"a dog\nruns\n\ntwo\n"


def test_a_translation_that_does_not_end_is_named(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.de").write_text("zwei\ndrei vier fünf hund\n")
    out, err = translated(capsys, checkpoint, str(tmp_path / "x.de"), "--max_new_tokens", "2")
    assert out == ["two", "three four"]
    assert "line 2: the translation was cut off after 2 tokens" in err
    assert "line 1" not in err


def test_options_of_the_search_are_the_checkpoints_unless_given(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def recording(*args: Any, **options: Any) -> Any:
        seen.update(options)
        return beam_search(*args, **options)

    monkeypatch.setattr(translation, "beam_search", recording)
    model = load(checkpoint)
    model.length_penalty = 0.25
    Translator(model)(["ein"])
    assert seen == {
        "eos_id": 2, "max_new_tokens": 15, "num_beams": 5, "length_penalty": 0.25
    }  # fmt: skip
    Translator(model, num_beams=3, length_penalty=0.0, max_new_tokens=7)(["ein"])
    assert seen == {"eos_id": 2, "max_new_tokens": 7, "num_beams": 3, "length_penalty": 0.0}


def test_no_special_token_is_written(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding would drop padding, beginnings and unknown words without a trace."""
    decode = TransformerSeq2Seq.decode

    def in_love_with_padding(self: TransformerSeq2Seq, *args: Any) -> Any:
        logits, state = decode(self, *args)
        logits[..., [0, 1, 3]] += 100
        return logits, state

    monkeypatch.setattr(TransformerSeq2Seq, "decode", in_love_with_padding)
    (one,) = Translator(load(checkpoint))(["zwei frau"])
    assert (one.text, one.source_tokens, one.finished) == ("two woman", 3, True)


def test_a_long_line_is_cut_and_named_and_the_others_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """10,000 characters where the network has 8 positions: 7 words and the end are read."""
    path = translator_of(SOURCE, TARGET, tmp_path, positions="learned", max_length=8)
    long = "hund katze " * 909 + "!"
    (tmp_path / "x.de").write_text(f"ein mann\n{long}\nzwei frau\n")
    out, err = translated(capsys, path, str(tmp_path / "x.de"))
    translator = Translator(load(path))
    first, cut, last = translator(["ein mann", "hund katze " * 3 + "hund", "zwei frau"])
    assert out == [first.text, cut.text, last.text]
    assert "line 2 has 1,820 tokens: what comes after 8 was not read" in err
    assert "line 1 has" not in err
    assert translator.max_new_tokens == 8
    assert all(len(line.split()) <= 8 for line in out)


def test_more_than_max_source_tokens_is_not_read(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.de").write_text("ein mann\nein mann läuft\n")
    out, err = translated(capsys, checkpoint, str(tmp_path / "x.de"), "--max_source_tokens", "3")
    assert out == ["a man"] * 2
    assert "line 2 has 4 tokens: what comes after 3 was not read" in err
    assert "line 1 has" not in err


def test_an_empty_file_gives_an_empty_one(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.de").write_text("")
    out, err = translated(capsys, checkpoint, str(tmp_path / "x.de"))
    assert out == []
    assert "0 lines in" in err


def test_a_translation_stays_on_its_line(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WordTokenizer, "decode", lambda self, ids: "a\nb\r\nc\u2028d")
    assert [one.text for one in Translator(load(checkpoint))(["ein", "", "mann"])] == [
        "a b c d",
        "",
        "a b c d",
    ]


def test_a_pipe_is_a_file(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell hands it over with <(...)."""
    reader, writer = os.pipe()
    os.write(writer, b"zwei\n")
    os.close(writer)
    assert translated(capsys, checkpoint, f"/dev/fd/{reader}")[0] == ["two"]
    os.close(reader)


def test_a_line_of_spaces_has_no_words_for_characters_either(tmp_path: Path) -> None:
    characters = CharTokenizer(["ab "], special=True)
    translator = Translator(load(translator_of(characters, TARGET, tmp_path)), num_beams=2)
    spaces, letters = translator(["   ", "a b"])
    assert (spaces.text, spaces.source_tokens) == ("", 0)
    assert letters.source_tokens == 4


# --- pieces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 3, 7, 1000])
def test_pieces_may_end_anywhere(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "PIECE", piece)
    text = "fünf\n\nüber größe\nlast"
    pieces = list(read_pieces(io.BytesIO(text.encode()), "x"))  # type: ignore[arg-type]
    assert [line for lines in pieces for line in lines] == text.split("\n")
    assert [] not in pieces


def test_lines_are_given_out_as_they_arrive() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb", buffering=0) as sink:
        pieces = read_pieces(source, "pipe")
        sink.write(b"one\ntwo\nthr")
        assert next(pieces) == ["one", "two"]
        sink.write(b"ee\n")
        assert next(pieces) == ["three"]
        sink.close()
        assert list(pieces) == []


def test_bytes_that_are_not_utf8_are_located(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.de"
    path.write_bytes("ein mann\nfünf h".encode() + b"\xfcnde\nzwei\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["translate", checkpoint, str(path)])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == "a man\n"
    assert f"{path}, line 2, column 7: byte 0xfc is not UTF-8" in captured.err


def test_lines_are_numbered_through_all_pieces(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(translate, "PIECE", 4)
    path = tmp_path / "x.de"
    path.write_bytes(b"ein\nzwei drei\nmann\nz\xff\n")
    with pytest.raises(SystemExit):
        cli.main(["translate", checkpoint, str(path), "--max_source_tokens", "2"])
    captured = capsys.readouterr()
    assert captured.out == "a\ntwo\nman\n"
    assert "line 2 has 3 tokens" in captured.err
    assert "line 4, column 2: byte 0xff" in captured.err


def test_a_translation_is_out_before_the_next_line_is_waited_for(checkpoint: str) -> None:
    class Sink(io.BytesIO):
        flushed = b""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    def pieces() -> Iterator[list[str]]:
        yield ["ein", "hund"]
        assert sink.flushed == b"a\ndog\n"
        yield ["zwei"]

    sink = Sink()
    translate._translate(Translator(load(checkpoint)), pieces(), sink)
    assert sink.flushed == b"a\ndog\ntwo\n"


# --- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_translated_is_refused(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.de"
    path.write_text("ein mann\n")
    other = language_model_of(SOURCE, tmp_path)
    for words, message in (
        ([other, str(path)], f"{other} holds a CausalLM, not a SequenceToSequence"),
        ([checkpoint, "nowhere.de"], "there is no file nowhere.de"),
        ([checkpoint, str(tmp_path)], "there is no file"),
        ([checkpoint, str(path), "--output", str(path)], "is the file to translate"),
        ([checkpoint, str(path), "--num_beams", "0"], "num_beams=0: give at least 1"),
        ([checkpoint, str(path), "--max_tokens", "0"], "max_tokens=0: give at least 1"),
        ([checkpoint, str(path), "--max_source_tokens", "0"], "max_source_tokens=0"),
        ([checkpoint, str(path), "--max_new_tokens", "0"], "max_new_tokens=0: give at least 1"),
    ):
        assert message in failing(capsys, "translate", *words)
    assert path.read_text() == "ein mann\n"
