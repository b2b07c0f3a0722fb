"""Files of word vectors, in the text format of word2vec, which GloVe and fastText write, too."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.files import atomic_write


class WordVectors(NamedTuple):
    """Words with a vector each.

    Args:
        words: each once.
        vectors: of them ``[N, D]``.
    """

    words: list[str]
    vectors: Tensor


def write_word_vectors(path: str | Path, words: Sequence[str], vectors: Tensor) -> None:
    """Write ``N D``, and then ``word x_1 ... x_D`` in a line each, whole or not at all.

    gensim reads it by ``KeyedVectors.load_word2vec_format``.

    Args:
        path: of the file; compressed if it ends in ``.gz``.
        words: of the vectors.
        vectors: ``[N, D]``.
    Raises:
        ValueError: there is not a vector for each word, or a word has a space in it.
    """
    if len(words) != len(vectors):
        raise ValueError(f"{len(words)} words and {len(vectors)} vectors: give one for each")
    broken = next((word for word in words if word.split() != [word]), None)
    if broken is not None:
        raise ValueError(f"word {broken!r}: in this format no word has a space in it")
    numbers = vectors.detach().float().cpu().numpy()
    with atomic_write(path) as file:
        raw = gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if str(path)[-3:] == ".gz" else file
        raw.write(f"{len(words)} {numbers.shape[1]}\n".encode())
        for word, row in zip(words, numbers, strict=True):
            # Nine digits tell any two numbers of float32 apart.
            raw.write(f"{word} {' '.join([f'{x:.9g}' for x in row.tolist()])}\n".encode())
        if raw is not file:
            raw.close()


def read_word_vectors(path: str | Path, wanted: Iterable[str] | None = None) -> WordVectors:
    """Read vectors from lines ``word x_1 ... x_D``; a first line ``N D`` is none of them.

    Args:
        path: of the file; compressed if it ends in ``.gz``.
        wanted: words whose vectors are kept; ``None`` keeps all. Of a word that is there twice
            the first one counts.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not UTF-8, has another width than the first, or something that is no
            finite number; or there are no vectors. Names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of word vectors")
    kept = None if wanted is None else set(wanted)
    rows: dict[str, np.ndarray] = {}
    width = announced = 0
    for number, line in _lines(path):
        word, _, rest = line.rstrip().partition(" ")
        if number == 1 and word.isdigit() and rest.strip().isdigit():
            announced = width = int(rest)
            continue
        fields = rest.count(" ") + 1 if rest else 0
        width = width or fields
        if fields != width or not word:
            first = "the first line announces" if announced else "the first one has"
            raise ValueError(f"{path}, line {number}: {fields} numbers, and {first} {width}")
        if word not in rows and (kept is None or word in kept):
            rows[word] = _numbers(rest, path, number)
    if not width or (not rows and kept is None):
        raise ValueError(f"{path} holds no word vectors: give lines of a word and its numbers")
    found = np.stack([*rows.values()]) if rows else np.zeros((0, width), np.float32)
    return WordVectors([*rows], torch.from_numpy(found))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                yield number, raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: {error.reason}: not a text file in UTF-8; word "
                    f"vectors in a binary format are to be saved as text first"
                ) from None


def _numbers(text: str, path: Path, line: int) -> np.ndarray:
    try:
        row = np.array(text.split(" "), dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {error}") from None
    if not np.isfinite(row).all():
        wrong = row[~np.isfinite(row)][0]
        raise ValueError(f"{path}, line {line}: {wrong} is not a finite number")
    return row
