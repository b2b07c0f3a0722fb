"""Pictures of the plane, read back from the figures."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from trellis.analysis.pictures import PALETTE
from trellis.analysis.points import density_picture, flow_grid_picture, scatter_picture

NORMAL = torch.distributions.MultivariateNormal(
    torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.6], [0.6, 0.5]])
)


def test_every_finite_point_is_a_dot_of_its_colour() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0], [math.nan, 0.0], [4.0, -5.0]])
    axes = scatter_picture(x, torch.tensor([0, 1, 1, 9])).axes[0]
    [dots] = axes.collections
    assert dots.get_offsets().tolist() == [[0, 1], [2, 3], [4, -5]]
    colours = [to_rgb(colour) for colour in (PALETTE[0], PALETTE[1], PALETTE[9 % len(PALETTE)])]
    np.testing.assert_allclose(dots.get_facecolors()[:, :3], colours)
    assert axes.get_title() == "4 points, 1 of them not finite"
    assert scatter_picture(x[:2]).axes[0].get_title() == "2 points"


def test_a_density_stands_at_its_place_and_adds_up_to_one() -> None:
    torch.manual_seed(0)
    x = NORMAL.sample((4000,))
    figure = density_picture(NORMAL.log_prob, x, resolution=150)
    left, right = figure.axes[:2]
    shown = torch.as_tensor(left.images[0].get_array())
    assert left.images[0].origin == "lower"
    x0, x1, y0, y1 = left.images[0].get_extent()
    row, column = divmod(int(shown.argmax()), 150)
    place = x0 + (column + 0.5) * (x1 - x0) / 150, y0 + (row + 0.5) * (y1 - y0) / 150
    np.testing.assert_allclose(place, [1.0, -2.0], atol=0.05)
    area = (x1 - x0) * (y1 - y0) / 150**2
    assert float(shown.sum() * area) == pytest.approx(1, abs=0.005)
    assert f"{float(shown.sum() * area):.3f} of it" in left.get_title()
    assert x0 < float(x[:, 0].min()) < float(x[:, 0].max()) < x1
    np.testing.assert_allclose(right.collections[0].get_offsets(), x)


def test_a_density_is_not_transposed() -> None:
    """All mass at large first and small second coordinates: at the lower right."""
    x = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    corner = torch.tensor([9.0, 1.0])
    figure = density_picture(lambda p: -(p - corner).square().sum(1), x, resolution=20)
    shown = torch.as_tensor(figure.axes[0].images[0].get_array())
    row, column = divmod(int(shown.argmax()), 20)
    assert row < 5
    assert column > 14


def test_a_grid_is_bent_by_its_map() -> None:
    turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]])
    figure = flow_grid_picture(lambda x: x @ turn.T + 1, reach=2.0, lines=5)
    before, after = figure.axes
    assert len(before.lines) == len(after.lines) == 10
    for a, b in zip(before.lines, after.lines, strict=True):
        expected = torch.as_tensor(a.get_xydata(), dtype=torch.float32) @ turn.T + 1
        np.testing.assert_allclose(b.get_xydata(), expected, atol=1e-5)
        assert a.get_color() == b.get_color()
    ends = np.concatenate([line.get_xydata() for line in before.lines])
    assert ends.min() == -2
    assert ends.max() == 2
    across = [np.ptp(line.get_xydata(), axis=0).tolist() for line in before.lines]
    assert across == [[0, 4]] * 5 + [[4, 0]] * 5


@pytest.mark.parametrize("x", [torch.zeros(3, 3), torch.zeros(2), torch.zeros(0, 2)])
def test_points_lie_in_the_plane(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="give points in the plane"):
        scatter_picture(x)
    with pytest.raises(ValueError, match="give points in the plane"):
        density_picture(NORMAL.log_prob, x)
