"""PPMI against its definition on dense numbers, its factors against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds
from sklearn.decomposition import TruncatedSVD

from trellis.functional.pointwise_information import positive_information, subspace_iteration
from trellis.functional.skip_gram import PairCounts
from trellis.sequence.cooccurrence import cooccurrence_counts

GENERATOR = torch.Generator().manual_seed(0)
# Some of 12 words are more frequent.
IDS = (torch.randint(24, (400,), generator=GENERATOR).square() // 24).unique(return_inverse=True)[
    1
]
IDS = IDS.clamp(max=11)
LINES = torch.arange(400) // 9


def counted(weighting: str = "harmonic") -> np.ndarray:
    return cooccurrence_counts(IDS, LINES, 12, window=3, weighting=weighting).toarray()


@pytest.mark.parametrize("weighting", ["flat", "linear", "harmonic"])
def test_counts_are_those_of_a_double_loop(weighting: str) -> None:
    expected = np.zeros((12, 12))
    for i in range(400):
        for j in range(max(0, i - 3), min(400, i + 4)):
            distance = abs(i - j)
            if distance and LINES[i] == LINES[j]:
                weights = {"flat": 1, "linear": (4 - distance) / 3, "harmonic": 1 / distance}
                expected[IDS[i], IDS[j]] += weights[weighting]
    np.testing.assert_allclose(counted(weighting), expected)
    assert (expected == 0).any()


def pairs_of(dense: np.ndarray) -> PairCounts:
    places = torch.from_numpy(np.stack(dense.nonzero()))
    return PairCounts(*places, torch.from_numpy(dense[dense > 0]))


@pytest.mark.parametrize(("shift", "smoothing"), [(1.0, 1.0), (1.5, 0.75)])
def test_information_is_that_of_a_dense_computation(shift: float, smoothing: float) -> None:
    x = counted()
    joint, word = x / x.sum(), x.sum(1, keepdims=True) / x.sum()
    context = x.sum(0) ** smoothing / (x.sum(0) ** smoothing).sum()
    with np.errstate(divide="ignore"):
        dense = np.maximum(0, np.log(joint / (word * context)) - np.log(shift))
    found = positive_information(pairs_of(x), 12, shift=shift, smoothing=smoothing)
    np.testing.assert_allclose(found.to_dense().numpy(), dense, atol=1e-5)
    assert 0 < (dense > 0).mean() < 0.8


def test_iterates_converge_to_the_singular_vectors() -> None:
    matrix = positive_information(pairs_of(counted()), 12)
    start = torch.rand(12, 3, generator=torch.Generator().manual_seed(1))
    center = start
    for _ in range(60):
        center, context = subspace_iteration(matrix, center)
    dense = matrix.to_dense().numpy()
    left, values, right = svds(dense, k=3)
    np.testing.assert_allclose((center @ context.t()).numpy(), left * values @ right, atol=1e-3)
    # scikit-learn's vectors are U S: the same ones with another exponent.
    theirs = TruncatedSVD(3, algorithm="arpack", random_state=0).fit(dense)
    np.testing.assert_allclose(center.square().sum(0).numpy(), theirs.singular_values_, rtol=1e-3)
    ours = (center * center.square().sum(0).sqrt()).numpy()
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs.transform(dense)), atol=1e-2)
    again, _ = subspace_iteration(matrix, center)
    torch.testing.assert_close(again, center, atol=1e-3, rtol=0)
