"""Sentence pairs for BERT's next-sentence prediction."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.checks import at_least, at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.synthetic_pairs import padded
from trellis.datamodules.sequence.text_files import (
    learn_tokenizer,
    read_lines,
    require_ids,
    too_short,
)
from trellis.files import FilePath
from trellis.random import hashed_integers
from trellis.sequence.batches import SentencePairs
from trellis.sequence.subword import WordPieceTokenizer
from trellis.sequence.tokenizer import TokenizerFactory


class SentenceOrder(DataModule):
    """Pairs of sentences from any text file with one sentence per line.

    Batch: ``SentencePairs``, [CLS] first [SEP] second [SEP], where [CLS] is ``bos_id`` and [SEP]
    ``eos_id``. In half of the pairs the second sentence follows the first in the file, in the
    others it is a random one of the same split. Empty lines separate documents; no consecutive
    pair crosses them. The last tenth of the lines is for validation and test. The second sentences
    are drawn again in each epoch of training; those of validation are fixed.

    Args:
        path: of the file, in UTF-8; compressed if it ends in ``.gz``.
        tokenizer: learnt from the first nine tenths; has a ``mask_id``.
        lowercase: convert the text to lower case.
        max_length: of a pair; sentences longer than half of it are truncated, and their number is
            logged.
        batch_size: pairs per batch.
        seed: of the pairs.
    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is empty, not UTF-8 or too short, or the tokenizer has no ``mask_id``.

    Source: Devlin et al. 2019, section 3.1.
    """

    def __init__(
        self,
        path: FilePath,
        tokenizer: TokenizerFactory = WordPieceTokenizer,
        lowercase: bool = True,
        max_length: int = 128,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        at_least(5, "max_length", max_length, ", for two words and three special tokens")
        self.path, self.factory, self.lowercase = Path(path), tokenizer, lowercase
        self.longest = (max_length - 3) // 2
        self.batch_size, self.seed = at_least_one("batch_size", batch_size), seed
        self.splits: dict[str, tuple[list[list[int]], Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        lines = read_lines(self.path)
        cut = int(0.9 * len(lines))
        parts = {"train": lines[:cut], "val": lines[cut:]}
        for name, part in parts.items():
            if not len(_followed(part)) or sum(map(bool, part)) < 3:
                lines_of = f"its {len(part)} lines of {name}"
                raise too_short(self.path, f"{lines_of} hold too few consecutive sentences")
        folder = self.path.parent
        self.tokenizer = learn_tokenizer(
            self.factory, parts["train"], lowercase=self.lowercase, folder=folder
        )
        require_ids(self.tokenizer, "mask_id", "pad_id", "bos_id", "eos_id")
        self.spec = self.tokenizer.spec
        self.splits = {name: self._encoded(part) for name, part in parts.items()}

    def _encoded(self, lines: list[str]) -> tuple[list[list[int]], Tensor]:
        """Token ids of the sentences, and the indices of those with a successor."""
        sentences = self.tokenizer.encode_batch([line for line in lines if line])
        too_long = sum(len(sentence) > self.longest for sentence in sentences)
        if too_long:
            rank_zero_info(
                f"{self.path}: {too_long:,} of {len(sentences):,} sentences are truncated to "
                f"{self.longest} tokens, half of max_length"
            )
        return [sentence[: self.longest] for sentence in sentences], _followed(lines)

    def loader(self, split: Split) -> Loader[SentencePairs]:
        train = split == "train"
        sentences, followed = self.splits["train" if train else "val"]
        begin, end, pad = self.spec.bos_id, self.spec.eos_id, self.spec.pad_id

        def batch(indices: Tensor) -> SentencePairs:
            where = (int(train), loader.epoch if train else 0, indices)
            first = followed[indices]
            in_order = hashed_integers(2, self.seed, *where, 0)
            other = hashed_integers(len(sentences) - 1, self.seed, *where, 1)
            other += other > first  # skips the successor
            second = torch.where(in_order == 1, first + 1, other)
            pairs = [
                (sentences[a], sentences[b])
                for a, b in zip(first.tolist(), second.tolist(), strict=True)
            ]
            tokens = padded([[begin, *a, end, *b, end] for a, b in pairs], pad)
            segments = padded([[0] * (len(a) + 2) + [1] * (len(b) + 1) for a, b in pairs], 0)
            return SentencePairs(tokens, segments, in_order)

        loader = Loader(
            len(followed),
            batch,
            batch_size=self.batch_size,
            shuffle=train,
            seed=self.seed,
        )
        return loader


def _followed(lines: list[str]) -> Tensor:
    """Indices, among the sentences, of those that another follows in the same document."""
    places, place = [], 0
    for line, after in zip(lines, lines[1:], strict=False):
        if line and after:
            places.append(place)
        place += bool(line)
    return torch.tensor(places)
