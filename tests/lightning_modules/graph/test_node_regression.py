"""Real numbers of nodes that their neighbours tell."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import SmallGraph, quiet_trainer

from trellis.datamodules.graph import GraphFromFiles
from trellis.lightning_modules.graph import NodeClassification, NodeRegression
from trellis.lightning_modules.graph.graph_regression import GraphValues
from trellis.networks.graph import GraphSAGE


def cycle(folder: Path) -> GraphFromFiles:
    """Nodes whose target is 1000 + 50 times the mean of the features of their two neighbours."""
    x = torch.randn(90, generator=torch.Generator().manual_seed(0))
    y = 1000 + 50 * (x.roll(1) + x.roll(-1)) / 2
    rows = [f"{i},{x[i]},{y[i] if i else ''}" for i in range(90)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,label", *rows]))
    (folder / "edges.csv").write_text("\n".join(f"{i},{(i + 1) % 90}" for i in range(90)))
    paths = (str(folder / f"{name}.csv") for name in ("edges", "nodes"))
    return GraphFromFiles(*paths, targets="real", steps_per_epoch=60)


def test_targets_are_learnt_in_their_unit(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    network = partial(GraphSAGE, num_layers=1)
    objective = NodeRegression(network, partial(torch.optim.Adam, lr=0.05))
    data, trainer = cycle(tmp_path), quiet_trainer(tmp_path, max_epochs=3)
    network.keywords["dropout"] = 0.0
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    assert tested["test/rmse"] < 0.5  # the standard deviation is 35
    [predicted] = trainer.predict(objective, datamodule=data)
    mask = data.data.test_mask
    error = predicted.mean[mask] - data.data.y[mask]
    assert tested["test/mae"] == pytest.approx(float(error.abs().mean()), rel=1e-4)
    assert predicted._fields == GraphValues._fields  # a column has one name for every objective
    assert not bool(mask[0] | data.data.train_mask[0] | data.data.val_mask[0])


def test_labels_and_numbers_are_told_apart(tmp_path: Path) -> None:
    data = cycle(tmp_path)
    data.setup()
    with pytest.raises(ValueError, match="NodeClassification predicts class labels, but the"):
        NodeClassification(spec=data.spec).configure_model()
    with pytest.raises(ValueError, match="NodeRegression predicts real-valued targets, but "):
        NodeRegression(spec=SmallGraph().spec).configure_model()
