"""Nearest-neighbour graphs of points."""

import torch
from torch import Tensor


def neighbour_graph(x: Tensor, neighbours: int, *, block: int = 2048) -> Tensor:
    """Edges of the symmetrised k-nearest-neighbour graph under Euclidean distance.

    Two points are joined, in both directions, when either is among the nearest of the other. No
    point is its own neighbour, even where another has the same coordinates.

    Args:
        x: points ``[N, C]``.
        neighbours: number of nearest neighbours of each point, in [1, N - 1].
        block: number of rows of the distance matrix in memory at a time.
    Shape:
        ``[N, C]`` -> edge_index ``[2, E]``, sorted by source, then target
    Raises:
        ValueError: ``neighbours`` is not in [1, N - 1].

    >>> neighbour_graph(torch.tensor([[0.0], [1.0], [3.0]]), 1)
    tensor([[0, 1, 1, 2],
            [1, 0, 2, 1]])
    """
    count = len(x)
    if not 1 <= neighbours < count:
        raise ValueError(f"neighbours={neighbours}: {count} points allow 1 to {count - 1}")
    targets = []
    for start in range(0, count, block):
        rows = x[start : start + block]
        # The faster form by matrix products loses small distances to cancellation.
        distance = torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist")
        here = torch.arange(len(rows), device=x.device)
        distance[here, here + start] = torch.inf
        targets.append(distance.topk(neighbours, largest=False).indices)
    target = torch.cat(targets).flatten()
    source = torch.arange(count, device=x.device).repeat_interleave(neighbours)
    key = torch.cat([source * count + target, target * count + source]).unique()
    return torch.stack([key // count, key % count])
