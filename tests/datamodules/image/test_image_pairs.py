"""Images and their inputs: the changes against scipy and by hand, pairs, halves, bad options."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import write_idx_files
from scipy import ndimage

from trellis.datamodules.image.image_pairs import ImagePairs, edges, turned_negative
from trellis.datamodules.image.mnist import MNIST
from trellis.spec import TensorPairSpec, TensorSpec


def ready(folder: Path, **options) -> ImagePairs:
    write_idx_files(folder)
    images = partial(MNIST, folder, 4, num_val=8, pixels="unit")
    data = ImagePairs(images, **options)
    data.prepare_data()
    data.setup()
    return data


def epoch(data: ImagePairs, split: str, number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    loader = data.loader(split)  # type: ignore[arg-type]
    loader.set_epoch(number)
    x, y = zip(*loader, strict=True)
    return torch.cat(x), torch.cat(y)


def numbers(images: torch.Tensor) -> list[int]:
    """Of images of the look-alike, by their first pixel."""
    return images[:, 0, 0, 0].mul(255).round().int().tolist()


def test_edges_are_those_of_scipy() -> None:
    x = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)).double()
    for image, found in zip(x.flatten(0, 1), edges(x).flatten(0, 1), strict=True):
        along = [ndimage.sobel(image.numpy(), axis, mode="constant") for axis in (0, 1)]
        torch.testing.assert_close(found.numpy(), np.minimum(1, np.hypot(*along) / 4))
    step = torch.zeros(1, 1, 6, 6)
    step[..., 3:] = 1
    assert edges(step)[0, 0, 2].tolist() == [0, 0, 1, 1, 0, 1]


def test_a_turned_negative_is_turned_back_exactly() -> None:
    x = torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]])
    assert turned_negative(x).tolist() == [[[[0.75, 0.0], [1.0, 0.5]]]]
    assert torch.equal(1 - turned_negative(x).rot90(-1, (2, 3)), x)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("change", ["edges", "negative", "turned_negative"])
def test_evaluation_has_pairs(change, paired: bool, tmp_path: Path) -> None:
    data = ready(tmp_path, change=change, paired=paired)
    image = TensorSpec(1, 0, (28, 28), values="unit")
    assert data.spec == TensorPairSpec(image, image, paired)
    for split, count in (("val", 8), ("test", 10)):
        x, y = epoch(data, split)
        assert len(x) == len(y) == count
        torch.testing.assert_close(y.flatten(1) * 255, data.source.splits[split][0].float())
        expected = {"edges": edges(y), "negative": 1 - y, "turned_negative": turned_negative(y)}
        torch.testing.assert_close(x, expected[change])
        assert x.min() >= 0
        assert x.max() <= 1


def test_training_has_every_pair_once(tmp_path: Path) -> None:
    data = ready(tmp_path, change="negative")
    for number in (0, 1):
        x, y = epoch(data, "train", number)
        torch.testing.assert_close(x, 1 - y)
        assert len(set(numbers(y))) == len(y) == 32
    assert numbers(y) != numbers(epoch(data, "train", 0)[1])


def test_without_pairs_no_image_is_on_both_sides(tmp_path: Path) -> None:
    data = ready(tmp_path, change="negative", paired=False)
    partners = []
    inputs, targets = set(), set()
    for number in range(6):
        x, y = epoch(data, "train", number)
        again = epoch(data, "train", number)
        assert torch.equal(x, again[0])
        assert torch.equal(y, again[1])
        assert len(set(numbers(1 - x))) == len(x) == len(y) == 16
        partners.append(dict(zip(numbers(1 - x), numbers(y), strict=True)))
        inputs |= set(numbers(1 - x))
        targets |= set(numbers(y))
    assert len(inputs) == 16
    assert not inputs & targets
    assert len(targets) > 12
    assert len({tuple(sorted(each.items())) for each in partners}) == 6, "drawn anew"


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="change='blur': choose from edges, negative, turned_"):
        ImagePairs(change="blur")  # type: ignore[arg-type]
    for options in ({}, {"pixels": "unit", "flatten": True}, {"pixels": "static"}):
        with pytest.raises(ValueError, match="give MNIST pixels='unit', and no flatten or augm"):
            ImagePairs(partial(MNIST, **options))
    data = ImagePairs()
    data.batch_size = 7
    assert data.source.batch_size == 7
