import math

import pytest
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, SigmoidTransform

from trellis.generative.bits_per_dim import bits_per_dim

# Two bytes: the first is 10, 20 or 30 with these chances, the second any byte.
CHANCES = {10: 0.5, 20: 0.25, 30: 0.25}


def test_a_discrete_density_by_hand() -> None:
    """The best density of dequantized values is flat in each cell: it reaches the entropy."""
    first = torch.tensor(list(CHANCES))
    k = torch.stack([first, torch.tensor([7, 0, 255])], dim=1)
    x = (k + torch.rand(3, 2, generator=torch.manual_seed(0))) / 256
    density = torch.tensor([256 * chance for chance in CHANCES.values()])  # of the second: 1
    bits = bits_per_dim(density.log(), x, "dequantized")
    torch.testing.assert_close(bits, torch.tensor([(1 + 8) / 2, (2 + 8) / 2, (2 + 8) / 2]))
    chances = torch.tensor(list(CHANCES.values()))
    assert float(chances @ bits) == pytest.approx((1.5 + 8) / 2), "the entropy of a byte"
    # The same bytes as probabilities of levels.
    torch.testing.assert_close(bits_per_dim((chances / 256).log(), k / 255, "unit"), bits)


def test_binary_values_need_no_conversion() -> None:
    log_prob = torch.full((3,), 6 * math.log(0.25))
    bits = bits_per_dim(log_prob, torch.ones(3, 1, 2, 3), "binary")
    torch.testing.assert_close(bits, torch.full((3,), 2.0))


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logits_are_measured_as_the_pixels_they_stand_for(alpha: float) -> None:
    """torch's own change of variables back to x in [0, 1], then as for dequantized values."""
    generator = torch.manual_seed(1)
    x = torch.rand(5, 1, 3, 2, generator=generator, dtype=torch.double)
    logits = torch.logit(alpha + (1 - 2 * alpha) * x)
    of_logits = Normal(torch.tensor(0.3, dtype=torch.double), torch.tensor(2.0).double())
    back = [SigmoidTransform(), AffineTransform(-alpha / (1 - 2 * alpha), 1 / (1 - 2 * alpha))]
    of_pixels = TransformedDistribution(of_logits, back)  # type: ignore[arg-type]
    expected = bits_per_dim(of_pixels.log_prob(x).flatten(1).sum(1), x, "dequantized")
    ours = bits_per_dim(of_logits.log_prob(logits).flatten(1).sum(1), logits, "logit", alpha)
    torch.testing.assert_close(ours, expected)


def test_large_logits_stay_finite() -> None:
    x = torch.tensor([[500.0, -500.0]])
    bits = bits_per_dim(torch.zeros(1), x, "logit")
    torch.testing.assert_close(bits, torch.tensor([8 - 500 / math.log(2)]))


def test_values_without_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="values='real' have no bits per dim.*: choose from unit"):
        bits_per_dim(torch.zeros(2), torch.zeros(2, 3), "real")
    with pytest.raises(ValueError, match=r"log_prob \[2, 1\] does not fit x \[2, 3\]"):
        bits_per_dim(torch.zeros(2, 1), torch.zeros(2, 3), "binary")
