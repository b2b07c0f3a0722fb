"""Values back to pixels against the data modules' own way there, and grids pixel by pixel."""

import math

import pytest
import torch

from trellis.analysis.images import image_grid, image_picture, image_shape, to_pixels
from trellis.datamodules.image.pixels import VALUES, PixelValues
from trellis.spec import TensorSpec

BYTES = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)


def spec(values: str = "unit", size: tuple[int, ...] = (16, 16), channels: int = 1, **options):
    return TensorSpec(channels, 2, size, values=values, **options)


@pytest.mark.parametrize("kind", ["unit", "dequantized", "logit"])
def test_pixels_are_the_bytes_that_values_were_made_of(kind: str) -> None:
    values = PixelValues(kind, alpha=0.05)(BYTES)
    alpha = 0.05 if kind == "logit" else 0.0
    pixels = to_pixels(values[None], spec(VALUES[kind], alpha=alpha))
    noise = 0 if kind == "unit" else 1 / 256  # that of one level
    torch.testing.assert_close(pixels[0], BYTES / 255, atol=noise + 1e-5, rtol=0)
    if kind != "unit":  # dequantised pixels themselves, logits or not
        x = PixelValues("dequantized")(BYTES)
        torch.testing.assert_close(pixels[0], x, atol=1e-5, rtol=0)


def test_bits_stay_and_what_is_outside_is_cut() -> None:
    x = torch.tensor([0.0, 1.0, 0.3, -2.0, 5.0, math.nan, math.inf, -math.inf])
    x = torch.cat([x, x]).view(1, 1, 4, 4)
    expected = torch.tensor([0.0, 1.0, 0.3, 0.0, 1.0, 0.0, 0.0, 0.0])
    for values in ("binary", "unit", "dequantized"):
        pixels = to_pixels(x, spec(values, (4, 4)))
        assert torch.equal(pixels.flatten()[:8], expected)


def test_infinite_logits_are_black_and_white() -> None:
    x = torch.full((1, 1, 4, 4), -math.inf)
    x[0, 0, 0, 0] = math.inf
    pixels = to_pixels(x, spec("logit", (4, 4), alpha=0.01))
    assert pixels[0, 0, 0, 0] == 1
    assert pixels.sum() == 1


def test_real_values_are_stretched_over_all_images() -> None:
    x = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    pixels = to_pixels(x, spec("real", (5, 5)))
    torch.testing.assert_close(pixels, (x - x.min()) / (x.max() - x.min()))
    x[0, 0, 0, 0] = math.nan
    broken = to_pixels(x, spec("real", (5, 5)))
    assert broken[0, 0, 0, 0] == 0
    assert broken.max() == 1, "one that is no number leaves the others visible"
    assert (to_pixels(torch.full((2, 16), 3.0), spec("real", (), 16)) == 0).all()


def test_vectors_of_a_square_number_are_images() -> None:
    assert image_shape(TensorSpec(784, 10)) == (1, 28, 28)
    assert image_shape(TensorSpec(3, 10, (4, 7))) == (3, 4, 7)
    x = torch.rand(2, 64)
    assert torch.equal(to_pixels(x, spec("unit", (), 64)), x.view(2, 1, 8, 8))
    for channels in (2, 9, 10, 783):
        with pytest.raises(ValueError, match=rf"shape \[{channels}\] are not images: .* 784"):
            image_shape(TensorSpec(channels, 10))


def test_a_grid_holds_each_image_in_reading_order() -> None:
    x = torch.rand(5, 3, 4, 6)
    grid = image_grid(x, spec("unit", (4, 6), 3), columns=2, gap=2)
    assert grid.shape == (3, 2 + 3 * (4 + 2), 2 + 2 * (6 + 2))
    mask = torch.ones(grid.shape[1:], dtype=torch.bool)
    for index, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]):
        area = slice(2 + 6 * row, 6 + 6 * row), slice(2 + 8 * column, 8 + 8 * column)
        assert torch.equal(grid[:, area[0], area[1]], x[index])
        mask[area] = False
    assert (grid[:, mask] == 0.5).all()


@pytest.mark.parametrize(
    ("number", "columns", "shape"), [(64, None, (8, 8)), (10, None, (3, 4)), (3, 9, (1, 3))]
)
def test_grids_are_about_square(number: int, columns: int | None, shape: tuple[int, int]) -> None:
    grid = image_grid(torch.zeros(number, 16), spec("unit", (), 16), columns=columns, gap=0)
    assert grid.shape == (1, 4 * shape[0], 4 * shape[1])


def test_a_picture_shows_the_grid() -> None:
    x = torch.rand(4, 3, 4, 6)
    kind = spec("unit", (4, 6), 3)
    [axes] = image_picture(x, kind).axes
    shown = torch.as_tensor(axes.images[0].get_array())
    torch.testing.assert_close(shown, image_grid(x, kind).permute(1, 2, 0))
    assert axes.images[0].get_interpolation() == "nearest"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: to_pixels(torch.zeros(2, 1, 8, 8), spec()), r"x \[2, 1, 8, 8\]: give .*16, 16\]"),
        (lambda: image_grid(torch.zeros(0, 16), spec("unit", (), 16)), "0 images"),
        (lambda: image_grid(torch.zeros(1, 16), spec("unit", (), 16), gap=-1), "gap=-1"),
        (lambda: image_grid(torch.zeros(1, 16), spec("unit", (), 16), columns=0), "columns=0"),
        (lambda: image_picture(torch.zeros(1, 2, 4, 4), spec("unit", (4, 4), 2)), "2 channels"),
    ],
)
def test_what_cannot_be_shown_is_refused(call, match) -> None:
    with pytest.raises(ValueError, match=match):
        call()
