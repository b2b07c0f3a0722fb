"""Guidance extrapolates from predictions without a label, in any of their parametrisations."""

import pytest
import torch
from torch import Tensor

from trellis.generative.guidance import Guidance
from trellis.generative.noise_schedule import NoiseSchedule, denoised, prediction_target


def predict(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return x * (y + 1.0).view(-1, 1) + t.view(-1, 1)


def test_it_is_the_formula_of_the_paper() -> None:
    x, t, y = torch.randn(4, 3), torch.rand(4), torch.tensor([0, 1, 2, 0])
    with_label, without = predict(x, t, y), predict(x, t, torch.full_like(y, 3))
    for weight in (0.0, 1.0, 3.0):
        expected = (1 + weight) * with_label - weight * without  # eq. 6
        guided = Guidance(weight).guided(predict, 3)(x, t, y)
        torch.testing.assert_close(guided, expected)


@pytest.mark.parametrize("kind", ["example", "velocity"])
def test_guided_noise_is_guided_in_every_prediction(kind) -> None:
    schedule = NoiseSchedule()
    x, steps = torch.randn(5, 2), torch.tensor([1, 10, 300, 700, 990])
    signal, noise = schedule.scales(steps, x)
    with_label, without = torch.randn(2, 5, 2)

    def other(predicted: Tensor) -> Tensor:
        return prediction_target(
            *denoised(predicted, x, signal, noise, "noise"), signal, noise, kind
        )

    def mixed(of_label: Tensor, of_none: Tensor) -> Tensor:
        table = torch.stack([of_label, of_none])
        call = Guidance(2.0).guided(lambda x, t, y: table[y, torch.arange(10) % 5], 1)
        return call(x, torch.zeros(5), torch.zeros(5, dtype=torch.long))

    in_kind = mixed(other(with_label), other(without))
    found = denoised(in_kind, x, signal, noise, kind).noise
    torch.testing.assert_close(found, mixed(with_label, without), rtol=1e-3, atol=1e-3)


def test_a_share_of_the_labels_is_withheld() -> None:
    torch.manual_seed(0)
    y = torch.arange(10_000) % 4
    told = Guidance(dropout=0.3).withhold(y, 4)
    withheld = told == 4
    assert abs(float(withheld.float().mean()) - 0.3) < 0.02
    assert torch.equal(told[~withheld], y[~withheld])


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight=-1.0"):
        Guidance(-1.0)
    with pytest.raises(ValueError, match=r"dropout=0.0"):
        Guidance(dropout=0.0)
