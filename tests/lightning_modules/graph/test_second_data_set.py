"""Recipes hold beyond the data they were tuned on: only the data line changes, and they learn.

A network that has collapsed to the largest class is no better than it on its own training data.
"""

from pathlib import Path

import networkx as nx
import pytest
import torch

from trellis.lightning_modules.commands.ledger import configs_dir
from trellis.lightning_modules.commands.run import TrellisCLI, quieten

EPOCHS = "--trainer.max_epochs=30"


def learnt(folder: Path, *words: str) -> tuple[float, float]:
    """Accuracy on the training data after a run, and that of the largest class."""
    quieten()
    options = ["enable_progress_bar=false", "enable_model_summary=false", "run_name=test"]
    shared = [f"--trainer.{option}" for option in options]
    where = f"--trainer.default_root_dir={folder}"
    cli = TrellisCLI([*words, where, "--seed_everything=0", *shared], run=False)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    data = cli.datamodule
    if hasattr(data, "graphs"):
        y = data.graphs.y[data.splits["train"]]
        loader = data.loader("train")
        loader.shuffle = False
        (result,) = cli.trainer.validate(cli.model, dataloaders=loader, verbose=False)
        accuracy = result["val/accuracy"]
    else:
        y = data.data.y[data.data.test_mask]
        (result,) = cli.trainer.test(cli.model, datamodule=data, verbose=False)
        accuracy = result["test/accuracy"]
    return accuracy, float(y.bincount().max()) / len(y)


def config(name: str) -> list[str]:
    return [f"--config={configs_dir() / 'graph' / name}", EPOCHS]


def large_graphs(folder: Path, attributes: bool) -> None:
    """Graphs of 200 to 300 nodes, with triangles or without, and other numbers of edges in each.

    Nodes have one tag; what they have beside it are degrees, or attributes in the hundreds.
    """
    lines = ["60"]
    generator = torch.Generator().manual_seed(0)
    for number in range(60):
        size, label = 200 + number, number % 3 // 2
        graph = nx.connected_watts_strogatz_graph(size, 4, 0.05 if label else 0.9, seed=number)
        values = 300 + 50 * torch.randn(size, 2, generator=generator) + 20 * label
        lines.append(f"{size} {label}")
        for node in range(size):
            more = f" {values[node, 0]} {values[node, 1]}" if attributes else ""
            lines.append(f"0 {graph.degree(node)} {' '.join(map(str, graph[node]))}{more}")
    own = folder / "tu_gin_format" / "LARGE"
    own.mkdir(parents=True)
    (own / "LARGE.txt").write_text("\n".join(lines))


@pytest.mark.long
@pytest.mark.parametrize("attributes", [False, True])
def test_gin_learns_large_graphs_without_labels_of_nodes(tmp_path: Path, attributes: bool) -> None:
    large_graphs(tmp_path, attributes)
    words = ["--data.name=LARGE", f"--data.data_dir={tmp_path}"]
    accuracy, largest = learnt(tmp_path, *config("gin_ptc.yaml"), *words)
    assert accuracy > largest + 0.2


@pytest.mark.long
@pytest.mark.data
@pytest.mark.parametrize(
    "words",
    [
        [*config("gin_mutag.yaml"), "--data=GINDataset"],
        [*config("gin_ptc.yaml"), "--data=TUDataset"],
        ["--model=GraphClassification", EPOCHS, "--data=TUDataset"],
        ["--model=GraphClassification", EPOCHS, "--data=GINDataset"],
    ],
)
def test_graph_recipes_learn_both_collections(
    words: list[str], tmp_path: Path, data_dir: str
) -> None:
    accuracy, largest = learnt(tmp_path, *words)
    assert accuracy > largest + 0.05


@pytest.mark.long
@pytest.mark.data
@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        ("defaults", "Planetoid"),
        ("defaults", "DigitsGraph"),
        ("defaults", "Amazon"),
        ("appnp_cora.yaml", "DigitsGraph"),
        ("gcnii_cora.yaml", "DigitsGraph"),
    ],
)
def test_node_recipes_learn_another_graph(
    recipe: str, data: str, tmp_path: Path, data_dir: str
) -> None:
    own = ["--model=NodeClassification"] if recipe == "defaults" else config(recipe)
    words = [*own, "--trainer.max_epochs=100", f"--data={data}"]
    accuracy, largest = learnt(tmp_path, *words)
    assert accuracy > largest + 0.2
