"""Pairs of spans of a text of any size, for BERT's pretraining."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trellis.checks import at_least, at_least_one
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.known_texts import TextName
from trellis.datamodules.sequence.mapped_array import MappedArray
from trellis.datamodules.sequence.mapped_text import MappedText
from trellis.datamodules.sequence.text_files import require_ids, too_short
from trellis.files import FilePath
from trellis.random import hashed_integers
from trellis.sequence.batches import SentencePairs
from trellis.sequence.subword import WordPieceTokenizer
from trellis.sequence.tokenizer import TokenizerFactory


class SpanOrder(MappedText):
    """Pairs of spans from a text file, or a folder of ``.txt`` files, larger than memory.

    Batch: ``SentencePairs`` as of ``SentenceOrder``, whose sentences are spans of
    ``(max_length - 3) // 2`` tokens: nothing is padded. In half of the pairs the second span
    follows the first in the text, in the others it is a random one of the same split. Training
    pairs are drawn again in each epoch; those of validation are fixed, and cover the text once.

    Args:
        path: of a file or a folder, in UTF-8; ``None``: the one that ``text`` names.
        data_dir: of that one, made of ``tinyshakespeare/input.txt``, of
            ``WikiText2/raw/wiki.train.tokens.gz``, of the questions, without classes, of
            ``sentence_classification/TREC.train.all.gz``, or of the words, without tags, of
            ``CoNLL2000/raw/train.txt.gz``.
        tokenizer: see ``TextCorpus``; has a ``mask_id``.
        max_length, batch_size, seed: see ``SentenceOrder``.
        steps_per_epoch: batches of training pairs; ``None``: as many as cover the text once.
        cache_dir, lowercase, held_out, sample_bytes, num_workers: see ``TextCorpus``.
        text: which one is read where ``path`` is ``None``.
    Raises:
        FileNotFoundError: there is no text.
        ValueError: the text is empty, compressed, not UTF-8 or too short, or the tokenizer has
            no ``mask_id``.

    Source: Devlin et al. 2019, section 3: "a sentence can be an arbitrary span of contiguous
    text"; the pairs: section 3.1.
    """

    def __init__(
        self,
        path: FilePath | None = None,
        data_dir: FilePath | None = None,
        cache_dir: FilePath | None = None,
        tokenizer: TokenizerFactory = WordPieceTokenizer,
        lowercase: bool = True,
        max_length: int = 128,
        batch_size: int = 32,
        steps_per_epoch: int | None = None,
        held_out: float = 0.1,
        sample_bytes: int = 1 << 24,
        num_workers: int | None = None,
        seed: int = 0,
        text: TextName = "tinyshakespeare",
    ) -> None:
        super().__init__(
            path,
            data_dir,
            cache_dir,
            tokenizer,
            lowercase=lowercase,
            held_out=held_out,
            sample_bytes=sample_bytes,
            num_workers=num_workers,
            text=text,
        )
        at_least(5, "max_length", max_length, ", for two tokens and three special ones")
        self.length = (max_length - 3) // 2
        if steps_per_epoch is not None:
            at_least_one("steps_per_epoch", steps_per_epoch)
        self.steps, self.seed = steps_per_epoch, seed
        self.batch_size = at_least_one("batch_size", batch_size)

    def check(self, parts: Mapping[str, MappedArray]) -> None:
        require_ids(self.tokenizer, "mask_id", "bos_id", "eos_id")
        for name, tokens in parts.items():
            if len(tokens) <= 2 * self.length:
                spans = f"two spans are {2 * self.length}"
                fix = "give a smaller max_length, or more text"
                raise too_short(self.path, f"{len(tokens)} tokens of {name}, and {spans}; {fix}")

    def loader(self, split: Split) -> Loader[SentencePairs]:
        train, length = split == "train", self.length
        tokens = self.parts["train" if train else "val"]
        num_pairs = len(tokens) // (2 * length)

        def batch(indices: Tensor) -> SentencePairs:
            where = (int(train), loader.epoch if train else 0, indices)
            first = indices * 2 * length
            if train:
                first = hashed_integers(len(tokens) - 2 * length + 1, self.seed, *where, 2)
            in_order = hashed_integers(2, self.seed, *where, 0)
            other = hashed_integers(len(tokens) - length, self.seed, *where, 1)
            other += other >= first + length  # skips the successor
            second = torch.where(in_order == 1, first + length, other)
            spans = tokens.rows(first, length), tokens.rows(second, length)
            return _pairs(*spans, in_order, (self.spec.bos_id, self.spec.eos_id))

        steps = self.steps or -(-num_pairs // self.batch_size)
        count = steps * self.batch_size if train else num_pairs
        loader = Loader(count, batch, batch_size=self.batch_size, seed=self.seed)
        return loader


def _pairs(
    first: Tensor, second: Tensor, in_order: Tensor, ends: tuple[int, int]
) -> SentencePairs:
    """Spans ``[B, T]`` as [CLS] first [SEP] second [SEP]."""
    begin, end = (torch.full((len(first), 1), special) for special in ends)
    tokens = torch.cat([begin, first, end, second, end], dim=1)
    segments = torch.zeros_like(tokens)
    segments[:, first.size(1) + 2 :] = 1
    return SentencePairs(tokens, segments, in_order)
