"""Node classification rates two classes by the area under the ROC curve."""

from functools import partial
from pathlib import Path

import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.metrics import roc_auc_score
from torch_geometric.data import Data

from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.lightning_modules.engine.evaluation import AUC
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.networks.graph.gnn import GCN, NodeMLP
from trellis.spec import NodeSpec


def test_the_area_is_that_of_scikit_learn_over_all_batches() -> None:
    torch.manual_seed(0)
    logits, labels = 40 * torch.randn(60, 2), torch.randint(0, 2, (60,))
    metric = AUC()
    for part in range(3):
        rows = slice(20 * part, 20 * part + 20)
        metric.update(logits[rows], labels[rows])
    expected = roc_auc_score(labels, (logits[:, 1] - logits[:, 0]).double())
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_labels_of_minus_100_are_left_out_and_large_logits_stay_apart() -> None:
    metric = AUC()
    logits = torch.tensor([[0.0, 90.0], [0.0, 91.0], [0.0, 200.0], [0.0, 1.0]])
    metric.update(logits, torch.tensor([0, 1, -100, 0]))
    assert metric.compute().item() == 1


class Halves(WholeGraph):
    """Nodes joined to those of their own class, of which there are few of one."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.spec = NodeSpec(4, classes)

    def read(self) -> Data:
        torch.manual_seed(0)
        y = (torch.arange(200) % 10 == 0).long() * (self.classes - 1)
        pairs = torch.combinations(torch.arange(200))
        alike = pairs[y[pairs[:, 0]] == y[pairs[:, 1]]]
        edges = alike[torch.randperm(len(alike))[:2000]].t()
        x = torch.randn(200, 4) + 0.6 * y[:, None]
        part = torch.arange(200) // 10 % 4
        masks = {"train_mask": part < 2, "val_mask": part == 2, "test_mask": part == 3}
        return Data(x=x, edge_index=torch.cat((edges, edges.flip(0)), 1), y=y, **masks)


def test_a_graph_of_two_classes_has_an_area_and_one_of_three_has_none(tmp_path: Path) -> None:
    areas = {}
    for network in (GCN, NodeMLP):
        objective = NodeClassification(network, partial(torch.optim.Adam, lr=0.02))
        trainer = quiet_trainer(tmp_path, max_epochs=30)
        trainer.fit(objective, datamodule=Halves())
        areas[network] = float(trainer.callback_metrics["val/auc"])
    assert areas[GCN] > 0.95 > areas[NodeMLP]
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(NodeClassification(GCN), datamodule=Halves(3))
    assert "val/auc" not in trainer.callback_metrics
