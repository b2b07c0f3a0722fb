"""How often words stand near each other.

Legend: S words of a text, V words of the vocabulary. Matrices are sparse ones of scipy.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from trellis.checks import at_least_one, choose_from

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Weighting = Literal["flat", "linear", "harmonic"]


def cooccurrence_counts(
    ids: Tensor, lines: Tensor, num_tokens: int, *, window: int, weighting: Weighting = "harmonic"
) -> "csr_array":
    r"""How often each pair of words stands at most ``window`` places apart, in one line.

    .. math:: X_{ij} = \sum_{d=1}^{\text{window}} w_d \, \#(i, j \text{ at the distance } d),
        \quad w_d = 1, \; 1 - \frac{d - 1}{\text{window}}, \; \frac 1 d

    Args:
        ids: of the text.
        lines: the line of each word.
        num_tokens: V.
        window: places to either side.
        weighting: ``flat``, ``linear`` (windows of random size in expectation) or ``harmonic``.
    Shape:
        ``[S]``, ``[S]`` -> ``[V, V]``, symmetric
    Raises:
        ValueError: ``window`` is below 1, or an unknown ``weighting``.

    Source: Pennington et al. 2014, section 4.2 (harmonic); Levy et al. 2015, section 3.1.
    """
    from scipy.sparse import coo_array, csr_array

    at_least_one("window", window)
    choose_from("weighting", weighting, Weighting)
    words, line = ids.numpy(), lines.numpy()
    shape = (num_tokens, num_tokens)
    found = csr_array(shape)
    for distance in range(1, min(window, len(words) - 1) + 1):
        together = line[distance:] == line[:-distance]
        weights = {"flat": 1, "linear": 1 - (distance - 1) / window, "harmonic": 1 / distance}
        values = np.full(int(together.sum()), float(weights[weighting]))
        places = words[:-distance][together], words[distance:][together]
        found = found + coo_array((values, places), shape).tocsr()
    return (found + found.T).tocsr()
