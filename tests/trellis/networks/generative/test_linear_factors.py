"""Linear factors: densities and codes as scikit-learn's and dense Gaussians'; recovery."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import decomposition
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from trellis.networks.generative import ICA, FactorAnalysis, SparseCoding
from trellis.optim import MatrixDecayLBFGS


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def correlated(num_examples: int = 300) -> Tensor:
    """Three factors in eight entries, each with a noise of its own."""
    z, scale = torch.randn(num_examples, 3), torch.linspace(0.2, 1.0, 8)
    return (z @ torch.randn(3, 8) + scale * torch.randn(num_examples, 8) + 2).double()


def fit(
    network: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, max_iter: int = 500
) -> None:
    network.double()
    optimizer = MatrixDecayLBFGS(network.parameters(), max_iter=max_iter)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        return value

    optimizer.step(closure)


def test_a_density_is_that_of_the_dense_gaussian() -> None:
    network = FactorAnalysis((2, 3), latent_dim=2).double()
    torch.nn.init.normal_(network.mean)
    torch.nn.init.normal_(network.noise)
    covariance = network.weight @ network.weight.T + network.variance.diag()
    x = torch.randn(5, 2, 3).double()
    expected = MultivariateNormal(network.mean, covariance)
    torch.testing.assert_close(network(x), expected.log_prob(x.flatten(1)))
    regression = network.weight.T @ torch.linalg.inv(covariance)
    found = network.encode(x)
    torch.testing.assert_close(found, (x.flatten(1) - network.mean) @ regression.T)
    samples = network.sample(50_000, generator=torch.Generator().manual_seed(1)).flatten(1)
    torch.testing.assert_close(samples.T.cov(), covariance.detach(), rtol=0.05, atol=0.15)
    torch.testing.assert_close(samples.mean(0), network.mean.detach(), rtol=0, atol=0.1)


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_likeliest_is_that_of_scikit_learn(isotropic: bool) -> None:
    x, test = correlated(), correlated()
    network = FactorAnalysis((8,), latent_dim=3, isotropic=isotropic)
    fit(network, lambda x: -network(x).mean(), x)
    covariance = (network.weight @ network.weight.T + network.variance.diag()).detach()
    if isotropic:
        reference = decomposition.PCA(3).fit(x.numpy())
        # scikit-learn divides by n - 1, the likeliest covariance by n.
        expected = reference.get_covariance() * (len(x) - 1) / len(x)
        assert float(network(x).mean()) >= reference.score(x.numpy())
    else:
        reference = decomposition.FactorAnalysis(3, tol=1e-8, max_iter=20_000).fit(x.numpy())
        expected = reference.get_covariance()
        assert float(network(test).mean()) == pytest.approx(reference.score(test), abs=1e-3)
        # Up to a rotation of the factors: distances between codes are the same.
        codes = torch.tensor(reference.transform(test))
        found = torch.cdist(network.encode(test), network.encode(test))
        torch.testing.assert_close(found, torch.cdist(codes, codes), rtol=0, atol=1e-3)
    torch.testing.assert_close(covariance, torch.tensor(expected), rtol=0, atol=1e-3)


def test_likelihoods_of_examples_in_a_plane_are_bounded() -> None:
    network = FactorAnalysis((8,), latent_dim=3)
    x = correlated(2)
    fit(network, lambda x: -network(x).mean(), x, max_iter=50)
    assert network(x).isfinite().all()
    assert 1e-4 <= network.variance.min() < 1e-3


def test_independent_sources_are_found_as_by_fast_ica() -> None:
    sources = torch.distributions.Laplace(0.0, 1.0).sample((4000, 4)).double()
    mixing = torch.randn(4, 4).double()
    x = sources @ mixing.T + 1
    network = ICA((4,))
    fit(network, lambda x: -network(x).mean(), x)
    reference = decomposition.FastICA(4, whiten="unit-variance", random_state=0).fit(x.numpy())

    def unmixed(weight: Tensor) -> float:
        """Amari's distance of a matrix from a scaled permutation, 0 to 1."""
        found = (weight @ mixing).abs()
        rows, columns = (found / found.amax(dim, keepdim=True) for dim in (1, 0))
        return float((rows.sum() + columns.sum() - 8) / (2 * 4 * 3))

    ours, theirs = unmixed(network.weight.detach()), unmixed(torch.tensor(reference.components_))
    assert ours < 0.03
    assert ours < 1.2 * theirs
    codes = torch.tensor(reference.transform(x.numpy()))
    between = np.abs(np.corrcoef(network.encode(x).detach().T, codes.T)[:4, 4:])
    assert (between.max(1) > 0.999).all()


def test_densities_of_ica_are_those_of_its_sources() -> None:
    network = ICA((2,)).double()
    network.weight.data = torch.tensor([[1.0, 0.5], [-0.3, 0.8]]).double()
    torch.nn.init.normal_(network.mean)
    grid = torch.linspace(-40, 40, 1001).double()
    x = torch.cartesian_prod(grid, grid)
    assert float(network(x).exp().sum() * 0.08**2) == pytest.approx(1, abs=1e-2)
    s = network.encode(x[:3])
    density = 1 / (math.pi * s.cosh()).prod(1) * torch.linalg.det(network.weight).abs()
    torch.testing.assert_close(network(x[:3]).exp(), density)
    samples = network.sample(100_000, generator=torch.Generator().manual_seed(0))
    # The variance of a source is pi^2 / 4.
    torch.testing.assert_close(
        network.encode(samples).T.cov(), torch.eye(2).double() * math.pi**2 / 4, rtol=0, atol=0.05
    )


def test_the_gradient_of_a_dictionary_is_that_of_the_least_energy() -> None:
    network = SparseCoding((6,), num_atoms=9, penalty=0.3, num_steps=1000).double()
    x = torch.randn(4, 6).double()

    def energy() -> Tensor:
        code = network.encode(x)
        return (x - network.decode(code)).square().sum() / 2 + 0.3 * code.abs().sum()

    energy().backward()
    weight, step = network.weight, 1e-5
    for k, d in ((0, 0), (3, 4), (8, 2)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[k, d] += sign * step
                values.append(float(energy()))
                weight[k, d] -= sign * step
        expected = (values[0] - values[1]) / (2 * step)
        assert float(weight.grad[k, d]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_dictionary_is_as_good_as_that_of_scikit_learn() -> None:
    true = nn.functional.normalize(torch.randn(12, 8)).double()
    x = (torch.randn(200, 12) * (torch.rand(200, 12) < 0.2)).double() @ true
    network = SparseCoding((8,), num_atoms=12, penalty=0.1, num_steps=50).double()

    def energy(code: Tensor, atoms: Tensor) -> Tensor:
        return ((x - code @ atoms).square().sum() / 2 + 0.1 * code.abs().sum()) / len(x)

    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        energy(network.encode(x), network.atoms).backward()
        optimizer.step()
    reference = decomposition.DictionaryLearning(
        12, alpha=0.1, fit_algorithm="cd", max_iter=10, random_state=0
    ).fit(x.numpy())
    atoms = torch.tensor(reference.components_)
    codes = decomposition.sparse_encode(x.numpy(), atoms.numpy(), algorithm="lasso_cd", alpha=0.1)
    ours = energy(network.encode(x), network.atoms)
    assert float(ours) < 1.05 * float(energy(torch.tensor(codes), atoms))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="latent_dim=4: give at most 3"):
        FactorAnalysis((3,), latent_dim=4)
    with pytest.raises(ValueError, match="penalty=-0.1"):
        SparseCoding((3,), penalty=-0.1)
    for network in (FactorAnalysis((3,)), ICA((3,)), SparseCoding((3,), num_atoms=4)):
        with pytest.raises(ValueError, match=r"x.*\[B, 3\]"):
            network(torch.zeros(2, 4))
