"""How words are spelled: the bytes of their letters, for networks that read words they never met.

A vocabulary of letters would have to be learnt, kept, and shared by models that are combined. The
256 bytes of UTF-8 are the same for every text, and nothing is unknown.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.sequence.batches import Ragged

NUM_BYTES = 257  # byte b is b + 1; 0 fills up short words, and is all there is of special tokens
MAX_BYTES = 50  # of a word; those of longer ones are left out


class SpelledTokens(NamedTuple):
    """Tokens, and how the word of each is spelled.

    Args:
        tokens: ids ``[B, T]``.
        characters: ``[B, T, C]`` below ``NUM_BYTES``: the bytes of the word that the token is or
            is a piece of, from 1 on; then, and for padding and other special tokens, 0.
    """

    tokens: Tensor
    characters: Tensor


class SpelledSequences:
    """``Ragged`` token ids whose batches are ``SpelledTokens``.

    Args:
        tokens: of each sequence.
        places: likewise, for each token, the place of its word in ``words``, from 1 on; 0 for
            special tokens.
        words: each once, as they are written.
    """

    def __init__(self, tokens: Ragged, places: Ragged, words: Sequence[str]) -> None:
        self.tokens, self.places, self.lengths = tokens, places, tokens.lengths
        self.table = spelled(["", *words])

    def __len__(self) -> int:
        return len(self.tokens)

    def padded(self, indices: Tensor, pad_id: int) -> SpelledTokens:
        """The sequences ``indices [B]``, padded."""
        letters = read_letters(self.table, self.places.padded(indices, 0))
        return SpelledTokens(self.tokens.padded(indices, pad_id), letters)


def spelled(words: Sequence[str]) -> Tensor:
    """The bytes of words, from 1 on, filled up with 0: ``[N, MAX_BYTES]``.

    >>> spelled(["a", "é"])[:, :3].tolist()
    [[98, 0, 0], [196, 170, 0]]
    """
    table = np.zeros((len(words), MAX_BYTES), np.int16)
    for row, word in zip(table, words, strict=True):
        letters = np.frombuffer(word.encode("utf-8", "surrogatepass")[:MAX_BYTES], np.uint8)
        row[: len(letters)] = letters
        row[: len(letters)] += 1
    return torch.from_numpy(table)


def read_letters(table: Tensor, ids: Tensor) -> Tensor:
    """The bytes of words, up to the end of the longest: its length is read from the values.

    Args:
        table: of ``spelled`` words ``[N, MAX_BYTES]``.
        ids: rows of it ``[B, T]``.
    Returns:
        ``[B, T, C]``, C at least 1.
    """
    letters = table[ids]
    longest = int((letters != 0).any(0).any(0).sum())
    return letters[..., : max(1, longest)].long()
