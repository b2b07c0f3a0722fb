"""Numbers in [0, 1] as the levels they stand for: bits, bytes."""

from torch import Tensor


def as_levels(x: Tensor, num_levels: int) -> Tensor:
    r"""The whole numbers k behind x = k / (K - 1).

    Args:
        x: of these K numbers only.
        num_levels: K, 2 for bits, 256 for bytes.
    Shape:
        x ``[...]`` -> ``[...]``, of ``torch.long``
    Raises:
        ValueError: another number; names it (not looked for on a GPU, which would have to wait
            for the answer).

    >>> as_levels(torch.tensor([0.0, 1.0, 0.2]), 6)
    tensor([0, 5, 1])
    """
    scaled = x * (num_levels - 1)
    levels = scaled.round()
    if x.device.type == "cpu":
        wrong = ((scaled - levels).abs() > 1e-3) | (levels < 0) | (levels >= num_levels)
        if wrong.any() or x.isnan().any():
            value = float(x[wrong | x.isnan()][0])
            kinds = "'static' or 'dynamic'" if num_levels == 2 else "'unit'"
            raise ValueError(
                f"x holds {value:.4g}, which is none of the {num_levels} levels 0 to 1: give "
                f"pixels={kinds}"
            )
    return levels.long()
