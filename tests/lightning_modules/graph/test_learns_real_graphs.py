"""What configs of graphs learn of real data within seconds, beside references."""

from pathlib import Path

import numpy as np
import pytest
import torch
from config_cases import CONFIGS, parsed
from sklearn.linear_model import LogisticRegression
from torch_geometric.nn import global_mean_pool

from trellis.datamodules.graph import TUDataset
from trellis.lightning_modules.commands.run import TrellisCLI

pytestmark = pytest.mark.data


def trained(name: str, folder: Path, *options: str) -> TrellisCLI:
    (path,) = (path for path in CONFIGS if path.stem == name)
    cli = parsed(path, folder, *options)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return cli


def validated(cli: TrellisCLI) -> dict[str, float]:
    [found] = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    return found


def test_factors_of_cora_are_classified_as_by_scikit_learn(tmp_path: Path, data_dir: str) -> None:
    cli = trained("factors_cora", tmp_path)
    graph = cli.datamodule.data
    train = graph.train_mask
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit(graph.x[train], graph.y[train])
    with torch.no_grad():
        ours = cli.model(graph.x, graph.edge_index).argmax(1)
    assert np.mean(theirs.predict(graph.x) == ours.numpy()) > 0.998
    assert validated(cli)["val/accuracy"] > 0.6  # the largest class has 0.3


def test_shapes_of_walks_tell_molecules_apart(data_dir: str) -> None:
    """By the distribution of shapes alone, whose labels are those of the training graphs."""
    data = TUDataset(
        "MUTAG", validation="next_fold", encodings=["anonymous_walks"], encoding_dim=203
    )
    data.setup()
    x, y = {}, {}
    for split in ("train", "val"):
        batch = data.graphs.batch(data.splits[split])
        x[split] = global_mean_pool(batch.x, batch.batch)[:, 7:].numpy()
        y[split] = batch.y.numpy()
    assert x["train"].sum(1) == pytest.approx(1)
    model = LogisticRegression(C=1e3, max_iter=5000).fit(x["train"], y["train"])
    assert model.score(x["val"], y["val"]) > y["val"].mean() + 0.05  # above the larger class


@pytest.mark.long
def test_gat_learns_from_samples_and_is_evaluated_in_parts(tmp_path: Path, data_dir: str) -> None:
    cli = trained("gat_cora_inductive", tmp_path, "--trainer.max_epochs=2")
    in_parts = validated(cli)
    assert in_parts["val/accuracy"] > 0.4  # the largest class has 0.3
    cli.model.network.batch_size = 10_000
    whole = validated(cli)
    assert in_parts["val/loss"] == pytest.approx(whole["val/loss"], abs=1e-5)
