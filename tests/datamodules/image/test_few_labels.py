"""Few labels: how many, of which classes, and in which batches."""

from functools import partial
from pathlib import Path

import pytest
import torch
from image_files import write_idx_files

from trellis.datamodules.image import MNIST
from trellis.datamodules.image.few_labels import LabelledDraw, few_labels
from trellis.nn import RandomCrop


@pytest.fixture
def build(tmp_path: Path) -> partial:
    """40 training images, four of each class."""
    folder = write_idx_files(tmp_path)
    return partial(MNIST, data_dir=str(folder), num_val=0, pixels="unit", batch_size=8)


def ready(data: MNIST) -> MNIST:
    data.prepare_data()
    data.setup()
    return data


def test_equally_many_labels_of_each_class_are_kept() -> None:
    y = torch.arange(1000) % 10
    kept = few_labels(y, 30, 10)
    known = kept != -100
    assert kept[known].bincount().tolist() == [3] * 10
    assert kept[known].equal(y[known])
    assert kept.equal(few_labels(y, 30, 10))
    assert not known[:30].all()


def test_labelled_images_are_added_to_each_batch(build: partial) -> None:
    data = ready(build(num_labels=20, labels_per_batch=3))
    whole = ready(build())
    seen = torch.zeros(40)
    for x, y in data.loader("train"):
        number = x.flatten(1)[:, 0].mul(255).round().long()
        assert len(y) == 11
        assert (y[8:] != -100).all()
        known = y != -100
        assert y[known].equal(number[known] % 10)
        seen[number[:8]] += 1
    assert seen.eq(1).all()
    for split in ("val", "test"):
        pairs = zip(data.loader(split), whole.loader(split), strict=True)
        assert all(a.equal(b) for one, two in pairs for a, b in zip(one, two, strict=True))


def test_batches_are_a_function_of_the_epoch(build: partial) -> None:
    def batches(epoch: int, **options: object) -> torch.Tensor:
        loader = ready(build(num_labels=20, pixels="dynamic", **options)).loader("train")
        loader.set_epoch(epoch)
        return torch.cat([x.flatten(1) for x, _ in loader])

    assert batches(0).equal(batches(0))
    assert not batches(0).equal(batches(1))


def test_draws_reach_all_labelled_examples() -> None:
    draw = LabelledDraw(few_labels(torch.arange(100) % 5, 20, 5), 4)
    drawn = torch.stack([draw(epoch, 7) for epoch in range(100)])
    assert drawn.shape == (100, 4)
    assert len(drawn.unique()) == 20


def test_impossible_numbers_are_named(build: partial) -> None:
    with pytest.raises(ValueError, match="num_labels=25: give a multiple of 10"):
        ready(build(num_labels=25))
    with pytest.raises(ValueError, match="num_labels=50: class 0 has 4 examples, not 5"):
        ready(build(num_labels=50))
    with pytest.raises(ValueError, match="num_labels=0: give at least 1"):
        ready(build(num_labels=0))
    with pytest.raises(ValueError, match="labels_per_batch=0"):
        build(num_labels=20, labels_per_batch=0)
    with pytest.raises(ValueError, match="num_labels=20: give no augmentations"):
        build(num_labels=20, augmentations=[RandomCrop])
