"""One graph, given whole at each step, whose splits are masks over its nodes."""

from abc import abstractmethod

from torch_geometric.data import Data

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader


class WholeGraph(DataModule):
    """Base of the data that is one graph: a subclass reads it, and every batch is all of it.

    Args:
        steps_per_epoch: training steps per epoch, each on the whole graph.
    Raises:
        ValueError: ``steps_per_epoch`` is less than 1.
    """

    def __init__(self, steps_per_epoch: int = 1) -> None:
        super().__init__()
        self.steps_per_epoch = at_least_one("steps_per_epoch", steps_per_epoch)
        self.data: Data | None = None

    @abstractmethod
    def read(self) -> Data:
        """The graph with ``train_mask``, ``val_mask`` and ``test_mask``; called once."""

    def setup(self, stage: str | None = None) -> None:
        if self.data is None:
            self.data = self.read()

    def loader(self, split: Split) -> Loader[Data]:
        data = self.data
        return Loader(self.steps_per_epoch if split == "train" else 1, lambda _: data)


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
