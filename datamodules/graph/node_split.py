"""Random splits of the nodes of a graph."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import SPLITS


def split_by_class(
    data: Data,
    *,
    per_class: int,
    num_val: int,
    num_test: int | None,
    seed: int,
    val_by_class: bool = False,
) -> None:
    """Draw the masks of a graph: as many labelled nodes of each class, others to evaluate.

    Args:
        data: with labels ``y [N]``; it gets ``train_mask``, ``val_mask`` and ``test_mask``.
        per_class: training nodes of each class.
        num_val: validation nodes, of each class with ``val_by_class``, else of all.
        num_test: test nodes; ``None`` for all that are left.
        seed: of the draw.
        val_by_class: draw the validation nodes by class, too.
    Raises:
        ValueError: a class or the graph has too few nodes.

    Source: Yang et al. 2016 and Kipf and Welling 2017 (500 and 1,000 nodes of the rest); Shchur et
    al. 2018, section 3 (``val_by_class``, all others for test).
    """
    at_least_one("per_class", per_class)
    order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed))
    train, rest = _of_each_class(order, data.y, per_class)
    val, rest = (
        _of_each_class(rest, data.y, num_val) if val_by_class else rest.tensor_split([num_val])
    )
    test = rest if num_test is None else rest[:num_test]
    if num_test is not None and len(test) < num_test:
        raise ValueError(
            f"{len(data.y)} nodes are too few for {per_class} a class, {num_val} for validation "
            f"and {num_test} for test"
        )
    for split, nodes in zip(SPLITS, (train, val, test), strict=True):
        mask = torch.zeros(len(data.y), dtype=torch.bool)
        mask[nodes] = True
        data[f"{split}_mask"] = mask


def _of_each_class(nodes: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` nodes of each class, and the others."""
    chosen = torch.zeros(len(y), dtype=torch.bool)
    for label in y.unique():
        own = nodes[y[nodes] == label]
        if len(own) < count:
            raise ValueError(f"class {int(label)} has {len(own)} nodes left, {count} are wanted")
        chosen[own[:count]] = True
    return nodes[chosen[nodes]], nodes[~chosen[nodes]]
