"""The pool of generated images: none is lost, how often an earlier one is shown, checkpoints."""

from collections import Counter

import pytest
import torch

from trellis.generative.image_pool import ImagePool


def numbered(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def test_every_image_is_shown_once_or_still_there() -> None:
    torch.manual_seed(0)
    pool, size = ImagePool(5, (1, 2, 2)), 5
    shown: Counter[int] = Counter()
    stored = set()
    for step in range(200):
        out = pool(numbered(3 * step, 3))
        assert (out == out[:, :1, :1, :1]).all()
        shown.update(out[:, 0, 0, 0].int().tolist())
        stored = set(pool.images[pool.filled][:, 0, 0, 0].int().tolist())
        assert len(stored) == int(pool.filled.sum())
        seen = set(range(3 * step + 3))
        # Those that found an empty place are shown when they come, and may be again.
        assert set(shown) | stored == seen
        assert sum(shown.values()) == len(seen)
    assert len(stored) == size
    assert max(shown.values()) == 2
    assert sum(count == 2 for count in shown.values()) <= size


def test_half_of_the_images_are_earlier_ones_once_the_pool_is_full() -> None:
    torch.manual_seed(0)
    pool = ImagePool(8, (1, 2, 2))
    earlier = 0
    for step in range(500):
        now = numbered(8 * step, 8)
        out = pool(now)
        assert step > 0 or torch.equal(out, now), "an empty pool has nothing to show"
        earlier += int((out != now).all((1, 2, 3)).sum())
    assert abs(earlier / (499 * 8) - 0.5) < 4 * 0.5 / (499 * 8) ** 0.5


def test_more_images_than_places() -> None:
    torch.manual_seed(0)
    pool = ImagePool(2, (1, 2, 2))
    pool(numbered(0, 2))
    out = pool(numbered(10, 6))
    assert torch.equal(out[2:], numbered(12, 4))
    assert out.dtype == torch.float32
    assert pool(numbered(20, 1).half()).dtype == torch.float16


def test_a_copy_goes_on_like_the_pool() -> None:
    torch.manual_seed(0)
    pool, copy = ImagePool(3, (1, 2, 2)), ImagePool(3, (1, 2, 2))
    pool(numbered(0, 3))
    copy.load_state_dict(pool.state_dict())
    outputs = []
    for each in (pool, copy):
        torch.manual_seed(1)
        outputs.append(each(numbered(3, 3)))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], numbered(3, 3))
    assert not pool(numbered(6, 3).requires_grad_()).requires_grad
    with pytest.raises(ValueError, match="size=0"):
        ImagePool(0, (1, 2, 2))
