"""How often the words of a text stand near each other."""

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.word_corpus import WordCorpus
from trellis.datamodules.sequence.word_text import WordText
from trellis.files import FilePath
from trellis.functional.skip_gram import PairCounts
from trellis.random import keyed_generator
from trellis.sequence.cooccurrence import Weighting, cooccurrence_counts


class Cooccurrences(WordText):
    """Pairs of words of a text with how often they stand near each other, for GloVe and PPMI.

    Batch: ``PairCounts`` of ``batch_size`` pairs, in random order; ``None``: of all pairs, in
    order. A pair is there in both directions.

    Args:
        path, data_dir, min_count, lowercase, pairs, analogies: see ``WordText``.
        window, weighting: see ``cooccurrence_counts``.
        batch_size: pairs in a batch; ``None`` for all of them.
        num_val_batches: see ``WordText``.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: as ``WordContexts``; or no word has another one beside it.

    Source: Pennington et al. 2014, section 4.2.
    """

    def __init__(
        self,
        path: FilePath | None = None,
        data_dir: FilePath | None = None,
        min_count: int = 5,
        lowercase: bool = True,
        window: int = 10,
        weighting: Weighting = "harmonic",
        pairs: list[FilePath] | None = None,
        analogies: FilePath | None = None,
        batch_size: int | None = 8192,
        num_val_batches: int = 1,
    ) -> None:
        size = 1 if batch_size is None else batch_size
        super().__init__(
            path, data_dir, min_count, lowercase, pairs, analogies, size, num_val_batches
        )
        self.whole = batch_size is None
        self.window = at_least_one("window", window)
        self.weighting = choose_from("weighting", weighting, Weighting)

    def learn(self, corpus: WordCorpus) -> None:
        found = cooccurrence_counts(
            corpus.ids,
            corpus.lines,
            len(corpus.words),
            window=self.window,
            weighting=self.weighting,
        ).tocoo()
        if not found.nnz:
            raise ValueError(f"{self.path}: no line has two words: there are no pairs to count")
        self.cells = PairCounts(
            torch.from_numpy(found.row).long(),
            torch.from_numpy(found.col).long(),
            torch.from_numpy(found.data).float(),
        )

    def train_loader(self) -> Loader[PairCounts]:
        if self.whole:
            return Loader(1, lambda _: self.cells)
        number = len(self.cells.counts)
        return Loader(number, self._batch, batch_size=self.batch_size, shuffle=True)

    def evaluated(self, number: int) -> PairCounts:
        if self.whole:
            return self.cells
        size = (self.batch_size,)
        generator = keyed_generator(number)
        return self._batch(torch.randint(len(self.cells.counts), size, generator=generator))

    def _batch(self, cells: Tensor) -> PairCounts:
        return PairCounts(*(part[cells] for part in self.cells))
