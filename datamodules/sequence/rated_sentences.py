"""Pairs of sentences that people rated as similar or not, in columns of a text file."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import positive
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.sequence.labelled_files import LabelledFiles, encode_texts
from trellis.datamodules.sequence.text_files import read_lines
from trellis.files import FilePath
from trellis.sequence.batches import Ragged, SentencePair
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory, WordTokenizer
from trellis.spec import RatedPairSpec


class _Columns(NamedTuple):
    """Both sides, the ratings as they were given, and the number of the first line."""

    first: list[str]
    second: list[str]
    ratings: list[float]
    line: int


class SequencePairs:
    """Two sequences for each example, ``Ragged`` both, whose batches are ``SentencePair``."""

    def __init__(self, first: Ragged, second: Ragged) -> None:
        self.first, self.second = first, second
        self.lengths = torch.maximum(first.lengths, second.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, indices: Tensor, pad_id: int) -> SentencePair:
        """The pairs ``indices [B]``, padded."""
        return SentencePair(
            self.first.padded(indices, pad_id), self.second.padded(indices, pad_id)
        )


class RatedSentences(LabelledFiles):
    """Pairs of sentences with a rating, from files in columns between tabs.

    Batch: ``(SentencePair, ratings)`` with ratings ``[B]`` in [0, 1]. The files of the STS
    benchmark, ``sts-train.csv`` and so on, are read with ``columns=(4, 5, 6)``. A first line whose
    rating is no number names the columns.

    Args:
        columns: of the rating and of the two sentences, counted from 0.
        highest: rating; the lowest is 0.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty or not UTF-8, a line has too few columns, no sentence, or no
            rating from 0 to ``highest``, or a sentence is longer than ``max_tokens``: names the
            line.

    Source: Cer et al. 2017 (the STS benchmark).
    """

    def __init__(
        self,
        train: FilePath,
        val: FilePath,
        test: FilePath | None = None,
        columns: tuple[int, int, int] = (0, 1, 2),
        highest: float = 5.0,
        tokenizer: TokenizerFactory = WordTokenizer,
        lowercase: bool = False,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(train, val, test, tokenizer, lowercase, max_tokens)
        self.columns, self.highest = columns, positive("highest", highest)

    def read(self, split: Split) -> _Columns:
        return self._read(read_lines(self.paths[split]), str(self.paths[split]))

    def _read(self, lines: list[str], name: str) -> _Columns:
        pairs, first_line = _Columns([], [], [], 1), 1
        for number, line in enumerate(lines, 1):
            parts = [part.strip() for part in line.split("\t")]
            if max(self.columns) >= len(parts):
                problem = f"{len(parts)} columns, and columns={self.columns} are read"
                raise in_line(name, number, f"{problem}: {line[:60]!r}")
            rating, one, other = (parts[column] for column in self.columns)
            try:
                value = float(rating)
            except ValueError:
                if number == 1 and len(lines) > 1:
                    first_line = 2
                    continue
                value = -1.0
            if not 0 <= value <= self.highest:
                limits = f"0 to highest={self.highest:g}"
                raise in_line(name, number, f"the rating {rating!r} is no number from {limits}")
            if not one or not other:
                raise in_line(name, number, "a sentence is empty: give it text")
            pairs.first.append(one)
            pairs.second.append(other)
            pairs.ratings.append(value)
        return pairs._replace(line=first_line)

    def learn(self, train: _Columns) -> None:
        self.learn_tokenizer([*train.first, *train.second])
        self.spec = RatedPairSpec(self.tokenizer.spec)

    def encode(self, split: Split, contents: _Columns) -> tuple[SequencePairs, Tensor]:
        pairs = self._pairs(self.tokenizer, contents, str(self.paths[split]))
        return pairs, torch.tensor(contents.ratings) / self.highest

    def encode_new(
        self, tokenizer: Tokenizer, lines: list[str], name: str
    ) -> tuple[SequencePairs, Tensor]:
        """See ``LabelledFiles``; a line is two sentences with a tab between them."""
        first, second = [], []
        for number, line in enumerate(lines, 1):
            one, _, other = (part.strip() for part in line.partition("\t"))
            if not one or not other:
                raise in_line(name, number, f"{line[:60]!r} is not two sentences and a tab")
            first.append(one)
            second.append(other)
        pairs = self._pairs(tokenizer, _Columns(first, second, [], 1), name)
        return pairs, torch.zeros(len(lines))

    def _pairs(self, tokenizer: Tokenizer, contents: _Columns, name: str) -> SequencePairs:
        sides: Sequence[list[str]] = (contents.first, contents.second)
        return SequencePairs(
            *(encode_texts(tokenizer, side, name, contents.line, None, self.max_tokens)
              for side in sides)
        )  # fmt: skip

    def labels_of(self, labels: Tensor, indices: Tensor) -> Tensor:
        return labels[indices]
