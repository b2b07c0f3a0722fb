"""Windows in blocks against a double loop, subsampling against word2vec's formula."""

from collections import Counter

import pytest
import torch

from trellis.functional.word_windows import kept_share, window_blocks


@pytest.mark.parametrize("length", [1, 4, 50])
def test_blocks_hold_the_pairs_of_a_double_loop(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(9, (37,), generator=generator)
    lines = torch.arange(37) // 6
    reach = torch.randint(1, 4, (37,), generator=generator)
    expected = Counter(
        (int(ids[i]), int(ids[j]))
        for i in range(37)
        for j in range(37)
        if 0 < abs(i - j) <= reach[i] and lines[i] == lines[j]
    )
    center, context, near = window_blocks(ids, lines, reach, window=3, length=length)
    assert center.shape == (-(-37 // length), length)
    found = Counter((int(center[n, i]), int(context[n, j])) for n, i, j in near.nonzero().tolist())
    assert found == expected


def test_no_words_are_a_block_without_pairs() -> None:
    none = torch.zeros(0, dtype=torch.long)
    center, context, near = window_blocks(none, none, none, window=2, length=3)
    assert context.shape == (1, 7)
    assert not near.any()


def test_frequent_words_are_kept_as_often_as_word2vec_keeps_them() -> None:
    counts = torch.tensor([60_000, 30_000, 9_000, 990, 10])
    total, t = 100_000, 1e-2
    expected = [
        min(1.0, ((count / (t * total)) ** 0.5 + 1) * (t * total) / count)
        for count in counts.tolist()
    ]
    torch.testing.assert_close(kept_share(counts, t).tolist(), expected)
    assert expected[0] < 0.2
    assert kept_share(counts, 0).tolist() == [1] * 5
