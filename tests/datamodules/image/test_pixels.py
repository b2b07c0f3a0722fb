import math
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from trellis.datamodules.image.pixels import VALUES, PixelValues


def every_byte(count: int) -> Tensor:
    """``[count, 256]``, each row all bytes."""
    return torch.arange(256, dtype=torch.uint8).expand(count, 256)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_bits_are_ones_as_often_as_the_pixel_is_bright(kind: Any) -> None:
    bits = PixelValues(kind)(every_byte(4000), 0)
    assert bits.dtype == torch.float32
    assert ((bits == 0) | (bits == 1)).all()
    share, chance = bits.mean(0), torch.arange(256) / 255
    error = (chance * (1 - chance) / 4000).sqrt()
    assert ((share - chance).abs() <= 4.5 * error).all(), "0 and 255 leave nothing to chance"
    assert (share - chance).mean().abs() < 4 * error.mean() / 16
    neighbours = (bits[:-1] - chance) * (bits[1:] - chance)
    assert neighbours.mean().abs() < 4 * neighbours.std() / neighbours.numel() ** 0.5


def test_dequantized_pixels_fill_their_cell_evenly() -> None:
    k = every_byte(200)
    x = PixelValues("dequantized")(k, 3)
    assert ((x >= k / 256) & (x < (k.float() + 1) / 256)).all()
    inside = (x.double() * 256 - k).flatten()
    assert kstest(inside.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logits_are_the_dequantized_pixels_squeezed(alpha: float) -> None:
    k = every_byte(20)
    logits = PixelValues("logit", alpha, seed=5)(k, 1, 2)
    assert logits.isfinite().all()
    x = PixelValues("dequantized", seed=5)(k, 1, 2)
    back = (logits.double().sigmoid() - alpha) / (1 - 2 * alpha)
    torch.testing.assert_close(back, x.double(), atol=1e-6, rtol=0)
    assert logits.abs().max() <= math.log((1 - alpha) / alpha) * (1 + 1e-3)


def test_unit_pixels_are_bytes_over_255() -> None:
    assert torch.equal(PixelValues("unit")(every_byte(1))[0], torch.arange(256) / 255)


@pytest.mark.parametrize("kind", ["static", "dynamic", "dequantized", "logit"])
def test_values_are_a_function_of_seed_and_place(kind: Any) -> None:
    k = every_byte(8)
    ours = PixelValues(kind, seed=1)
    torch.manual_seed(0)
    first = ours(k, 2, 40)
    torch.manual_seed(1)
    assert torch.equal(first, ours(k, 2, 40)), "the global generator has no say"
    assert not torch.equal(first, ours(k, 3, 40))
    assert not torch.equal(first, ours(k, 2, 41))
    assert not torch.equal(first, ours(k, 40, 2))
    assert not torch.equal(first, PixelValues(kind, seed=2)(k, 2, 40))


def test_the_spec_knows_what_each_kind_gives() -> None:
    assert VALUES == {
        "unit": "unit",
        "static": "binary",
        "dynamic": "binary",
        "dequantized": "dequantized",
        "logit": "logit",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "bits"}, "pixels='bits': choose from unit, static, dynamic, dequantized, logit"),
        ({"kind": "normalized"}, "pixels='normalized': choose from unit"),
        ({"kind": "logit", "alpha": 0.0}, "alpha=0.0: give more than 0 and less than 0.5"),
        ({"kind": "logit", "alpha": 0.5}, "alpha=0.5: give more than 0 and less than 0.5"),
        ({"kind": "logit", "alpha": math.nan}, "alpha=nan: give more than 0"),
    ],
)
def test_arguments_are_checked_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelValues(**options)
