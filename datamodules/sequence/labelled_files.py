"""What data modules of labelled sequences share: a file for each split, read when it is needed."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Inputs, Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader
from trellis.datamodules.sequence.new_lines import read_new_lines, tokenizer_of
from trellis.datamodules.sequence.text_files import STAGES, learn_tokenizer, require_ids
from trellis.files import FilePath, name_of
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory


class LabelledFiles(DataModule):
    """Base of the data modules of sequences with labels, in a file for each split.

    A subclass reads a file, learns its ``spec`` from the training file, with ``learn_tokenizer``
    on the way, and encodes the files.

    Args:
        train: path of the training file, in UTF-8; compressed if it ends in ``.gz``.
        val: path of the validation file.
        test: path of the test file; ``None`` uses ``val``.
        tokenizer: learnt from the training file.
        lowercase: convert the text to lower case.
        max_tokens: in a batch, padding included.
    """

    max_length: int | None = None  # longer texts are truncated

    def __init__(
        self,
        train: FilePath,
        val: FilePath,
        test: FilePath | None,
        tokenizer: TokenizerFactory,
        lowercase: bool,
        max_tokens: int,
    ) -> None:
        super().__init__()
        self.paths = {"train": Path(train), "val": Path(val), "test": Path(test or val)}
        self.factory, self.lowercase = tokenizer, lowercase
        self.max_tokens = at_least_one("max_tokens", max_tokens)
        self.splits: dict[str, tuple[Any, Any]] = {}

    @abstractmethod
    def read(self, split: Split) -> Any:
        """Contents of the file of a split."""

    @abstractmethod
    def learn(self, train: Any) -> None:
        """Learn the tokenizer and the classes from the training file, for ``spec``."""

    @abstractmethod
    def encode(self, split: Split, contents: Any) -> tuple[Any, Any]:
        """Sequences of a split, as ``Ragged``, and the labels that ``labels_of`` takes."""

    @abstractmethod
    def labels_of(self, labels: Any, indices: Tensor) -> Tensor:
        """Labels of the sequences with these indices ``[B]``."""

    def learn_tokenizer(self, texts: Sequence[str]) -> None:
        """Learn ``tokenizer`` from the training texts."""
        self.tokenizer = learn_tokenizer(
            self.factory, texts, lowercase=self.lowercase, folder=self.paths["train"].parent
        )
        require_ids(self.tokenizer, "pad_id", "bos_id", "eos_id")

    def setup(self, stage: str | None = None) -> None:
        wanted = [split for split in STAGES[stage] if split not in self.splits]
        contents = {split: self.read(split) for split in wanted}
        if self.spec is None:
            self.learn(contents["train"] if "train" in contents else self.read("train"))
        for split in wanted:
            self.splits[split] = self.encode(split, contents[split])

    def encode_new(self, tokenizer: Tokenizer, lines: list[str], name: str) -> tuple[Any, Any]:
        """Sequences of new lines, and placeholders of their labels."""
        limits = (self.max_length, self.max_tokens)
        tokens = encode_texts(tokenizer, lines, name, 1, *limits)
        return tokens, torch.zeros(len(lines), dtype=torch.long)

    def inputs(self, path: str, spec: Any) -> Inputs:
        lines, tokenizer = read_new_lines(path), tokenizer_of(spec.tokens, path)
        tokens, labels = self.encode_new(tokenizer, lines, name_of(path))
        return Inputs(self._loader(tokens, labels, "as given", spec.tokens.pad_id), lines)

    def loader(self, split: Split) -> Loader[tuple[Any, Tensor]]:
        order: Order = "shuffled" if split == "train" else "sorted"
        return self._loader(*self.splits[split], order, self.spec.tokens.pad_id)

    def predict_dataloader(self) -> Loader[tuple[Any, Tensor]]:
        return self._loader(*self.splits["test"], "as given", self.spec.tokens.pad_id)

    def _loader(
        self, tokens: Any, labels: Any, order: Order, pad_id: int
    ) -> Loader[tuple[Any, Tensor]]:
        def batch(indices: Tensor) -> tuple[Any, Tensor]:
            return tokens.padded(indices, pad_id), self.labels_of(labels, indices)

        return budget_loader(tokens.lengths, batch, self.max_tokens, order)


def drawn(name: str, count: int, total: int, path: Path) -> list[int]:
    """Which sentences of a training file are learnt from: always the same, in their order.

    Args:
        name: of the argument that says how many.
        count: how many.
        total: that there are.
        path: of the file.

    Raises:
        ValueError: there are fewer.
    """
    if count > total:
        raise ValueError(f"{name}={count}: {path} has {total:,} sentences")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    return order[:count].sort().values.tolist()


def encode_texts(
    tokenizer: Tokenizer,
    texts: list[str],
    path: Path | str,
    first: int,
    max_length: int | None,
    max_tokens: int,
) -> Ragged:
    """Token ids of texts, from ``bos_id`` to ``eos_id``.

    Args:
        tokenizer: makes them.
        texts: one a line.
        path: of their file.
        first: number of the line of the first one.
        max_length: longer texts are truncated; ``None``: too long a text is an error.
        max_tokens: in a batch.
    Raises:
        ValueError: a text is longer than ``max_tokens``; names its line.
    """
    rows = tokenizer.encode_batch(texts)
    limit = max_length or max_tokens
    too_long = [line for line, row in enumerate(rows, first) if len(row) + 2 > limit]
    if too_long and max_length is None:
        line = too_long[0]
        advice = "raise it, or truncate texts with max_length"
        count = f"{len(rows[line - first]) + 2:,} tokens"
        raise in_line(path, line, f"a text of {count}, more than max_tokens={limit}: {advice}")
    if too_long:
        rank_zero_info(
            f"{path}: {len(too_long):,} of {len(rows):,} texts are truncated to "
            f"max_length={limit} tokens"
        )
    begin, end = ends_of(tokenizer)
    return Ragged([[*begin, *row[: limit - 2], *end] for row in rows])


def ends_of(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What stands before a sequence and after it: ``bos_id`` and ``eos_id``."""
    begin, end = ([] if i is None else [i] for i in (tokenizer.bos_id, tokenizer.eos_id))
    return begin, end


def pieces_of(tokenizer: Tokenizer, words: Sequence[str]) -> dict[str, list[int]]:
    """Token ids of each word by itself, at least one: of what is dropped, the unknown one."""
    # A word that the tokenizer drops still has a tag to predict, or is part of an answer.
    unknown = ends_of(tokenizer)[0] if tokenizer.unknown_id is None else [tokenizer.unknown_id]
    encoded = tokenizer.encode_batch(words)
    return {word: ids or unknown for word, ids in zip(words, encoded, strict=True)}
