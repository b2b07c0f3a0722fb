"""Augmentations beside Pillow, numpy and loops over pixels, and what is drawn for each image."""

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from trellis.functional import (
    cut_out,
    flip_images,
    mix_up,
    recolour_images,
    rotate_images,
    shift_images,
)
from trellis.nn import (
    Augmentation,
    Cutout,
    Mixup,
    RandomColour,
    RandomCrop,
    RandomFlip,
    RandomRotation,
)

ALL: list[Callable[[], Augmentation]] = [
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomColour,
    Cutout,
]


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 3, 9, 12, generator=torch.Generator().manual_seed(0))


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.mul(255).round().byte().permute(1, 2, 0).numpy())


def test_a_shift_is_a_crop_of_the_padded_image(x: Tensor) -> None:
    rows, columns = torch.tensor([0, 2, -3, 40]), torch.tensor([0, -1, 3, 0])
    ours = shift_images(x, rows, columns)
    for image, old, row, column in zip(ours, x, rows.tolist(), columns.tolist(), strict=True):
        padded = np.pad(old.numpy(), ((0, 0), (50, 50), (50, 50)))
        wanted = padded[:, 50 - row : 59 - row, 50 - column : 62 - column]
        np.testing.assert_array_equal(image.numpy(), wanted)


def test_a_flip_is_that_of_numpy(x: Tensor) -> None:
    ours = flip_images(x, torch.tensor([True, False, True, False]))
    np.testing.assert_array_equal(ours[::2].numpy(), np.flip(x[::2].numpy(), 3))
    assert torch.equal(ours[1::2], x[1::2])


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_quarter_turns_are_those_of_numpy(quarters: int) -> None:
    square = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = rotate_images(square, torch.full((2,), quarters * torch.pi / 2))
    turned = np.rot90(square.numpy(), quarters, axes=(2, 3))
    np.testing.assert_allclose(ours.numpy(), turned, atol=1e-4)


@pytest.mark.parametrize("degrees", [-20.0, 10.0, 33.0])
def test_a_rotation_is_that_of_pillow_in_images_that_are_not_square(degrees: float) -> None:
    smooth = torch.linspace(0, 3, 40)[:, None].sin() * torch.linspace(0, 2, 60).cos()
    smooth = smooth.abs()[None, None]
    ours = rotate_images(smooth, torch.tensor([np.deg2rad(degrees)], dtype=torch.float32))
    bilinear = Image.Resampling.BILINEAR
    theirs = np.asarray(Image.fromarray(smooth[0, 0].numpy()).rotate(degrees, bilinear))
    middle = (slice(12, -12), slice(15, -15))  # at the edge Pillow has other neighbours
    np.testing.assert_allclose(ours[0, 0][middle].numpy(), theirs[middle], atol=0.01)
    assert ours[0, 0, 0, 0] == 0


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("kind", ["Brightness", "Contrast", "Color"])
def test_colours_are_those_of_pillow(x: Tensor, kind: str, factor: float) -> None:
    factors = dict.fromkeys(("Brightness", "Contrast", "Color"), torch.ones(4))
    factors[kind] = torch.full((4,), factor)
    ours = recolour_images(x, *factors.values())
    for image, old in zip(ours, x, strict=True):
        theirs = getattr(ImageEnhance, kind)(as_pillow(old)).enhance(factor)
        expected = np.asarray(theirs).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image.numpy(), expected, atol=2.1 / 255)


def test_without_saturation_all_is_grey(x: Tensor) -> None:
    one = torch.ones(4)
    for pixel in recolour_images(x, one, one, 0 * one)[0].flatten(1).t().tolist():
        assert colorsys.rgb_to_hsv(*pixel)[1] < 1e-5
    assert torch.equal(recolour_images(x[:, :1], one, one, 0 * one), x[:, :1])


def test_cutout_is_a_square_around_its_middle(x: Tensor) -> None:
    rows, columns, size = torch.tensor([4, 0, 8, 3]), torch.tensor([5, 0, 11, 11]), 4
    ours = cut_out(x, rows, columns, size)
    for i, row in enumerate(range(9)):
        for column in range(12):
            for n, (r, c) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
                inside = r - 2 <= row < r + 2 and c - 2 <= column < c + 2
                assert torch.equal(
                    ours[n, :, row, column], x[n, :, i, column] * (0 if inside else 1)
                )


def test_mixup_is_the_convex_combination_of_the_paper(x: Tensor) -> None:
    w = torch.tensor([0.0, 1.0, 0.25, 0.5])
    mixed = mix_up(x, w)
    for i, weight in enumerate(w.tolist()):
        torch.testing.assert_close(mixed[i], weight * x[i] + (1 - weight) * x[i - 1])


def test_images_and_labels_are_mixed_alike(x: Tensor) -> None:
    change, y = Mixup(1.0), torch.eye(5)[[0, 1, 2, 4]]
    uniform = torch.rand(4, 1, generator=torch.Generator().manual_seed(0))
    w = change.labels(y, uniform)[torch.arange(4), y.argmax(1)]
    torch.testing.assert_close(change(x, uniform), mix_up(x, w))
    torch.testing.assert_close(change.labels(y, uniform), mix_up(y, w))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_proportions_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    """Mean 1/2, variance 1 / (4 (2 alpha + 1)); uniform for alpha 1."""
    uniform = torch.linspace(0, 1, 40_001)[:-1, None]
    y = torch.eye(2)[torch.arange(40_000) % 2]
    w = Mixup(alpha).labels(y, uniform)[torch.arange(40_000), y.argmax(1)]
    assert w.mean() == pytest.approx(0.5, abs=0.01)
    assert w.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


@pytest.mark.parametrize("make", ALL)
def test_an_image_is_changed_by_its_own_numbers_alone(
    make: Callable[[], Augmentation], x: Tensor
) -> None:
    change = make()
    uniform = torch.rand(4, change.num_random, generator=torch.Generator().manual_seed(1))
    together = change(x, uniform)
    alone = torch.cat([change(x[i : i + 1], uniform[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert together.shape == x.shape
    assert not torch.equal(together, x)
    assert together.min() >= 0
    assert together.max() <= 1


@pytest.mark.parametrize("make", [*ALL, Mixup])
def test_augmentations_run_where_no_values_are(make: Callable[[], Augmentation]) -> None:
    change = make().to("meta")
    x = torch.empty(2, 3, 8, 8, device="meta")
    assert change(x, torch.empty(2, change.num_random, device="meta")).device.type == "meta"


def test_every_offset_of_a_crop_is_as_likely() -> None:
    """A single bright pixel lands in each of the (2 p + 1)^2 places about equally often."""
    n, p = 20_000, 2
    x = torch.zeros(n, 1, 5, 5)
    x[:, :, 2, 2] = 1
    uniform = torch.rand(n, 2, generator=torch.Generator().manual_seed(0))
    counts = RandomCrop(p)(x, uniform).sum((0, 1))
    assert (counts - n / 25).abs().max() < 5 * (n / 25) ** 0.5


def test_options_out_of_range_are_refused() -> None:
    for make, match in (
        (lambda: RandomCrop(0), "padding=0: give at least 1"),
        (lambda: RandomFlip(1.5), "chance=1.5"),
        (lambda: RandomRotation(-1), "degrees=-1"),
        (lambda: RandomColour(contrast=2), "contrast=2"),
        (lambda: Cutout(0), "size=0"),
        (lambda: Mixup(0.0), "alpha=0.0: give more than 0"),
    ):
        with pytest.raises(ValueError, match=match):
            make()
