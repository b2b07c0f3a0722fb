"""Sparse codes: equal to scikit-learn's, the order of convergence, bad input."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import sparse_encode
from torch import Tensor

from trellis.generative import fista, ista

PENALTY = 0.3


def problem() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(20, 8).double(), F.normalize(torch.randn(16, 8)).double()


def energy(code: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
    return (x - code @ atoms).square().sum(1) / 2 + PENALTY * code.abs().sum(1)


@pytest.mark.parametrize(("method", "num_steps"), [(ista, 3000), (fista, 500)])
def test_codes_are_those_of_coordinate_descent(
    method: Callable[..., Tensor], num_steps: int
) -> None:
    x, atoms = problem()
    expected = sparse_encode(
        x.numpy(), atoms.numpy(), algorithm="lasso_cd", alpha=PENALTY, max_iter=10_000
    )
    found = method(x, atoms, PENALTY, num_steps)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-3)
    assert 0.2 < (found == 0).float().mean() < 0.9


def test_energies_fall_and_faster_with_momentum() -> None:
    x, atoms = problem()
    least = energy(fista(x, atoms, PENALTY, 2000), x, atoms).sum()
    plain = [energy(ista(x, atoms, PENALTY, n), x, atoms).sum() - least for n in (1, 5, 20, 80)]
    assert all(after < before for before, after in zip(plain, plain[1:], strict=False))
    fast = energy(fista(x, atoms, PENALTY, 80), x, atoms).sum() - least
    assert 0 <= fast < plain[-1] / 3
    # Beck and Teboulle 2009, theorem 4.4: 2 L |h*|^2 / (n + 1)^2.
    largest = torch.linalg.matrix_norm(atoms, ord=2).square()
    bound = 2 * largest * fista(x, atoms, PENALTY, 2000).square().sum() / 81**2
    assert fast <= bound


def test_what_does_not_fit_is_refused() -> None:
    x, atoms = problem()
    with pytest.raises(ValueError, match="penalty=-1"):
        ista(x, atoms, -1)
    with pytest.raises(ValueError, match="num_steps=0"):
        fista(x, atoms, 1.0, 0)
    with pytest.raises(ValueError, match=r"atoms \[16, 7\]"):
        fista(x, atoms[:, 1:], 1.0)
