"""WikiText-2 as one text: articles of Wikipedia, a paragraph a line."""

from pathlib import Path

from trellis.datamodules.engine.downloads import fetch, read_gzip
from trellis.files import atomic_write_text

RAW = "wiki.train.tokens.gz"
# What its tokenizer wrote for marks inside words and numbers, and for rare words.
_WRITTEN = {" @-@ ": "-", " @,@ ": ",", " @.@ ": ".", "<unk>": "unk"}


def write_wikitext(raw: Path, path: Path) -> None:
    """Write the paragraphs of the training articles as Wikipedia has them, unless that is done.

    Headings and empty lines are left out.

    Args:
        raw: folder with ``wiki.train.tokens.gz``, as published and compressed by gzip.
        path: of the text.
    Raises:
        FileNotFoundError: the file is missing; says where to put it.
        OSError: it is damaged, or the text cannot be written.

    Source: Merity et al. 2016.
    """
    if path.is_file():
        return
    fetch(raw, {RAW: None}, ())
    text = read_gzip(raw / RAW).decode("utf-8")
    for mark, written in _WRITTEN.items():
        text = text.replace(mark, written)
    lines = [line.strip() for line in text.split("\n")]
    kept = [line for line in lines if line and not line.startswith("=")]
    atomic_write_text(path, "\n".join([*kept, ""]))
