"""Texts with a label each, in lines ``label<TAB>text``."""

from pathlib import Path

import torch
from torch import Tensor

from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.labels import check_class_names, is_header
from trellis.datamodules.sequence.budget import check_budget
from trellis.datamodules.sequence.labelled_files import LabelledFiles, encode_texts
from trellis.datamodules.sequence.text_files import read_lines
from trellis.files import FilePath
from trellis.sequence.batches import Ragged
from trellis.sequence.tokenizer import TokenizerFactory, WordTokenizer
from trellis.spec import LabelledTokenSpec

Lines = tuple[int, list[str], list[str]]  # number of the first one, labels, texts


class LabelledText(LabelledFiles):
    """Texts to classify, from files whose lines are ``label<TAB>text``.

    Batch: ``(tokens, labels)`` with ``tokens [B, T]`` from ``bos_id`` to ``eos_id`` and
    ``labels [B]``. Classes are the labels of the training file, sorted. A first line that names
    both columns, such as ``label<TAB>text``, is not read.

    Args:
        max_length: longer texts are truncated, and their number is logged; ``None``: a text
            longer than ``max_tokens`` is an error.
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
        check_budget(max_tokens, max_length)
        super().__init__(train, val, test, tokenizer, lowercase, max_tokens)
        self.max_length = max_length

    def read(self, split: Split) -> Lines:
        return read_labelled(self.paths[split])

    def learn(self, train: Lines) -> None:
        _, labels, texts = train
        self.learn_tokenizer(texts)
        classes = classes_of(labels, self.paths["train"])
        self.spec = LabelledTokenSpec(self.tokenizer.spec, len(classes), classes)

    def encode(self, split: Split, contents: Lines) -> tuple[Ragged, Tensor]:
        first, labels, texts = contents
        path, limits = self.paths[split], (self.max_length, self.max_tokens)
        tokens = encode_texts(self.tokenizer, texts, path, first, *limits)
        return tokens, encode_labels(labels, self.spec.classes, path, first)

    def labels_of(self, labels: Tensor, indices: Tensor) -> Tensor:
        return labels[indices]


def read_labelled(path: Path) -> Lines:
    """The number of the first line below the header, labels and texts of a file.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is empty or not UTF-8, or a line is not ``label<TAB>text``.
    """
    labels, texts = [], []
    for number, line in enumerate(read_lines(path), 1):
        label, _, text = (part.strip() for part in line.partition("\t"))
        if not label or not text:
            raise in_line(path, number, f"{line[:60]!r} is not label<TAB>text")
        if number > 1 or not is_header(label, text):
            labels.append(label)
            texts.append(text)
    if not labels:
        raise ValueError(f"{path} holds a header and no texts")
    return number - len(labels) + 1, labels, texts


def classes_of(labels: list[str], path: Path) -> tuple[str, ...]:
    """The classes of a training file, sorted.

    Raises:
        ValueError: they are none, see ``check_class_names``.
    """
    check_class_names(labels, str(path))
    return tuple(sorted(set(labels)))


def encode_labels(labels: list[str], classes: tuple[str, ...], path: Path, first: int) -> Tensor:
    """Labels as numbers ``[N]``; their arguments are those of ``encode_texts``.

    Raises:
        ValueError: a label is none of ``classes``; names its line.
    """
    index = {name: number for number, name in enumerate(classes)}
    for line, label in enumerate(labels, first):
        if label not in index:
            known = f"the training file, which has {', '.join(index)}"
            raise in_line(path, line, f"label {label!r} is not in {known}")
    return torch.tensor([index[label] for label in labels])
