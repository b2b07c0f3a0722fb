"""Filters over windows of a sequence, each reduced to its largest response."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_widths


class WindowFilters(nn.ModuleList):
    r"""Convolutions of several widths, and the largest response of each filter.

    .. math:: z_k = \max_i \mathrm{ReLU}(w_k \cdot x_{i:i+h-1} + b_k)

    Sequences are padded with zeros by ``h - 1`` on both sides, so that short ones have windows,
    too.

    Args:
        in_features: width D of the inputs.
        channels: filters of each width.
        widths: steps in a window, h of each group of filters.
    Shape:
        x ``[N, T, D]``, 0 beyond the end of each sequence, lengths ``[N]`` ->
        ``[N, channels * len(widths)]``
    Raises:
        ValueError: a size below 1.

    Source: Kim 2014, section 2.
    """

    def __init__(self, in_features: int, channels: int, widths: Sequence[int]) -> None:
        check_widths(widths)
        at_least_one("channels", channels)
        super().__init__(
            nn.Conv1d(in_features, channels, width, padding=width - 1) for width in widths
        )
        self.out_features = channels * len(widths)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        columns = x.transpose(1, 2)  # [N, D, T]
        return torch.cat([_largest(filters, columns, lengths) for filters in self], 1)


def _largest(filters: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    """The largest response of each filter to the windows with something in them."""
    responses = F.relu(filters(x))  # [N, channels, T + h - 1]
    place = torch.arange(responses.size(-1), device=x.device)
    beyond = responses.size(-1) - x.size(-1)  # windows that begin before the first step
    read = place < (lengths + beyond)[:, None]
    return (responses * read[:, None]).amax(-1)  # 0 is the least there is
