"""Coverage of modes and classes, against counts made by hand."""

import math

import pytest
import torch

from trellis.metrics.coverage import class_coverage, mode_coverage

CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


def around(centres: torch.Tensor, counts: list[int], scale: float = 0.05) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = centres.repeat_interleave(torch.tensor(counts), 0)
    return x + scale * torch.randn(x.shape, generator=generator)


def test_perfect_samples_cover_every_mode() -> None:
    found = mode_coverage(around(CORNERS, [5000] * 4), CORNERS, 0.05)
    assert found.modes == 4
    # Of a Gaussian in the plane, 1 - exp(-9/2) lies within three standard deviations.
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.002)


def test_three_standard_deviations_are_a_distance_not_a_box() -> None:
    x = torch.tensor([[2.9, 0.0], [0.0, -2.99], [3.01, 0.0], [2.9, 2.9]])
    found = mode_coverage(x, torch.zeros(1, 2), 1.0)
    assert found.high_quality == 0.5
    assert mode_coverage(x, torch.zeros(1, 2), 1.0, radius=3.02).high_quality == 0.75


def test_a_quarter_of_the_expected_samples_covers_a_mode() -> None:
    """Of 160 samples each of 4 modes should have 40: 10 are enough, 9 are not."""
    for few, modes in ((10, 4), (9, 3)):
        x = CORNERS.repeat_interleave(torch.tensor([50, 50, 60 - few, few]), 0)
        assert mode_coverage(x, CORNERS, 0.05).modes == modes
    assert mode_coverage(CORNERS[[0] * 99 + [1]], CORNERS, 0.05, least=0).modes == 2


def test_bad_samples_count_for_nothing_but_their_number() -> None:
    x = torch.cat([around(CORNERS, [25, 0, 0, 0], 0.01), torch.zeros(75, 2)])
    found = mode_coverage(x, CORNERS, 0.05)
    assert found == (1, 0.25)
    x = torch.cat([CORNERS[:1].repeat(6, 1), torch.zeros(94, 2)])  # 6 of 100 < 100 / 4 / 4
    assert mode_coverage(x, CORNERS, 0.05).modes == 0


def test_a_smear_over_all_modes_covers_none() -> None:
    """It has a sample near every mode, which is enough for the usual definition."""
    x = 3 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) - 1.5
    assert mode_coverage(x, CORNERS, 0.05, least=0).modes == 4
    assert mode_coverage(x, CORNERS, 0.05).modes == 0


def test_samples_that_are_not_finite_are_near_no_mode() -> None:
    x = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [-1.0, -1.0], [-1.0, -1.0]])
    assert mode_coverage(x, CORNERS, 0.05) == (1, 0.5)


def test_each_mode_may_have_its_scale() -> None:
    x = CORNERS + torch.tensor([0.5, 0.0])
    found = mode_coverage(x, CORNERS, torch.tensor([0.1, 0.2, 0.3, 0.01]))
    assert found == (2, 0.5)


@pytest.mark.parametrize(
    ("x", "centres", "options", "match"),
    [
        (torch.zeros(3, 3), CORNERS, {}, r"x \[3, 3\] does not fit centres \[4, 2\]"),
        (torch.zeros(0, 2), CORNERS, {}, "0 samples and 4 centres"),
        (CORNERS, CORNERS[:0], {}, "4 samples and 0 centres"),
        (CORNERS, CORNERS, {"scale": 0.0}, "scale=0.0: give a positive"),
        (CORNERS, CORNERS, {"scale": torch.ones(3)}, "one for each mode"),
        (CORNERS, CORNERS, {"radius": 0.0}, "radius=0.0"),
        (CORNERS, CORNERS, {"least": 2.0}, "least=2.0"),
    ],
)
def test_what_cannot_be_counted_is_refused(x, centres, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        mode_coverage(x, centres, **{"scale": 0.05, **options})


def test_classes_and_the_largest_factor() -> None:
    shares = torch.tensor([40.0, 40.0, 20.0])  # counts will do
    exact = torch.tensor([0] * 4 + [1] * 4 + [2] * 2)
    assert class_coverage(exact, shares) == (3, 1.0)
    half = torch.tensor([0] * 6 + [1] * 2 + [2] * 2)  # 1.5 times and half its share
    assert class_coverage(half, shares) == (3, pytest.approx(2.0))
    twice = torch.tensor([0] * 3 + [1] * 3 + [2] * 4)
    assert class_coverage(twice, shares).ratio == pytest.approx(2.0)
    assert class_coverage(torch.zeros(9, dtype=torch.long), shares) == (1, math.inf)


def test_a_class_counts_from_a_quarter_of_its_share() -> None:
    shares = torch.tensor([9, 1])
    labels = torch.zeros(400, dtype=torch.long)
    for few, classes in ((10, 2), (9, 1)):
        labels[:few] = 1
        assert class_coverage(labels, shares).classes == classes
        labels[:few] = 0


def test_a_class_of_neither_samples_nor_data_is_ignored() -> None:
    shares = torch.tensor([0.5, 0.0, 0.5])
    assert class_coverage(torch.tensor([0, 2]), shares) == (2, 1.0)
    assert class_coverage(torch.tensor([0, 1, 2, 0]), shares).ratio == math.inf


@pytest.mark.parametrize(
    ("labels", "shares", "match"),
    [
        (torch.tensor([], dtype=torch.long), torch.ones(2), "N > 0"),
        (torch.tensor([0.0]), torch.ones(2), "torch.float32: give integers"),
        (torch.tensor([2]), torch.ones(2), r"lie in \[2, 2\], shares are of 2 classes"),
        (torch.tensor([0]), torch.tensor([1.0, -1.0]), "not negative"),
        (torch.tensor([0]), torch.zeros(2), "shares="),
    ],
)
def test_labels_and_shares_must_fit(labels, shares, match) -> None:
    with pytest.raises(ValueError, match=match):
        class_coverage(labels, shares)
