"""Texts with a label each, in lines ``label<TAB>text``."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.labels import check_class_names, is_header
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader, check_budget
from trellis.datamodules.sequence.text_files import (
    STAGES,
    learn_tokenizer,
    read_lines,
    require_ids,
)
from trellis.files import FilePath
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import BOS, EOS, PAD, TokenizerFactory, WordTokenizer
from trellis.spec import LabelledTokenSpec


class LabelledText(DataModule):
    """Texts to classify, from files whose lines are ``label<TAB>text``.

    Batch: ``(tokens, labels)`` with ``tokens [B, T]`` from ``bos_id`` to ``eos_id`` and
    ``labels [B]``. Classes are the labels of the training file, sorted. A first line that names
    both columns, such as ``label<TAB>text``, is not read.

    Args:
        train: path of the training file, in UTF-8; compressed if it ends in ``.gz``.
        val: path of the validation file.
        test: path of the test file; ``None`` uses ``val``.
        tokenizer: learnt from the training texts.
        lowercase: convert texts to lower case.
        max_length: longer texts are truncated, and their number is logged; ``None``: a text
            longer than ``max_tokens`` is an error.
        max_tokens: in a batch, padding included.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty or not UTF-8, a line has no label, no text, or a label that is
            not in the training file, or a text is longer than ``max_tokens``; names the line.
            Or the labels of the training file are no classes, see ``check_class_names``.
    """

    def __init__(
        self,
        train: FilePath,
        val: FilePath,
        test: FilePath | None = None,
        tokenizer: TokenizerFactory = WordTokenizer,
        lowercase: bool = False,
        max_length: int | None = None,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__()
        check_budget(max_tokens, max_length)
        self.paths = {"train": Path(train), "val": Path(val), "test": Path(test or val)}
        self.factory, self.lowercase = tokenizer, lowercase
        self.max_length, self.max_tokens = max_length, max_tokens
        self.splits: dict[str, tuple[Ragged, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        wanted = [split for split in STAGES[stage] if split not in self.splits]
        read = {split: read_labelled(self.paths[split]) for split in wanted}
        if self.spec is None:
            _, labels, texts = read.get("train") or read_labelled(self.paths["train"])
            folder = self.paths["train"].parent
            self.tokenizer = learn_tokenizer(
                self.factory, texts, lowercase=self.lowercase, folder=folder
            )
            require_ids(self.tokenizer, "pad_id", "bos_id", "eos_id")
            check_class_names(labels, str(self.paths["train"]))
            classes = tuple(sorted(set(labels)))
            self.spec = LabelledTokenSpec(self.tokenizer.spec, len(classes), classes)
        for split in wanted:
            first, labels, texts = read[split]
            tokens = self._tokens(split, texts, first)
            self.splits[split] = tokens, self._labels(split, labels, first)

    def _tokens(self, split: Split, texts: list[str], first: int) -> Ragged:
        rows, path = self.tokenizer.encode_batch(texts), self.paths[split]
        limit = self.max_length or self.max_tokens
        too_long = [line for line, row in enumerate(rows, first) if len(row) + 2 > limit]
        if too_long and self.max_length is None:
            line = too_long[0]
            raise ValueError(
                f"{path}, line {line}: a text of {len(rows[line - first]) + 2:,} tokens, more "
                f"than max_tokens={limit}: raise it, or truncate texts with max_length"
            )
        if too_long:
            rank_zero_info(
                f"{path}: {len(too_long):,} of {len(rows):,} texts are truncated to "
                f"max_length={limit} tokens"
            )
        return Ragged([[BOS, *row[: limit - 2], EOS] for row in rows])

    def _labels(self, split: Split, labels: list[str], first: int) -> Tensor:
        index = {name: number for number, name in enumerate(self.spec.classes)}
        for line, label in enumerate(labels, first):
            if label not in index:
                raise ValueError(
                    f"{self.paths[split]}, line {line}: label {label!r} is not in the training "
                    f"file, which has {', '.join(index)}"
                )
        return torch.tensor([index[label] for label in labels])

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader(split, "shuffled" if split == "train" else "sorted")

    def predict_dataloader(self) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader("test", "as given")

    def _loader(self, split: Split, order: Order) -> Loader[tuple[Tensor, Tensor]]:
        tokens, labels = self.splits[split]

        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            return tokens.padded(indices, PAD), labels[indices]

        return budget_loader(tokens.lengths, batch, self.max_tokens, order)


def read_labelled(path: Path) -> tuple[int, list[str], list[str]]:
    """The number of the first line below the header, labels and texts of a file.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is empty or not UTF-8, or a line is not ``label<TAB>text``.
    """
    labels, texts = [], []
    for number, line in enumerate(read_lines(path), 1):
        label, _, text = (part.strip() for part in line.partition("\t"))
        if not label or not text:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is not label<TAB>text")
        if number > 1 or not is_header(label, text):
            labels.append(label)
            texts.append(text)
    if not labels:
        raise ValueError(f"{path} holds a header and no texts")
    return number - len(labels) + 1, labels, texts
