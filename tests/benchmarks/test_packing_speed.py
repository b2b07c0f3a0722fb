"""A step of a BERT tagger on CoNLL-2000's sentences: packed, by length, and padded at random.

``pytest tests/benchmarks/test_packing_speed.py -m "" -s`` shows the numbers.
"""

import time
from collections.abc import Iterable
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import pytest
import torch
from measurements import report
from torch import Tensor

from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.conll import CoNLL
from trellis.datamodules.sequence.packed_sentences import PackedSentences
from trellis.lightning_modules.sequence.tagging import Tagging
from trellis.networks.sequence.bert import BertTagger
from trellis.sequence.subword import WordPieceTokenizer

pytestmark = [pytest.mark.slow, pytest.mark.data]
STEPS, ROUNDS = 12, 3


def seconds_a_token(objective: Tagging, batches: Iterable[Any]) -> float:
    """Of the processor, forward and backward; padding is no token."""
    spent, count = 0.0, 0
    for batch in islice(batches, STEPS):
        inputs, _ = batch
        tokens = inputs if isinstance(inputs, Tensor) else inputs.tokens
        start = time.process_time()
        objective.training_step(batch, 0).backward()
        spent += time.process_time() - start
        count += int((tokens != objective.spec.tokens.pad_id).sum())
    return spent / count


def test_packed_rows_are_faster_than_padded_ones(data_dir: str) -> None:
    torch.manual_seed(0)
    make = partial(
        CoNLL, name="CoNLL2000", data_dir=data_dir, lowercase=True, max_tokens=2048,
        tokenizer=partial(WordPieceTokenizer, num_tokens=5000),
    )  # fmt: skip
    data, short = make(), PackedSentences(make, max_tokens=2048)
    for each in (data, short):
        each.setup("fit")
    tokens, tags = data.splits["train"]
    count = -(-int(tokens.lengths.sum()) // 2048)

    def padded(indices: Tensor) -> tuple[Tensor, Tensor]:
        return tokens.padded(indices, data.spec.tokens.pad_id), data.labels_of(tags, indices)

    at_random = Loader(
        len(tokens), padded, shuffle=True, plan=lambda order, _: order.tensor_split(count)
    )
    body = partial(BertTagger, embed_dim=128, num_heads=4, num_layers=4, max_length=256)
    objective = Tagging(body, spec=data.spec)
    objective.configure_model()
    sides = {
        "packed": short.train_dataloader(),
        "padded, by length": data.train_dataloader(),
        "padded, at random": at_random,
    }
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side, loader in sides.items():
            found[side].append(1e6 * seconds_a_token(objective, loader))
    report("BERT tagger on CoNLL-2000's sentences", "us a token", found)
    speed = {side: median(values) for side, values in found.items()}
    print({side: f"{value:.1f} us a token" for side, value in speed.items()})
    assert speed["packed"] < 0.75 * speed["padded, at random"]
