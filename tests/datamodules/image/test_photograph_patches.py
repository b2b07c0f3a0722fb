import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from trellis.datamodules.image.photograph_patches import PhotographPatches
from trellis.spec import TensorSpec


def drawn(data: PhotographPatches, split: str) -> tuple[Tensor, Tensor]:
    data.setup()
    x, y = zip(*data.loader(split), strict=True)
    return torch.cat(x), torch.cat(y)


def test_patches_are_as_many_as_documented_and_their_photographs_known() -> None:
    data = PhotographPatches()
    for split, count in (("train", 3950), ("val", 400), ("test", 400)):
        x, y = drawn(data, split)
        assert x.shape == (count, 3, 16, 16)
        assert y.bincount().tolist() == [count // 2] * 2
        assert (x.min(), x.max()) == (0, 1) or split != "train"
    assert data.spec == TensorSpec(3, 2, (16, 16), ("china", "flower"), values="unit")


@pytest.mark.parametrize(("size", "stride"), [(16, 8), (16, 16), (30, 7), (85, 85)])
def test_no_pixel_is_in_two_splits(size: int, stride: int, monkeypatch) -> None:
    """The photographs become the numbers of their pixels."""
    data = PhotographPatches(size, stride)
    numbers = torch.arange(427 * 640).view(427, 640).expand(3, -1, -1)
    found = {split: data._patches(numbers, split) for split in ("train", "val", "test")}
    places = [set(patches.flatten().tolist()) for patches in found.values()]
    assert sum(map(len, places)) == len(set.union(*places))
    for split in ("val", "test"):
        assert found[split].numel() == 3 * len(found[split].unique()), "patches do not overlap"
    assert len(found["train"]) >= 3 * len(found["val"]) == 3 * len(found["test"])


def test_patches_are_squares_of_the_photographs() -> None:
    data = PhotographPatches(16)
    for split, top, left in (("val", 48, 32), ("test", 64, 32), ("train", 8, 8)):
        x, y = drawn(data, split)
        for number, photograph in enumerate(load_sample_images().images):
            square = photograph[top : top + 16, left : left + 16].transpose(2, 0, 1)
            same = (x * 255).round().eq(torch.tensor(square)).flatten(1).all(1)
            assert same.any()
            assert (y[same] == number).all()
    assert 0 < data.splits["val"][1][:8].sum() < 8, "the first are of both"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0: give at least 1"),
        ({"size": 86}, "size=86: give at most 85, five rows must fit"),
        ({"stride": 0}, "stride=0: give at least 1"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
    ],
)
def test_arguments_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhotographPatches(**options)
