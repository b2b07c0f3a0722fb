"""Skip-gram with negative sampling beside gensim's Word2Vec: as fast, and as good.

``pytest tests/benchmarks/test_word_vector_speed.py -m slow -s``
"""

import gzip
import time
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from measurements import report
from torch.optim import Optimizer

from trellis.datamodules.sequence import WordContexts
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.sequence import SkipGram
from trellis.networks.sequence import SkipGramEmbedding
from trellis.optim import Schedule

EPOCHS, SIZE, WINDOW, NEGATIVES, SAMPLE, MIN_COUNT = 10, 100, 5, 5, 1e-3, 5


class Clock(L.Callback):
    """Seconds of this process from the first step to the last, without the evaluation."""

    def on_train_start(self, *args: object) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, *args: object) -> None:
        self.seconds = time.process_time() - self.start


def linear(optimizer: Optimizer) -> Schedule:
    return Schedule(optimizer, decay="linear")


@pytest.mark.slow
@pytest.mark.data
def test_skip_gram_is_as_fast_and_as_good_as_gensim(data_dir: str, tmp_path: Path) -> None:
    models = pytest.importorskip("gensim.models")
    torch.set_num_threads(1)
    text = Path(data_dir, "WikiText2", "raw", "wiki.train.tokens.gz")
    with gzip.open(text, "rt", encoding="utf-8") as file:
        lines = [line.lower().split() for line in file if line.strip()]
    words = EPOCHS * sum(map(len, lines))

    data = WordContexts(
        str(text), data_dir, MIN_COUNT, window=WINDOW, sample=SAMPLE, batch_size=16, analogies=""
    )
    L.seed_everything(0, verbose=False)
    clock = Clock()
    trainer = Trainer(
        max_epochs=EPOCHS, accelerator="cpu", callbacks=[clock], default_root_dir=tmp_path,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False, logger=False,
    )  # fmt: skip
    ours = SkipGram(
        partial(SkipGramEmbedding, embed_dim=SIZE),
        partial(torch.optim.Adagrad, lr=0.2),
        linear,
        num_negatives=NEGATIVES,
    )
    trainer.fit(ours, datamodule=data)
    (found,) = trainer.test(ours, datamodule=data, verbose=False)

    theirs = models.Word2Vec(
        vector_size=SIZE, window=WINDOW, min_count=MIN_COUNT, sg=1, negative=NEGATIVES,
        sample=SAMPLE, workers=1, epochs=EPOCHS, seed=1,
    )  # fmt: skip
    theirs.build_vocab(lines)
    start = time.process_time()
    theirs.train(lines, total_examples=theirs.corpus_count, epochs=EPOCHS)
    seconds = time.process_time() - start
    pairs = Path(data_dir, "word_similarity", "wordsim353.tsv")
    _, (spearman, _), _ = theirs.wv.evaluate_word_pairs(str(pairs))

    rates = {"trellis": [words / clock.seconds], "gensim": [words / seconds]}
    print(
        f"\nwords/s: {rates['trellis'][0]:,.0f}, gensim {rates['gensim'][0]:,.0f}; WordSim-353: "
        f"{found['test/wordsim353']:.3f}, gensim {spearman:.3f}"
    )
    report(f"Skip-gram on WikiText-2, {SIZE} numbers, {NEGATIVES} negatives", "words/s", rates)
    assert rates["trellis"][0] >= 0.5 * rates["gensim"][0]
    assert found["test/wordsim353"] >= spearman - 0.03
