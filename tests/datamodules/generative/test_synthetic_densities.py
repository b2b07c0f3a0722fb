import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chi2, multivariate_normal
from torch import Tensor

from trellis.datamodules.generative.synthetic_densities import SyntheticDensities

# Components, entropy of the documentation, and a side that holds all but a millionth of it.
KINDS = {
    "moons": (2, 1.008, 2.2),
    "eight_gaussians": (8, -2.907, 2.5),
    "rings": (4, 2.623, 3.7),
    "checkerboard": (8, 3.466, 4.0),
    "pinwheel": (5, 2.321, 5.6),
}
SMALL = {"num_train": 40, "num_val": 9, "num_test": 9, "batch_size": 8}


def drawn(data: SyntheticDensities, split: str = "train") -> tuple[Tensor, Tensor]:
    x, y = zip(*data.loader(split), strict=True)
    return torch.cat(x), torch.cat(y)


def cells(side: float, count: int) -> Tensor:
    """Centres of ``count`` x ``count`` cells of a square, the first coordinate slowest."""
    middle = (torch.arange(count).double() + 0.5) / count * 2 * side - side
    return torch.cartesian_prod(middle, middle)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_integrate_to_one(kind: str) -> None:
    components, _, side = KINDS[kind]
    data = SyntheticDensities(kind, noise=0.1 if kind == "eight_gaussians" else None)
    grid = cells(side, 100)
    area = (2 * side / 100) ** 2
    assert data.log_prob(grid).exp().sum() * area == pytest.approx(1, abs=1e-5)
    for component in range(components):
        y = torch.full((len(grid),), component)
        assert data.log_prob(grid, y).exp().sum() * area == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_points_fall_where_the_density_says(kind: str) -> None:
    """A chi-square test over 40 x 40 cells, each filled with the mean density of 9 points."""
    components, _, side = KINDS[kind]
    noise, count = 0.1 if kind == "eight_gaussians" else None, 60_000
    data = SyntheticDensities(kind, num_train=count, batch_size=20_000, seed=3, noise=noise)
    x, y = drawn(data)
    assert x.abs().max() < side
    edges = np.linspace(-side, side, 41)
    for component in (None, components - 1):
        chosen = x if component is None else x[y == component]
        label = None if component is None else torch.full((120**2,), component)
        density = data.log_prob(cells(side, 120), label).exp().view(40, 3, 40, 3).mean((1, 3))
        expected = density.numpy() * (2 * side / 40) ** 2 * len(chosen)
        observed, _, _ = np.histogram2d(*chosen.numpy().T, bins=edges)
        often = expected > 10
        statistic = ((observed - expected)[often] ** 2 / expected[often]).sum()
        assert often.sum() > 8
        assert chi2.sf(statistic, often.sum()) > 1e-3
        assert observed[~often].sum() == pytest.approx(
            expected[~often].sum(), abs=5 * expected[~often].sum() ** 0.5 + 1e-2
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_entropy_is_the_mean_surprise(kind: str) -> None:
    components, entropy, _ = KINDS[kind]
    data = SyntheticDensities(kind, num_test=10_000)
    x, y = drawn(data, "test")
    marginal, conditional = data.entropy(), data.entropy(conditional=True)
    assert marginal == pytest.approx(entropy, abs=6e-4)
    for ours, label in ((marginal, None), (conditional, y)):
        surprise = -data.log_prob(x, label)
        error = float(surprise.std()) / len(x) ** 0.5
        assert ours == pytest.approx(surprise.mean().item(), abs=4 * error + 1e-5)
    assert marginal - math.log(components) <= conditional + 1e-4
    assert data.log_prob(x).dtype == data.log_prob(x, y).dtype == x.dtype == torch.float32


def test_separate_gaussians_have_the_entropy_of_one_and_of_the_choice() -> None:
    one = math.log(2 * math.pi * math.e * 0.02**2)
    data = SyntheticDensities("eight_gaussians")
    assert data.entropy() == pytest.approx(one + math.log(8), abs=1e-5)
    assert data.entropy(conditional=True) == pytest.approx(one, abs=1e-5)
    assert SyntheticDensities("checkerboard").entropy() == pytest.approx(math.log(32))


def test_eight_gaussians_against_scipy() -> None:
    data = SyntheticDensities("eight_gaussians")
    assert data.scale == 0.02
    assert data.centres is not None
    torch.testing.assert_close(data.centres.norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(torch.pdist(data.centres).min(), torch.tensor(4 * 0.38268343))
    x = data.centres[2].double() + 0.05 * torch.randn(20, 2, generator=torch.manual_seed(0))
    parts = [multivariate_normal(c.tolist(), 0.02**2).pdf(x) for c in data.centres.double()]
    ours = data.log_prob(x).exp().numpy()
    np.testing.assert_allclose(ours, np.mean(parts, axis=0), rtol=1e-4)
    assert SyntheticDensities("moons").centres is None


def arc(x: np.ndarray, centre: np.ndarray, radius: float, span: float, noise: float) -> float:
    """Density at x of a Gaussian whose mean is anywhere on an arc that starts at angle 0."""

    def density(angle: float) -> float:
        place = centre + radius * np.array([math.cos(angle), math.sin(angle)])
        return math.exp(-((x - place) ** 2).sum() / (2 * noise**2)) / (2 * math.pi * noise**2)

    vertical, horizontal = (x - centre)[::-1] * np.sign(radius)
    nearest = min(math.atan2(vertical, horizontal) % (2 * math.pi), span)
    return quad(density, 0, span, points=[nearest], limit=200, epsabs=0)[0] / span


@pytest.mark.parametrize(("kind", "noise"), [("moons", 0.05), ("rings", 0.08), ("rings", 0.5)])
def test_arcs_of_gaussians_against_scipys_quadrature(kind: str, noise: float) -> None:
    data = SyntheticDensities(kind, noise=noise)
    x = 1.5 * torch.randn(6, 2, generator=torch.manual_seed(1), dtype=torch.double)
    arcs = {
        "rings": [(np.zeros(2), 0.75 * i, 2 * math.pi) for i in (1, 2, 3, 4)],
        "moons": [(side * np.array([-0.5, -0.25]), side, math.pi) for side in (1, -1)],
    }
    for point, ours in zip(x.numpy(), data.log_prob(x).tolist(), strict=True):
        parts = [arc(point, *where, noise) for where in arcs[kind]]
        assert ours == pytest.approx(math.log(np.mean(parts)), abs=1e-6)


def test_no_points_between_the_squares() -> None:
    data = SyntheticDensities("checkerboard")
    x = torch.tensor([[-3.0, -3.0], [-3.0, -1.0], [-1.0, -1.0], [5.0, 1.0], [1.0, -3.0]])
    expected = torch.tensor([-math.log(32), -math.inf, -math.log(32), -math.inf, -math.log(32)])
    torch.testing.assert_close(data.log_prob(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_components_are_labels_and_equally_frequent(kind: str) -> None:
    components = KINDS[kind][0]
    data = SyntheticDensities(kind)
    assert data.spec.shape == (2,)
    assert data.spec.out_channels == len(data.spec.classes) == components
    x, y = drawn(data, "test")
    assert (y.bincount() - 20_000 / components).abs().max() < 4 * (20_000 / components) ** 0.5
    x, y = x[:2000], y[:2000]
    given = torch.stack([data.log_prob(x, torch.full_like(y, c)) for c in range(components)])
    likely = given.argmax(0) == y
    assert likely.float().mean() > 0.95


def test_epochs_bring_new_points_and_resume_exactly() -> None:
    def batches(epoch: int, skip: int = 0) -> list[Tensor]:
        loader = SyntheticDensities("rings", seed=4, **SMALL).train_dataloader()
        loader.set_epoch(epoch)
        loader.load_state_dict({"batches": skip})
        return [torch.cat([x, y[:, None]], 1) for x, y in loader]

    first, second = batches(0), batches(1)
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(second[3:]), torch.cat(batches(1, skip=3)))
    assert len(torch.cat([*first, *second])[:, :2].unique(dim=0)) == 80


def test_held_out_points_stay_and_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (SyntheticDensities("moons", seed=seed, **SMALL) for seed in (1, 2))
    for split in ("val", "test"):
        assert torch.equal(drawn(first, split)[0], drawn(second, split)[0])
    assert not torch.equal(drawn(first)[0], drawn(second)[0])
    rows = torch.cat([drawn(first, split)[0] for split in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == 58
    large = SyntheticDensities("moons", seed=1, **{**SMALL, "batch_size": 40})
    assert torch.equal(drawn(first)[0], drawn(large)[0])
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert torch.equal(drawn(first)[0], drawn(SyntheticDensities("moons", **SMALL))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "moon"}, "kind='moon': choose from moons, eight_gaussians, rings, check"),
        ({"noise": 0}, "noise=0: give a standard deviation, more than 0"),
        ({"noise": math.nan}, "noise=nan: give a standard deviation"),
        ({"kind": "pinwheel", "noise": 0.1}, "noise=0.1: leave it out, pinwheel has none"),
        ({"num_train": 0}, "num_train=0: give at least 1"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
    ],
)
def test_arguments_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticDensities(**options)
