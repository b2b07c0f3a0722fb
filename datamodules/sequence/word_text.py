"""The base of the data modules that vectors of words are learnt from."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.word_corpus import WordCorpus, read_tests, read_words, spec_of
from trellis.files import FilePath, data_root
from trellis.sequence.word_tests import WordTests


class WordText(DataModule):
    """Base of the data modules of the words of a text, and of what their vectors are judged by.

    A subclass prepares what it learns from in ``learn``, and defines ``train_loader`` and
    ``evaluated``. The vocabulary is that of the text; there is no unknown word in it.

    Evaluations take ``num_val_batches`` of the text, the same each time, and then ``WordTests``.
    Predictions are the vectors of all words.

    Args:
        path: text in UTF-8 whose words stand between spaces, a sentence or a paragraph a line;
            compressed if it ends in ``.gz``. ``None``: the training text of WikiText-2.
        data_dir: that text is in ``data_dir/WikiText2/raw``, the sets in
            ``data_dir/word_similarity``.
        min_count: rarer words are left out of the text.
        lowercase: convert the text to lower case.
        pairs: paths of sets of rated pairs; ``None``: WordSim-353 and SimLex-999, where they lie
            in ``data_dir`` or in an installed gensim.
        analogies: path of analogies; ``None``: likewise ``questions-words``; empty: none.
        batch_size: what a batch has of the text.
        num_val_batches: batches of the text in an evaluation.
    """

    def __init__(
        self,
        path: FilePath | None,
        data_dir: FilePath | None,
        min_count: int,
        lowercase: bool,
        pairs: list[FilePath] | None,
        analogies: FilePath | None,
        batch_size: int,
        num_val_batches: int,
    ) -> None:
        super().__init__()
        folder = data_root(data_dir) / "WikiText2" / "raw"
        self.path = Path(path) if path else folder / "wiki.train.tokens.gz"
        self.data_dir, self.lowercase = data_dir, lowercase
        self.min_count = at_least_one("min_count", min_count)
        self.pairs, self.analogies = pairs, analogies
        self.batch_size = at_least_one("batch_size", batch_size)
        self.num_val_batches = not_negative("num_val_batches", num_val_batches)
        self.tests: WordTests | None = None

    @abstractmethod
    def learn(self, corpus: WordCorpus) -> None:
        """Prepare what batches are made of."""

    @abstractmethod
    def train_loader(self) -> Loader[Any]:
        """Batches to learn from."""

    @abstractmethod
    def evaluated(self, number: int) -> Any:
        """One of ``num_val_batches``, the same each time."""

    def setup(self, stage: str | None = None) -> None:
        if self.tests is not None:
            return
        corpus = read_words(self.path, min_count=self.min_count, lowercase=self.lowercase)
        self.tests = read_tests(
            corpus.words,
            self.pairs,
            self.analogies,
            data_dir=self.data_dir,
            lowercase=self.lowercase,
        )
        self.spec, self.test_ids = spec_of(corpus, self.tests), corpus.words
        self.learn(corpus)

    def loader(self, split: Split) -> Loader[Any]:
        if split == "train":
            return self.train_loader()
        assert self.tests is not None, "setup() comes first"
        some = self.num_val_batches
        there = bool(self.spec.scales or self.spec.analogies)
        return Loader(some + there, lambda n: self.evaluated(int(n)) if n < some else self.tests)

    def predict_dataloader(self) -> Loader[Tensor]:
        return Loader(self.spec.num_tokens, lambda ids: ids, batch_size=4096)
