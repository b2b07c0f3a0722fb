"""One graph, given whole at each step, whose splits are masks over its nodes."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch_geometric.data import Data

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.encodings import Encoding, check_encodings, encoded

Features = Literal["own", "labels", "none"]


class WholeGraph(DataModule):
    """Base of the data that is one graph: a subclass reads it, and every batch is all of it.

    Args:
        steps_per_epoch: training steps per epoch, each on the whole graph.
        features: ``own`` for those of the data; ``labels`` for the one-hot labels of the training
            nodes, and 0 for all others, as label propagation takes; ``none`` for encodings alone.
        encodings: more features, of where a node is in the graph: ``laplacian`` eigenvectors,
            returning ``walks``, factors of proximities such as ``jaccard``; see
            ``trellis.datamodules.graph.encodings``.
        encoding_dim: numbers of each encoding.
    Raises:
        ValueError: ``steps_per_epoch`` or ``encoding_dim`` is less than 1, a name is unknown, or
            there are neither features nor encodings.
    """

    def __init__(
        self,
        steps_per_epoch: int = 1,
        features: Features = "own",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__()
        self.features = choose_from("features", features, Features)
        self.encodings = check_encodings(encodings, encoding_dim)
        if features == "none" and not encodings:
            raise ValueError("features='none' leaves no features: give encodings")
        self.encoding_dim = encoding_dim
        self.steps_per_epoch = at_least_one("steps_per_epoch", steps_per_epoch)
        self.data: Data | None = None

    @abstractmethod
    def read(self) -> Data:
        """The graph with ``train_mask``, ``val_mask`` and ``test_mask``; called once."""

    def setup(self, stage: str | None = None) -> None:
        if self.data is None:
            self.data = self.read()
            self._choose_features(self.data)

    def _choose_features(self, data: Data) -> None:
        if self.features == "labels":
            known = data.y.where(data.train_mask, self.spec.out_channels)
            # One column more for the unknown, which is left out.
            data.x = F.one_hot(known, self.spec.out_channels + 1)[:, :-1].float()
        if self.features == "none":
            data.x = torch.empty(data.num_nodes, 0)
        if self.encodings:
            x = data.x if data.x.layout == torch.strided else data.x.to_dense()
            data.x = torch.cat((x, *encoded(data, self.encodings, self.encoding_dim)), dim=1)
        if self.features != "own" or self.encodings:
            self.spec = replace(self.spec, in_channels=data.x.size(1))

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
