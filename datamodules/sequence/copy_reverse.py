"""Copying or reversing random sequences of symbols."""

import string
from typing import Literal

import torch
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.base import DataModule, Split, passed_on
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.synthetic_pairs import Random, SyntheticPairs
from trellis.sequence.batches import TokenPairs
from trellis.sequence.tokenizer import BOS, EOS, PAD, CharTokenizer
from trellis.spec import TokenPairSpec

Task = Literal["reverse", "copy"]
SYMBOLS = string.digits + string.ascii_lowercase + string.ascii_uppercase


class CopyReverse(DataModule):
    """Random sequences of symbols to copy or to reverse: a test of attention.

    Batch: ``TokenPairs``; those of evaluation have ``references``. Symbols are digits, then
    lower-case, then upper-case letters. Training, validation and test have separate random
    streams: a sequence of 16 digits practically never occurs twice, very short ones do.

    Args:
        task: ``"reverse"`` or ``"copy"``.
        num_symbols: number of different symbols, 2 to 62.
        length: of the sequences.
        min_length: of the shortest; ``None``: all have the same length.
        num_train: sequences per epoch.
        num_val: sequences to validate on.
        num_test: sequences to test on.
        batch_size: sequences per batch.
        seed: of the training sequences; ``None`` uses that of ``seed_everything``.
    Raises:
        ValueError: an unknown task, or a size out of range.

    Source: University of Amsterdam, deep learning tutorial 6 (reverse 16 of 10 symbols).
    Deviates: the training sequences are new in each epoch, instead of 50,000 fixed ones.
    """

    batch_size = passed_on("examples", "batch_size")

    def __init__(
        self,
        task: Task = "reverse",
        num_symbols: int = 10,
        length: int = 16,
        min_length: int | None = None,
        num_train: int = 50_000,
        num_val: int = 1_000,
        num_test: int = 10_000,
        batch_size: int = 128,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.examples = SyntheticPairs(
            self.pairs,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            seed=seed,
        )
        choose_from("task", task, Task)
        if not 2 <= num_symbols <= len(SYMBOLS):
            raise ValueError(f"num_symbols={num_symbols}: give 2 to {len(SYMBOLS)}")
        self.shortest = length if min_length is None else min_length
        if not 1 <= self.shortest <= length:
            raise ValueError(f"min_length={min_length}: give 1 to length={length}")
        self.task, self.num_symbols, self.length = task, num_symbols, length
        self.tokenizer = CharTokenizer([SYMBOLS[:num_symbols]], special=True)
        self.spec = TokenPairSpec(self.tokenizer.spec, self.tokenizer.spec)

    def loader(self, split: Split) -> Loader[TokenPairs]:
        return self.examples.loader(split)

    def pairs(self, split: Split, random: Random) -> TokenPairs:
        """A batch of a split, from random numbers: see ``SyntheticPairs``."""
        tokenizer, column = self.tokenizer, torch.arange(self.length)
        symbols = tokenizer.num_special + random(self.num_symbols, column)  # [B, T]
        lengths = self.shortest + random(self.length - self.shortest + 1, self.length)  # [B, 1]
        longest = int(lengths.max())
        symbols, column = symbols[:, :longest], column[:longest]
        inside = column < lengths
        source = self._ended(symbols.where(inside, PAD), lengths)
        if self.task == "reverse":
            symbols = symbols.gather(1, (lengths - 1 - column).clamp(min=0))
        written = self._ended(symbols.where(inside, PAD), lengths)
        target = torch.cat([torch.full_like(lengths, BOS), written], dim=1)
        references = () if split == "train" else map(tokenizer.decode, target.tolist())
        return TokenPairs(source, target, tuple(references))

    def _ended(self, symbols: Tensor, lengths: Tensor) -> Tensor:
        """``[B, T]`` -> ``[B, T + 1]`` with ``EOS`` at the end of each sequence."""
        wider = torch.nn.functional.pad(symbols, (0, 1), value=PAD)
        return wider.scatter(1, lengths, EOS)
