"""A table as a graph, and regression on it against scikit-learn."""

from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from learning_cases import quiet_trainer
from sklearn.linear_model import Ridge
from sklearn.neighbors import kneighbors_graph

from trellis.datamodules.engine.division import Division
from trellis.datamodules.graph import KNNGraph
from trellis.datamodules.vector import SklearnData
from trellis.lightning_modules.graph import NodeRegression
from trellis.networks.graph import SGC
from trellis.optim import MatrixDecayLBFGS


def ready(name: str, **options: object) -> KNNGraph:
    data = KNNGraph(partial(SklearnData, name=name), **options)
    data.setup()
    return data


def neighbours(data: KNNGraph) -> np.ndarray:
    graph = kneighbors_graph(data.data.x.numpy(), data.neighbours).toarray()
    return np.maximum(graph, graph.T)


def test_rows_are_joined_to_the_rows_most_like_them() -> None:
    data = ready("wine", neighbours=4)
    graph, spec = data.data, data.spec
    assert (spec.in_channels, spec.out_channels, spec.targets) == (13, 3, "labels")
    found = torch.zeros(178, 178).index_put_(tuple(graph.edge_index), torch.ones(()))
    assert np.array_equal(found.numpy(), neighbours(data))
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert (masks.sum(0) == 1).all()
    for mask, (x, y) in zip(masks, data.table.splits.values(), strict=True):
        assert graph.x[mask].equal(x)
        assert graph.y[mask].equal(y)


def test_nodes_have_the_numbers_of_their_rows() -> None:
    from sklearn.datasets import load_diabetes

    data = ready("diabetes")
    rows = list(map(int, data.test_ids))
    assert sorted(rows) == list(range(442))
    assert data.data.y[:, 0].tolist() == load_diabetes().target[rows].tolist()


def test_regression_on_means_of_neighbours_is_ridge_regression(tmp_path: Path) -> None:
    data = ready("diabetes")
    a = neighbours(data) + np.eye(442)
    scale = a.sum(1) ** -0.5
    x = (scale[:, None] * a * scale) @ data.data.x.double().numpy()
    y, train = data.data.y[:, 0].numpy(), data.data.train_mask.numpy()
    model = Ridge(alpha=1.0).fit(x[train], (y[train] - y[train].mean()) / y[train].std())

    L.seed_everything(0, verbose=False)
    optimizer = partial(MatrixDecayLBFGS, weight_decay=2 / train.sum())
    objective = NodeRegression(partial(SGC, num_hops=1), optimizer)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(objective, datamodule=data)
    assert objective.network.linear.weight.detach().numpy()[0] == pytest.approx(
        model.coef_, abs=1e-3
    )
    (predicted,) = trainer.predict(objective, datamodule=data)
    expected = model.predict(x) * y[train].std() + y[train].mean()
    assert predicted.mean[:, 0].numpy() == pytest.approx(expected, abs=0.1)


def test_rows_to_validate_on_are_not_training_nodes() -> None:
    data = KNNGraph(partial(SklearnData, name="iris", division=Division(val_share=0)))
    with pytest.raises(ValueError, match="SklearnData validates on its training rows, which"):
        data.setup()
    with pytest.raises(ValueError, match="neighbours=150: 150 points allow 1 to 149"):
        ready("iris", neighbours=150)
