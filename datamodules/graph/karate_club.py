"""Zachary's karate club, a small graph."""

from torch_geometric.data import Data

from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.spec import NodeSpec


class KarateClub(WholeGraph):
    """34 members of a club and their contacts outside it, in 4 communities; comes with PyG.

    Batch: the whole graph as PyG ``Data`` with the identity as ``x`` (nodes have no features but
    their number), ``edge_index``, ``y`` and masks: one labelled node per community for training,
    all 30 others for test. There are no nodes left for validation, so ``val_mask`` is the training
    mask: validation only shows how well the four labels are fitted, and model selection does not
    use test nodes.

    ===== ===== ======== =======
    nodes edges features classes
    ===== ===== ======== =======
    34    78    34       4
    ===== ===== ======== =======

    Args:
        steps_per_epoch: training steps per epoch, each on the whole graph.

    Source: Zachary 1977; communities and labels of Kipf and Welling 2017, appendix A.
    """

    spec = NodeSpec(34, 4)

    def read(self) -> Data:
        from torch_geometric import datasets

        data = datasets.KarateClub()[0]
        data.val_mask = data.train_mask.clone()
        data.test_mask = ~data.train_mask
        return data
