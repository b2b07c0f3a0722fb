import math

import pytest
import torch

from trellis.datamodules.vector.synthetic_points import SyntheticPoints
from trellis.spec import TensorSpec

KINDS = {"moons": 2, "rings": 2, "xor": 2, "spirals": 3}


def ready(kind: str, **options) -> SyntheticPoints:
    data = SyntheticPoints(kind, **options)
    data.setup()
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_balanced_and_splits_cover_all(kind: str) -> None:
    data = ready(kind, num_examples=300, batch_size=25)
    assert data.spec.in_channels == 2
    assert data.spec.out_channels == KINDS[kind]
    assert data.y.bincount().tolist() == [300 // KINDS[kind]] * KINDS[kind]
    parts = [torch.cat([x for x, _ in data.loader(s)]) for s in ("train", "val", "test")]
    assert [len(part) for part in parts] == [180, 60, 60]
    assert torch.equal(
        torch.cat(parts).sort(0).values,
        data.x.sort(0).values,
    )


@pytest.mark.parametrize("kind", [*KINDS, "plane", "saddle"])
def test_the_seed_draws_the_points(kind: str) -> None:
    first, again, other = (ready(kind, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x)
    first.setup("test")
    assert torch.equal(first.x, again.x), "a second setup draws the same points"


def test_rings_without_noise_are_circles() -> None:
    data = ready("rings", noise=0)
    torch.testing.assert_close(data.x.norm(dim=1), 1.0 + data.y)
    assert data.x.mean(0).abs().max() < 0.1


def test_xor_without_noise_is_the_sign_of_the_product() -> None:
    data = ready("xor", noise=0)
    assert torch.equal(data.x.prod(1) < 0, data.y == 1)
    quadrants = (data.x > 0).long() @ torch.tensor([2, 1])
    assert quadrants.bincount().min() > 200


def test_moons_without_noise_are_half_circles_that_interlock() -> None:
    data = ready("moons", noise=0)
    sign = 1 - 2 * data.y.float()[:, None]
    from_centre = sign * data.x - torch.tensor([-0.5, -0.25])
    torch.testing.assert_close(from_centre.norm(dim=1), torch.ones(1000))
    assert from_centre[:, 1].min() >= -1e-6
    upper, lower = data.x[data.y == 0], data.x[data.y == 1]
    assert upper[:, 1].min() < lower[:, 1].max()
    assert upper[:, 0].max() > lower[:, 0].min()


def test_spirals_without_noise_turn_as_they_widen() -> None:
    data = ready("spirals", noise=0)
    place = (data.x.norm(dim=1) - 0.2) / 1.8
    angle = torch.atan2(data.x[:, 1], data.x[:, 0]) - 2 * math.pi / 3 * 2 * place
    turned = (angle / (2 * math.pi / 3) - data.y) % 3
    assert torch.minimum(turned, 3 - turned).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_the_standard_deviation_of_the_coordinates(kind: str) -> None:
    clean, noisy = ready(kind, noise=0), ready(kind, noise=0.3)
    assert (noisy.x - clean.x).std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_no_straight_line_separates_the_classes_but_neighbours_do(kind: str) -> None:
    data = ready(kind, noise=0.05)
    y, inputs = data.y, torch.cat([data.x, torch.ones(1000, 1)], dim=1)
    targets = torch.nn.functional.one_hot(y).float()
    linear = (inputs @ torch.linalg.lstsq(inputs, targets).solution).argmax(1)
    assert (linear == y).float().mean() < 0.9
    distance = torch.cdist(data.x, data.x).fill_diagonal_(torch.inf)
    assert (y[distance.argmin(1)] == y).float().mean() > 0.95


def least_squares(data: SyntheticPoints) -> torch.Tensor:
    """Intercept and both slopes."""
    inputs = torch.cat([torch.ones(len(data.x), 1), data.x], dim=1)
    return torch.linalg.lstsq(inputs, data.y[:, None]).solution[:, 0]


@pytest.mark.parametrize("kind", ["plane", "saddle"])
def test_real_targets_have_noise_and_points_have_none(kind: str) -> None:
    clean, noisy = ready(kind, noise=0), ready(kind, noise=0.3)
    assert clean.spec == TensorSpec(2, 1, targets="real")
    assert torch.equal(clean.x, noisy.x)
    assert clean.x.aminmax() == (pytest.approx(-2, abs=0.02), pytest.approx(2, abs=0.02))
    assert (noisy.y - clean.y).std() == pytest.approx(0.3, rel=0.05)
    assert [len(part) for part in noisy.splits.values()] == [600, 200, 200]


def test_a_plane_is_linear_and_a_saddle_is_not() -> None:
    torch.testing.assert_close(least_squares(ready("plane", noise=0)), torch.tensor([1.0, 2, -1]))
    saddle = ready("saddle", noise=0)
    torch.testing.assert_close(saddle.y, saddle.x[:, 0] * saddle.x[:, 1])
    assert least_squares(saddle).abs().max() < 0.1
    assert saddle.y.std() == pytest.approx(4 / 3, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "moon"}, "kind='moon': choose from moons, rings, xor, spirals, plane, saddle"),
        ({"num_examples": 9}, "num_examples=9: give at least 10"),
        ({"noise": -0.1}, "noise=-0.1: give a standard deviation"),
        ({"noise": math.nan}, "noise=nan: give a standard deviation"),
    ],
)
def test_arguments_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticPoints(**options)
