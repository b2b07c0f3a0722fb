"""What data modules of labelled sequences share: a file for each split, read when it is needed."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader
from trellis.datamodules.sequence.text_files import STAGES, learn_tokenizer, require_ids
from trellis.files import FilePath
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import PAD, TokenizerFactory


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
        self.splits: dict[str, tuple[Ragged, Any]] = {}

    @abstractmethod
    def read(self, split: Split) -> Any:
        """Contents of the file of a split."""

    @abstractmethod
    def learn(self, train: Any) -> None:
        """Learn the tokenizer and the classes from the training file, for ``spec``."""

    @abstractmethod
    def encode(self, split: Split, contents: Any) -> tuple[Ragged, Any]:
        """Token ids of the sequences of a split, and the labels that ``labels_of`` takes."""

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

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader(split, "shuffled" if split == "train" else "sorted")

    def predict_dataloader(self) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader("test", "as given")

    def _loader(self, split: Split, order: Order) -> Loader[tuple[Tensor, Tensor]]:
        tokens, labels = self.splits[split]

        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            return tokens.padded(indices, PAD), self.labels_of(labels, indices)

        return budget_loader(tokens.lengths, batch, self.max_tokens, order)
