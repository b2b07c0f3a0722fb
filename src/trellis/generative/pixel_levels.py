"""Integer levels of pixel values in [0, 1], such as bits and bytes."""

from torch import Tensor

from trellis.checks import can_read


def as_levels(x: Tensor, num_levels: int) -> Tensor:
    r"""The integer levels k of values x = k / (K - 1).

    Args:
        x: values, each one of these K.
        num_levels: K, 2 for bits, 256 for bytes.
    Shape:
        x ``[...]`` -> ``[...]``, of ``torch.long``
    Raises:
        ValueError: another value; names it (not checked on a GPU, where it would force a
            synchronisation).

    >>> as_levels(torch.tensor([0.0, 1.0, 0.2]), 6)
    tensor([0, 5, 1])
    """
    scaled = x * (num_levels - 1)
    levels = scaled.round()
    if can_read(x):
        wrong = ((scaled - levels).abs() > 1e-3) | (levels < 0) | (levels >= num_levels)
        if wrong.any() or x.isnan().any():
            value = float(x[wrong | x.isnan()][0])
            kinds = "'static' or 'dynamic'" if num_levels == 2 else "'unit'"
            raise ValueError(
                f"x holds {value:.4g}, which is none of the {num_levels} levels from 0 to 1: "
                f"give pixels={kinds}"
            )
    return levels.long()
