"""Texts that are known by name: where they lie, and how each is made of its raw file."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from trellis.datamodules.engine.downloads import fetch, read_gzip
from trellis.datamodules.sequence.tiny_shakespeare import CHECKSUM, URLS
from trellis.files import atomic_write_text

TextName = Literal["tinyshakespeare", "wikitext2", "trec", "conll2000"]
# What WikiText's tokenizer wrote for marks inside words and numbers, and for rare words.
_WRITTEN = {" @-@ ": "-", " @,@ ": ",", " @.@ ": ".", "<unk>": "unk"}


class KnownText(NamedTuple):
    """A text.

    Args:
        path: of its file, in the folder of the raw data.
        make: puts it there, given the whole path, where it is not there yet.
    """

    path: str
    make: Callable[[Path], None]


def _fetch_shakespeare(path: Path) -> None:
    fetch(path.parent, {path.name: CHECKSUM}, URLS)


def _raw_lines(raw: Path, encoding: str) -> list[str]:
    fetch(raw.parent, {raw.name: None}, ())
    return [line.strip() for line in read_gzip(raw).decode(encoding).split("\n")]


def _write_wikitext(path: Path) -> None:
    """The paragraphs of the training articles as Wikipedia has them, without headings."""
    if path.is_file():
        return
    lines = _raw_lines(path.parent / "raw" / "wiki.train.tokens.gz", "utf-8")
    text = "\n".join([*(line for line in lines if line and not line.startswith("=")), ""])
    for mark, written in _WRITTEN.items():
        text = text.replace(mark, written)
    atomic_write_text(path, text)


def _write_questions(path: Path) -> None:
    """The questions of TREC's training file, without their classes."""
    if path.is_file():
        return
    lines = _raw_lines(path.parent / "TREC.train.all.gz", "latin-1")
    atomic_write_text(path, "\n".join([*(line.partition(" ")[2] for line in lines if line), ""]))


def _write_news(path: Path) -> None:
    """The words of the sentences of CoNLL-2000's training file, without their tags."""
    if path.is_file():
        return
    words = (
        line.partition(" ")[0] for line in _raw_lines(path.parent / "raw/train.txt.gz", "utf-8")
    )
    sentences = " ".join(word or "\n" for word in words).replace(" \n ", "\n")
    atomic_write_text(path, f"{sentences.strip()}\n")


# Source: Karpathy 2015; Merity et al. 2016; Li and Roth 2002; Tjong Kim Sang
# and Buchholz 2000.
KNOWN_TEXTS: dict[TextName, KnownText] = {
    "tinyshakespeare": KnownText("tinyshakespeare/input.txt", _fetch_shakespeare),
    "wikitext2": KnownText("WikiText2/paragraphs.txt", _write_wikitext),
    "trec": KnownText("sentence_classification/questions.txt", _write_questions),
    "conll2000": KnownText("CoNLL2000/sentences.txt", _write_news),
}
