"""The words of a text in the company of those near them."""

import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.word_corpus import WordCorpus
from trellis.datamodules.sequence.word_text import WordText
from trellis.files import FilePath
from trellis.functional.skip_gram import Noise
from trellis.functional.word_windows import WindowBatch, kept_share, window_blocks
from trellis.random import keyed_generator

_VALIDATED, _TRAINED = range(2)  # streams of random numbers
SPAN = 512  # words of the text that stay together, whose windows lose a few at their ends


class WordContexts(WordText):
    """Words of a text with those near them, for skip-gram and CBOW.

    Batch: a ``WindowBatch`` of ``batch_size`` spans of 512 words of the text, without those that
    subsampling leaves out, whose windows are larger for it. Each word has a window of a random
    size. What is left out, the windows and the negatives depend on the seed, the epoch and the
    batch only, not on the number of processes or on a resume. Negatives are drawn by how often a
    word occurs, to the power of 3/4, and shared by the ``block_length`` centres of a block.

    Args:
        path, data_dir, min_count, lowercase, pairs, analogies: see ``WordText``.
        window: the largest number of places to either side.
        sample: share of the text from which on a word counts as frequent, see ``kept_share``; 0
            keeps all.
        block_length: centres that share their negatives.
        block_negatives: negatives that they share.
        batch_size: spans in a batch.
        num_val_batches: see ``WordText``.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a number out of range, a text of less than two words, or a file of pairs or
            analogies with a broken line.

    Source: Mikolov et al. 2013a and 2013b; Ji et al. 2016, section 4 (negatives that are shared).
    """

    def __init__(
        self,
        path: FilePath | None = None,
        data_dir: FilePath | None = None,
        min_count: int = 5,
        lowercase: bool = True,
        window: int = 5,
        sample: float = 1e-3,
        block_length: int = 32,
        block_negatives: int = 32,
        pairs: list[FilePath] | None = None,
        analogies: FilePath | None = None,
        batch_size: int = 8,
        num_val_batches: int = 1,
    ) -> None:
        super().__init__(
            path, data_dir, min_count, lowercase, pairs, analogies, batch_size, num_val_batches
        )
        self.window = at_least_one("window", window)
        self.sample = not_negative("sample", sample)
        self.block_length = at_least_one("block_length", block_length)
        self.block_negatives = at_least_one("block_negatives", block_negatives)

    def learn(self, corpus: WordCorpus) -> None:
        self.ids, self.lines = corpus.ids, corpus.lines
        self.kept = kept_share(corpus.counts, self.sample).float()
        self.noise = Noise(corpus.counts)

    @property
    def num_spans(self) -> int:
        """Spans of the text."""
        return -(-len(self.ids) // SPAN)

    def train_loader(self) -> Loader[WindowBatch]:
        def fetch(spans: Tensor) -> WindowBatch:
            # Another batch of the epoch has another first span.
            return self._batch(
                spans, keyed_generator(loader.seed, _TRAINED, loader.epoch, int(spans[0]))
            )

        loader = Loader(self.num_spans, fetch, batch_size=self.batch_size, shuffle=True)
        return loader

    def evaluated(self, number: int) -> WindowBatch:
        generator = keyed_generator(number, _VALIDATED)
        spans = torch.randint(self.num_spans, (self.batch_size,), generator=generator)
        return self._batch(spans, generator)

    def _batch(self, spans: Tensor, generator: torch.Generator) -> WindowBatch:
        places = spans[:, None] * SPAN + torch.arange(SPAN)
        inside = places < len(self.ids)
        places = places[inside]
        kept = torch.rand(len(places), generator=generator) < self.kept[self.ids[places]]
        places = places[kept]
        # Two spans stand beside each other that are parts of one line.
        which = torch.arange(len(spans))[:, None].expand(-1, SPAN)[inside][kept]
        lines = self.lines[places] * len(spans) + which
        reach = torch.randint(1, self.window + 1, (len(places),), generator=generator)
        center, context, near = window_blocks(
            self.ids[places], lines, reach, window=self.window, length=self.block_length
        )
        negatives = self.noise.draw(len(center), self.block_negatives, generator=generator)
        return WindowBatch(center, context, near, negatives)
