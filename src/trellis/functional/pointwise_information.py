"""What words tell about each other, from counts of pairs, and its singular vectors.

Legend: P pairs, V words, D dimensions.
"""

import torch
from torch import Tensor

from trellis.functional.skip_gram import PairCounts


def positive_information(
    pairs: PairCounts, num_tokens: int, *, shift: float = 1.0, smoothing: float = 1.0
) -> Tensor:
    r"""Positive pointwise mutual information of words and contexts, as a sparse matrix.

    .. math:: \max\Bigl(0, \ln \frac{p(i, j)}{p(i)\, p_\alpha(j)} - \ln k\Bigr), \quad
        p_\alpha(j) \propto \Bigl(\sum_i X_{ij}\Bigr)^\alpha

    Args:
        pairs: X, each pair once, in order.
        num_tokens: V.
        shift: k, at least 1: as many negatives as it would be for skip-gram.
        smoothing: alpha; 1 for the plain definition.
    Shape:
        ``[P]`` -> ``[V, V]``, with explicit zeros

    Source: Levy et al. 2015, sections 2.2, 3.1 and 3.2.

    >>> places = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    >>> pairs = PairCounts(*places, torch.tensor([1.0, 2.0, 2.0]))
    >>> positive_information(pairs, 2).to_dense()  # ln(5 / 3)
    tensor([[0.0000, 0.5108],
            [0.5108, 0.0000]])
    """
    center, context, counts = pairs
    counts = counts.float()
    rows, columns = (
        counts.new_zeros(num_tokens).index_add_(0, ids, counts) for ids in (center, context)
    )
    contexts = columns**smoothing
    contexts = contexts / contexts.sum()
    # p(i, j) / p(i) is the share of the context in its row.
    ratio = counts / rows[center] / contexts[context] / shift
    places = torch.stack([center, context])
    return torch.sparse_coo_tensor(
        places,
        ratio.log().clamp(min=0),
        (num_tokens, num_tokens),
        check_invariants=False,
        is_coalesced=True,
    )


def subspace_iteration(matrix: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    r"""One step towards the factors of a matrix by its largest singular values.

    .. math:: M \approx (U \sqrt S)(V \sqrt S)^\top

    Args:
        matrix: M, sparse or dense.
        start: whose columns span the left singular vectors so far.
    Returns:
        the factors; the sign of each column is such that its largest entry in the first one is
        positive, so that iterates converge.
    Shape:
        ``[V, V]``, ``[V, D]`` -> ``[V, D]``, ``[V, D]``

    Source: Halko et al. 2011, algorithms 4.4 and 5.1.
    """
    right = torch.linalg.qr(matrix.t() @ torch.linalg.qr(start).Q).Q
    left, values, turn = torch.linalg.svd(matrix @ right, full_matrices=False)
    right = right @ turn.t()
    largest = left.abs().argmax(0, keepdim=True)
    scale = values.sqrt() * left.gather(0, largest).sign()
    return left * scale, right * scale
