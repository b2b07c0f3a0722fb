"""Windows, noise and loss of skip-gram against loops and closed forms."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from trellis.functional.skip_gram import Noise, context_windows, skip_gram_loss


def pairs_of(center: Tensor, context: Tensor) -> Counter:
    rows = zip(center.tolist(), context.tolist(), strict=True)
    return Counter((c, o) for c, row in rows for o in row if o >= 0)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_windows_are_the_pairs_of_a_double_loop(window: int) -> None:
    sequences = torch.tensor([[3, 1, 4, 1, 5], [9, 2, -1, -1, -1], [6, -1, -1, -1, -1]])
    expected: Counter = Counter()
    for row in sequences.tolist():
        row = [each for each in row if each >= 0]
        for i, c in enumerate(row):
            expected.update((c, o) for j, o in enumerate(row) if 0 < abs(i - j) <= window)
    center, context = context_windows(sequences, window)
    assert pairs_of(center, context) == expected
    assert len(center) == 7  # 6 stands alone


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window=0: give at least 1"):
        context_windows(torch.ones(1, 3, dtype=torch.long), 0)


def test_noise_has_the_frequencies_to_the_power() -> None:
    counts = torch.tensor([16, 0, 81, 1])
    drawn = Noise(counts).draw(400, 100, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (400, 100)
    shares = drawn.flatten().bincount(minlength=4) / drawn.numel()
    expected = torch.tensor([8.0, 0, 27, 1]) / 36  # 16^.75 = 8, 81^.75 = 27
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    assert shares[1] == 0
    flat = Noise(counts, power=0).draw(40_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        flat.bincount(minlength=4) / 40_000, torch.full((4,), 0.25), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("counts", [[], [0, 0], [3, -1]])
def test_noise_of_nothing_is_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="counts: give none below 0, and one above it"):
        Noise(torch.tensor(counts, dtype=torch.long))


def test_loss_is_that_of_the_paper_pair_by_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    positive, negative = (torch.randn(6, n, generator=generator) for n in (4, 3))
    present = torch.rand(6, 4, generator=generator) < 0.6

    def sigmoid(z: Tensor) -> float:
        return 1 / (1 + math.exp(-float(z)))

    terms = [
        -math.log(sigmoid(positive[b, m])) - sum(math.log(sigmoid(-z)) for z in negative[b])
        for b, m in present.nonzero().tolist()
    ]
    found = skip_gram_loss(positive, negative, present)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_its_minimum_is_the_shifted_pointwise_mutual_information() -> None:
    """Levy and Goldberg 2014, eq. 8: u v = ln(#(c, o) |D| / (#(c) #(o))) - ln k, with k draws."""
    counts = torch.tensor([[6.0, 2.0], [1.0, 3.0]])  # of pairs (c, o)
    noise = counts.sum(0) / counts.sum()
    logits = torch.zeros(2, 2, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.zeros((), dtype=torch.double)
        for c in range(2):
            for o in range(2):
                # The expectation over 5 negatives, which are 0 or 1.
                for k, share in enumerate(noise):
                    present = torch.ones(1, 1, dtype=torch.bool)
                    z = logits[c, k].view(1, 1).expand(1, 5)
                    loss = loss + counts[c, o] * share * skip_gram_loss(
                        logits[c, o].view(1, 1), z, present
                    )
        loss.backward()
        return loss

    optimizer.step(closure)
    mutual = (counts * counts.sum() / (counts.sum(1, keepdim=True) * counts.sum(0))).log()
    torch.testing.assert_close(logits.detach().float(), mutual - math.log(5), atol=1e-3, rtol=0)
