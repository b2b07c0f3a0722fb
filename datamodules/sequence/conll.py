"""Tagged text in columns: one word per line, an empty line after each sentence."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.labels import check_class_names, is_header
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.budget import Order, budget_loader
from trellis.datamodules.sequence.text_files import (
    STAGES,
    learn_tokenizer,
    read_lines,
    require_ids,
)
from trellis.files import FilePath
from trellis.sequence.batches import Ragged
from trellis.sequence.masking import IGNORED
from trellis.sequence.tokenizer import BOS, EOS, PAD, UNKNOWN, TokenizerFactory, WordTokenizer
from trellis.spec import LabelledTokenSpec

# In CoNLL-U, the ids of multiword tokens and of empty nodes.
_NO_WORD = re.compile(r"\d+[-.]\d+")


class CoNLL(DataModule):
    """Sentences with a tag for each word, from files in columns.

    Batch: ``(tokens, tags)``, both ``[B, T]``. A sentence is enclosed in ``bos_id`` and
    ``eos_id``; these, padding and all pieces of a word but its first have the tag -100.

    A line holds a word and its tag in columns separated by spaces or tabs; all lines of a file
    have the same number of columns. Lines that begin with ``-DOCSTART-`` count as empty, and a
    first line that names the columns of words and tags is not read. CoNLL-U is read with
    ``word_column=1``, ``tag_column=3`` and ``comment="# "``.

    Args:
        train: path of the training file, in UTF-8; compressed if it ends in ``.gz``.
        val: path of the validation file.
        test: path of the test file; ``None`` uses ``val``.
        word_column: column of the words, counted from 0, or from the end if negative.
        tag_column: column of the tags.
        comment: lines that begin with this are skipped; empty skips none.
        classes: names of all tags; by default those of the training file, sorted.
        tokenizer: learnt from the training words and applied to each word; ``None`` makes every
            word a token.
        lowercase: convert words to lower case.
        max_tokens: in a batch, padding included.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is empty or not UTF-8; a line has another number of columns than the
            first, or a tag that is not among ``classes``; a sentence exceeds ``max_tokens``; or
            the tags of the training file are no classes, see ``check_class_names``.

    Source: Tjong Kim Sang and De Meulder 2003.
    """

    def __init__(
        self,
        train: FilePath,
        val: FilePath,
        test: FilePath | None = None,
        word_column: int = 0,
        tag_column: int = -1,
        comment: str = "",
        classes: Sequence[str] = (),
        tokenizer: TokenizerFactory | None = None,
        lowercase: bool = False,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__()
        at_least_one("max_tokens", max_tokens)
        self.paths = {"train": Path(train), "val": Path(val), "test": Path(test or val)}
        self.columns, self.comment = (word_column, tag_column), comment
        self.classes, self.lowercase, self.max_tokens = tuple(classes), lowercase, max_tokens
        self.factory = tokenizer or partial(WordTokenizer, split_punctuation=False)
        self.splits: dict[str, tuple[Ragged, Ragged]] = {}

    def setup(self, stage: str | None = None) -> None:
        wanted = [split for split in STAGES[stage] if split not in self.splits]
        read = {split: self._read(split) for split in wanted}
        if self.spec is None:
            self._learn(read["train"] if "train" in read else self._read("train"))
        for split in wanted:
            self.splits[split] = self._encoded(split, read[split])

    def _read(self, split: Split) -> "list[Sentence]":
        return read_columns(self.paths[split], *self.columns, comment=self.comment)

    def _learn(self, sentences: "list[Sentence]") -> None:
        self.tokenizer = learn_tokenizer(
            self.factory,
            [" ".join(sentence.words) for sentence in sentences],
            lowercase=self.lowercase,
            folder=self.paths["train"].parent,
        )
        require_ids(self.tokenizer, "pad_id", "bos_id", "eos_id")
        if not self.classes:
            tags = [tag for sentence in sentences for tag in sentence.tags]
            check_class_names(tags, str(self.paths["train"]))
            self.classes = tuple(sorted(set(tags)))
        self.spec = LabelledTokenSpec(self.tokenizer.spec, len(self.classes), self.classes)

    def _encoded(self, split: Split, sentences: "list[Sentence]") -> tuple[Ragged, Ragged]:
        words = list({word for sentence in sentences for word in sentence.words})
        # A word that the tokenizer drops still has a tag to predict.
        pieces = {
            word: ids or [UNKNOWN]
            for word, ids in zip(words, self.tokenizer.encode_batch(words), strict=True)
        }
        label = {name: index for index, name in enumerate(self.classes)}
        tokens, tags = [], []
        for sentence in sentences:
            ids, labels = [BOS], [IGNORED]
            for number, (word, tag) in enumerate(zip(*sentence[1:], strict=True)):
                if tag not in label:
                    raise ValueError(
                        f"{self.paths[split]}, line {sentence.line + number}: tag {tag!r} is none "
                        f"of {', '.join(self.classes)}; list all tags in classes"
                    )
                ids += pieces[word]
                labels += [label[tag]] + [IGNORED] * (len(pieces[word]) - 1)
            if len(ids) >= self.max_tokens:
                raise ValueError(
                    f"{self.paths[split]}, line {sentence.line}: a sentence of {len(ids) + 1:,} "
                    f"tokens, more than max_tokens={self.max_tokens}: raise it or split the "
                    f"sentence"
                )
            tokens.append([*ids, EOS])
            tags.append([*labels, IGNORED])
        return Ragged(tokens), Ragged(tags)

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader(split, "shuffled" if split == "train" else "sorted")

    def predict_dataloader(self) -> Loader[tuple[Tensor, Tensor]]:
        return self._loader("test", "as given")

    def _loader(self, split: Split, order: Order) -> Loader[tuple[Tensor, Tensor]]:
        tokens, tags = self.splits[split]

        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            return tokens.padded(indices, PAD), tags.padded(indices, IGNORED)

        return budget_loader(tokens.lengths, batch, self.max_tokens, order)


class Sentence(NamedTuple):
    """A sentence: the number of its first line, its words and its tags."""

    line: int
    words: list[str]
    tags: list[str]


def read_columns(path: Path, word_column: int, tag_column: int, comment: str) -> list[Sentence]:
    """Sentences of a file in columns; see ``CoNLL``.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is empty or not UTF-8, or its lines differ in the number of columns.
    """
    sentences: list[Sentence] = []
    expected, inside = 0, False
    for number, line in enumerate(read_lines(path), 1):
        if comment and f"{line} ".startswith(comment):
            continue
        columns = line.split("\t" if "\t" in line else None)
        if not columns or columns[0] == "-DOCSTART-":
            inside = False
            continue
        if word_column != 0 and _NO_WORD.fullmatch(columns[0]):
            continue
        expected = expected or len(columns)
        if len(columns) != expected:
            raise ValueError(
                f"{path}, line {number}: {len(columns)} columns instead of {expected}: {line!r}"
            )
        for name, column in (("word_column", word_column), ("tag_column", tag_column)):
            if not -expected <= column < expected:
                raise ValueError(f"{name}={column}: {path} has {expected} columns")
        if not inside:
            sentences.append(Sentence(number, [], []))
            inside = True
        sentences[-1].words.append(columns[word_column])
        sentences[-1].tags.append(columns[tag_column])
    if not (sentences := _without_header(sentences)):
        raise ValueError(f"{path} holds no sentences")
    return sentences


def _without_header(sentences: list[Sentence]) -> list[Sentence]:
    """The sentences, if the first line of the first one names the columns."""
    if not sentences or not is_header(sentences[0].tags[0], sentences[0].words[0]):
        return sentences
    (line, words, tags), *others = sentences
    return [Sentence(line + 1, words[1:], tags[1:]), *others] if words[1:] else others
