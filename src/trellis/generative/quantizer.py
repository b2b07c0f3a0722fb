"""Vector quantisation: each vector becomes the nearest of a learned codebook.

Legend: N vectors of D dimensions, K codes.
"""

from typing import NamedTuple

from torch import Tensor, nn

from trellis.checks import at_least_one, check_vectors


class Quantized(NamedTuple):
    """Vectors and their codes.

    Args:
        values: the codes of the vectors, ``[N, D]``; their gradients are those of the vectors.
        indices: of the codes, ``[N]``.
        codebook_loss: squared distances of the codes from the vectors, ``[N]``, which move the
            codes.
        commitment_loss: the same numbers, which move the vectors.
    """

    values: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VectorQuantizer(nn.Module):
    r"""The nearest code of each vector, with straight-through gradients.

    .. math:: q(z) = e_k, \quad k = \arg\min_j \|z - e_j\|^2

    Args:
        num_codes: K.
        code_dim: D.
    Shape:
        z ``[N, D]`` -> ``Quantized``
    Raises:
        ValueError: a size below 1, or vectors of another width.

    Source: van den Oord et al. 2017, sections 3.1 and 3.2, eq. 1 to 3.
    """

    def __init__(self, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.codes = nn.Embedding(
            at_least_one("num_codes", num_codes), at_least_one("code_dim", code_dim)
        )
        nn.init.uniform_(self.codes.weight, -1 / num_codes, 1 / num_codes)

    def forward(self, z: Tensor) -> Quantized:
        check_vectors(z, self.codes.embedding_dim, "VectorQuantizer")
        codes = self.codes.weight
        # Squared distances without |z|^2, which is the same for all codes.
        indices = (codes.square().sum(1) - 2 * z @ codes.t()).argmin(1)
        nearest = self.codes(indices)
        return Quantized(
            z + (nearest - z).detach(),
            indices,
            (nearest - z.detach()).square().sum(1),
            (nearest.detach() - z).square().sum(1),
        )
