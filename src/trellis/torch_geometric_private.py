"""All that touches private names of PyTorch Geometric; no other file does.

Each function has a test in ``test_torch_geometric_private.py`` that fails with a sentence saying
what a new release changed.
"""

from torch import Tensor
from torch_geometric.data import Batch


def remember_parts(batch: Batch, slices: dict[str, Tensor], shifts: dict[str, Tensor]) -> None:
    """Let a batch that ``Batch.from_data_list`` has not made be taken apart into its graphs.

    Args:
        batch: of G graphs, with a ``ptr``.
        slices: for each attribute, where each graph starts and the last one ends, ``[G + 1]``.
        shifts: for each attribute, what was added to each graph's values, ``[G]``.
    """
    batch._slice_dict, batch._inc_dict = slices, shifts
