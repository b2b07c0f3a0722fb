"""One graph, given whole at each step, whose splits are masks over its nodes."""

from torch_geometric.data import Data

from trellis.checks import at_least_one
from trellis.datamodules.engine.loader import Loader


def whole_graph_loader(data: Data, steps: int) -> Loader[Data]:
    """A loader that yields the same graph ``steps`` times an epoch."""
    return Loader(at_least_one("steps_per_epoch", steps), lambda _: data)


def check_masks(data: Data, source: str) -> None:
    """Check that no split is empty, and that training nodes are in no other split.

    Validation and test nodes may overlap: a data module that offers this documents it.

    Args:
        data: with ``train_mask``, ``val_mask`` and ``test_mask``.
        source: its name in the message.
    Raises:
        ValueError: names the split.
    """
    for split in ("train", "val", "test"):
        if not bool(data[f"{split}_mask"].any()):
            raise ValueError(
                f"{source}: the {split} split is empty: give it at least one labelled node"
            )
    for split in ("val", "test"):
        shared = int((data.train_mask & data[f"{split}_mask"]).sum())
        if shared:
            raise ValueError(
                f"{source}: {shared} training nodes are in the {split} split too: keep them apart"
            )
