"""Rows of several sentences, against the file they come from."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from sequence_cases import written

from trellis.datamodules.sequence import CoNLL, PackedSentences
from trellis.sequence.tokenizer import BOS, EOS, PAD


def test_packed_rows_hold_the_sentences_of_an_epoch(tmp_path: Path) -> None:
    lengths = [3, 9, 1, 4, 7, 2, 2, 6, 5, 8, 1, 3]
    train = "\n\n".join("\n".join([f"w{n} T{n % 3}"] * n) for n in lengths)
    paths = {"train": written(tmp_path, "a", train), "val": written(tmp_path, "b", "w1 T1")}
    data = PackedSentences(partial(CoNLL, **paths), max_tokens=30)
    data.setup()
    found, size = [], 0
    for (tokens, positions), tags in data.train_dataloader():
        size += tokens.numel()
        for row, where, labels in zip(tokens, positions, tags, strict=True):
            starts = [*(where == 0).nonzero().flatten().tolist(), len(row)]
            for start, end in pairwise(starts):
                if row[start] == PAD:
                    assert (labels[start:end] == -100).all()
                    continue
                words = data.data.tokenizer.decode(row[start + 1 : end - 1].tolist()).split()
                assert (row[start], row[end - 1]) == (BOS, EOS)
                assert {f"w{len(words)}"} == set(words)
                expected = [-100, *[len(words) % 3] * len(words), -100]
                assert labels[start:end].tolist() == expected
                found.append(len(words))
    assert sorted(found) == sorted(lengths)
    assert size < 1.3 * (sum(lengths) + 2 * len(lengths))
    ((tokens, _),) = data.val_dataloader()
    assert torch.is_tensor(tokens), "evaluation has a sentence in each row"
    spelled = PackedSentences(partial(CoNLL, **paths, characters=True))
    spelled.setup()
    with pytest.raises(ValueError, match="sentences with characters have rows of their own"):
        spelled.train_dataloader()
    with pytest.raises(ValueError, match="max_tokens=0"):
        PackedSentences(partial(CoNLL, **paths), max_tokens=0)
