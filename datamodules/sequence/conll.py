"""Tagged text in columns: one word per line, an empty line after each sentence."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.engine.labels import check_class_names, is_header
from trellis.datamodules.sequence.labelled_files import (
    LabelledFiles,
    drawn,
    ends_of,
    pieces_of,
)
from trellis.datamodules.sequence.text_files import read_lines
from trellis.files import FilePath, data_root
from trellis.sequence.batches import Ragged
from trellis.sequence.masking import IGNORED
from trellis.sequence.spelling import SpelledSequences
from trellis.sequence.tokenizer import Tokenizer, TokenizerFactory, WordTokenizer
from trellis.spec import LabelledTokenSpec

# In CoNLL-U, the ids of multiword tokens and of empty nodes.
_NO_WORD = re.compile(r"\d+[-.]\d+")
Name = Literal["CoNLL2000"]
# Of the phrases, one has no I- in the training file, and two in the test file.
PHRASES = ("ADJP", "ADVP", "CONJP", "INTJ", "LST", "NP", "PP", "PRT", "SBAR", "UCP", "VP")
CLASSES = {"CoNLL2000": (*(f"{b}-{kind}" for b in "BI" for kind in PHRASES), "O")}


class CoNLL(LabelledFiles):
    """Sentences with a tag for each word, from files in columns.

    Batch: ``(tokens, tags)``, both ``[B, T]``; with ``characters`` the first is a
    ``SpelledTokens``. A sentence is enclosed in ``bos_id`` and ``eos_id``; these, padding and all
    pieces of a word but its first have the tag -100.

    A line holds a word and its tag in columns separated by spaces or tabs; all lines of a file
    have the same number of columns. Lines that begin with ``-DOCSTART-`` count as empty, and a
    first line that names the columns of words and tags is not read. CoNLL-U is read with
    ``word_column=1``, ``tag_column=3`` and ``comment="# "``.

    CoNLL2000 has phrases as tags (B-NP, I-NP), in 8,936 sentences of the Wall Street Journal to
    train and 2,012 to test on.

    Args:
        train: path of the training file; with a ``name``, ``None`` for all of its sentences, or on
            how many of them to train, always the same ones, drawn at random: the vocabulary is
            still that of all.
        val: path of the validation file, or how many sentences at the end of the training file
            validate.
        test: path of the test file; ``None``: that of ``name``, or what validates.
        word_column: column of the words, counted from 0, or from the end if negative.
        tag_column: column of the tags.
        comment: lines that begin with this are skipped; empty skips none.
        classes: names of all tags; by default those of ``name``, or those of the training file,
            sorted.
        tokenizer: learnt from the training words and applied to each word; ``None`` makes every
            word a token.
        lowercase: convert words to lower case; characters are as they are written.
        name: of a set.
        data_dir: its files, ``train.txt.gz`` and ``test.txt.gz``, are in ``data_dir/NAME/raw``.
        characters: whether batches say how each word is spelled.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: neither ``train`` nor ``name``; no sentence is left to train on, or fewer than
            asked for; a file is empty or not UTF-8; a line has another number of columns than the
            first, or a tag that is not among ``classes``; a sentence exceeds ``max_tokens``; or
            the tags of the training file are no classes, see ``check_class_names``.

    Source: Tjong Kim Sang and De Meulder 2003; Tjong Kim Sang and Buchholz 2000.
    """

    def __init__(
        self,
        train: int | FilePath | None = None,
        val: int | FilePath = 1000,
        test: FilePath | None = None,
        word_column: int = 0,
        tag_column: int = -1,
        comment: str = "",
        classes: Sequence[str] = (),
        tokenizer: TokenizerFactory | None = None,
        lowercase: bool = False,
        max_tokens: int = 4096,
        name: Name | None = None,
        data_dir: FilePath | None = None,
        characters: bool = False,
    ) -> None:
        paths = [None if isinstance(each, int) else each for each in (train, val, test)]
        if name is not None:
            folder = data_root(data_dir) / choose_from("name", name, Name) / "raw"
            paths = [paths[0] or str(folder / "train.txt.gz"), paths[1]]
            paths.append(test or str(folder / "test.txt.gz"))
        if paths[0] is None:
            raise ValueError("train=None: give the path of a training file, or name=CoNLL2000")
        factory = tokenizer or partial(WordTokenizer, split_punctuation=False)
        super().__init__(paths[0], paths[1] or paths[0], paths[2], factory, lowercase, max_tokens)
        self.num_train = at_least_one("train", train) if isinstance(train, int) else None
        self.held_out = at_least_one("val", val) if isinstance(val, int) else 0
        self.columns, self.comment = (word_column, tag_column), comment
        self.classes = tuple(classes) or (CLASSES[name] if name else ())
        self.name, self.characters = name, characters

    def prepare_data(self) -> None:
        if self.name is not None:
            for path in (self.paths["train"], self.paths["test"]):
                fetch(path.parent, {path.name: None}, ())

    def read(self, split: Split) -> "list[Sentence]":
        path = self.paths[split]
        sentences = read_columns(path, *self.columns, comment=self.comment)
        if not self.held_out or path != self.paths["train"]:
            return sentences
        if self.held_out >= len(sentences):
            raise ValueError(
                f"val={self.held_out}: {path} has {len(sentences):,} sentences; let fewer "
                f"validate, or give the path of a file"
            )
        return sentences[: -self.held_out] if split == "train" else sentences[-self.held_out :]

    def learn(self, train: "list[Sentence]") -> None:
        self.learn_tokenizer([" ".join(sentence.words) for sentence in train])
        if not self.classes:
            tags = [tag for sentence in train for tag in sentence.tags]
            check_class_names(tags, str(self.paths["train"]))
            self.classes = tuple(sorted(set(tags)))
        self.spec = LabelledTokenSpec(
            self.tokenizer.spec, len(self.classes), self.classes, self.characters
        )

    def encode(self, split: Split, contents: "list[Sentence]") -> tuple[Any, Ragged]:
        path = self.paths[split]
        label = {name: index for index, name in enumerate(self.classes)}
        if split == "train" and self.num_train is not None:
            contents = [contents[i] for i in drawn("train", self.num_train, len(contents), path)]
        for sentence in contents:
            for line, tag in enumerate(sentence.tags, sentence.line):
                if tag not in label:
                    known = f"{', '.join(self.classes)}; list all tags in classes"
                    raise in_line(path, line, f"tag {tag!r} is none of {known}")
        return self._encoded(self.tokenizer, contents, label, path)

    def encode_new(self, tokenizer: Tokenizer, lines: list[str], name: str) -> tuple[Any, Ragged]:
        """See ``LabelledFiles``; a line is a sentence, its words stand between spaces."""
        words = [line.split() for line in lines]
        contents = [Sentence(n, each, [""] * len(each)) for n, each in enumerate(words, 1)]
        return self._encoded(tokenizer, contents, {"": 0}, name)

    def _encoded(
        self,
        tokenizer: Tokenizer,
        sentences: "list[Sentence]",
        label: Mapping[str, int],
        path: Path | str,
    ) -> tuple[Any, Ragged]:
        """Token ids, spelled if they are to be, and the label of each word at its first token."""
        words = list({word for sentence in sentences for word in sentence.words})
        begin, end = ends_of(tokenizer)
        pieces = pieces_of(tokenizer, words)
        place = {word: n for n, word in enumerate(words, 1)}
        tokens, tags, places = [], [], []
        for sentence in sentences:
            ids, labels, spelled = [*begin], [IGNORED] * len(begin), [0] * len(begin)
            for word, tag in zip(*sentence[1:], strict=True):
                ids += pieces[word]
                labels += [label[tag]] + [IGNORED] * (len(pieces[word]) - 1)
                spelled += [place[word]] * len(pieces[word])
            if len(ids) >= self.max_tokens:
                limit = f"max_tokens={self.max_tokens}: raise it or split the sentence"
                problem = f"a sentence of {len(ids) + 1:,} tokens, more than {limit}"
                raise in_line(path, sentence.line, problem)
            tokens.append([*ids, *end])
            tags.append([*labels, *[IGNORED] * len(end)])
            places.append([*spelled, *[0] * len(end)])
        sequences: Any = Ragged(tokens)
        if self.characters:
            sequences = SpelledSequences(sequences, Ragged(places), words)
        return sequences, Ragged(tags)

    def labels_of(self, labels: Ragged, indices: Tensor) -> Tensor:
        return labels.padded(indices, IGNORED)


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
            problem = f"{len(columns)} columns instead of {expected}: {line!r}"
            raise in_line(path, number, problem)
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
