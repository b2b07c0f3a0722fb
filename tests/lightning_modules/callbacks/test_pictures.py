import csv
import sys
from functools import partial

import numpy as np
import pytest
import torch
from short_runs import run
from torch import nn
from torch_geometric.data import Batch, Data

from trellis.datamodules.engine.base import DataModule, Loader
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.callbacks import pictures
from trellis.lightning_modules.callbacks.pictures import (
    ConfusionMatrix,
    GraphPicture,
    LearningCurves,
)
from trellis.lightning_modules.engine.classifier import Classifier
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.spec import GraphSpec, NodeSpec


class Noisy(nn.Module):
    """A linear classifier with dropout, which predictions must not see, that draws at random."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(in_channels, out_channels))

    def forward(self, x):
        return self.layers(x + 0 * torch.rand(1))


class Paths(DataModule):
    """Paths of 2 and of 3 nodes: the label is which; 5 graphs in batches of 2."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = GraphSpec(1, 2, ("short", "long"))

    def loader(self, split):
        return Loader(5, lambda i: Batch.from_data_list([path(int(j) % 2) for j in i]),
                      batch_size=2)  # fmt: skip


def path(label: int) -> Data:
    n = 2 + label
    edges = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    return Data(x=torch.ones(n, 1), edge_index=edges, y=torch.tensor([label]))


@pytest.fixture
def drawn(monkeypatch):
    """The logged figures by name."""
    figures = {}
    log = pictures.log_picture

    def keep(trainer, name, figure):
        figures[name] = figure
        log(trainer, name, figure)

    monkeypatch.setattr(pictures, "log_picture", keep)
    return figures


def counts_of(figure):
    axes = figure.axes[0]
    counts = torch.zeros(len(axes.get_yticklabels()), len(axes.get_xticklabels()))
    for text in axes.texts:
        column, row = text.get_position()
        counts[row, column] = int(text.get_text())
    return counts.long()


def naive_counts(labels, predicted, number):
    counts = torch.zeros(number, number, dtype=torch.long)
    for label, guess in zip(labels.tolist(), predicted.tolist(), strict=True):
        counts[label, guess] += 1
    return counts


def table(file):
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    return header, torch.tensor([[int(value) for value in row[1:]] for row in rows])


def test_confusion_of_examples_counts_each_once(tmp_path, drawn):
    model, data = Classification(network=Noisy), Digits()
    trainer = run(tmp_path, model, data, ConfusionMatrix(), max_epochs=2)
    model.eval()
    for split in ("val", "test"):
        if split == "test":
            trainer.test(model, datamodule=data, verbose=False)
        chosen = data.splits[split]  # 200 and 300 examples: the last batch of 32 is short
        predicted = model(data.x[chosen]).argmax(-1)
        expected = naive_counts(data.y[chosen], predicted, 10)
        assert torch.equal(counts_of(drawn[f"{split}/confusion_matrix"]), expected)
        header, counts = table(trainer.run_dir / f"pictures/{split}/confusion_counts.csv")
        assert torch.equal(counts, expected)
        assert header == ["true class", *"0123456789"]
        assert (trainer.run_dir / f"pictures/{split}/confusion_matrix.png").stat().st_size > 10_000


def test_confusion_of_nodes_counts_those_of_the_split(tmp_path, drawn):
    model, data = NodeClassification(), KarateClub()
    trainer = run(tmp_path, model, data, ConfusionMatrix(), max_epochs=2)
    trainer.test(model, datamodule=data, verbose=False)
    graph = data.data
    predicted = model.eval()(graph.x, graph.edge_index).argmax(-1)
    for split in ("val", "test"):
        mask = graph[f"{split}_mask"]
        expected = naive_counts(graph.y[mask], predicted[mask], 4)
        assert torch.equal(counts_of(drawn[f"{split}/confusion_matrix"]), expected)


def test_confusion_of_whole_graphs(tmp_path, drawn):
    run(tmp_path, GraphClassification(), Paths(), ConfusionMatrix())
    figure = drawn["val/confusion_matrix"]
    assert counts_of(figure).sum(1).tolist() == [3, 2]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["short", "long"]


def test_limits_of_validation_hold_for_pictures_too(tmp_path, drawn):
    data = Digits()
    run(tmp_path, Classification(), data, ConfusionMatrix(), limit_val_batches=2)
    assert counts_of(drawn["val/confusion_matrix"]).sum() == 64
    run(tmp_path, Classification(), data, ConfusionMatrix(), limit_val_batches=0,
        enable_checkpointing=False)  # fmt: skip
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_the_graph_is_drawn_with_every_node_and_its_mistakes(tmp_path, drawn):
    model, data = NodeClassification(), KarateClub()
    trainer = run(tmp_path, model, data, GraphPicture(), max_epochs=2)
    graph = data.data
    wrong = model.eval()(graph.x, graph.edge_index).argmax(-1) != graph.y
    axes = drawn["graph"].axes[0]
    points = [c for c in axes.collections if type(c).__name__ == "PathCollection"]
    ringed = sum(len(c.get_offsets()) for c in points if c.get_linewidths()[0] > 0)
    assert sum(len(c.get_offsets()) for c in points) == 34
    assert ringed == int(wrong.sum()) > 0
    assert f"{34 - ringed} of 34 correct" in axes.get_title()
    assert (trainer.run_dir / "pictures/graph.png").stat().st_size > 20_000


def test_a_graph_too_large_to_see_is_not_drawn(tmp_path, drawn):
    with pytest.warns(UserWarning, match="max_nodes=33.*34 nodes"):
        run(tmp_path, NodeClassification(), KarateClub(), GraphPicture(max_nodes=33))
    assert not drawn


def test_learning_curves_are_those_of_the_csv(tmp_path, drawn):
    trainer = run(
        tmp_path, Classification(), Digits(), LearningCurves(), log_every_n_steps=10, max_epochs=2
    )
    with (trainer.run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = drawn["learning_curves"].axes[0]
    lines = {line.get_label().split()[0]: line.get_xydata() for line in loss.lines}
    for split in ("train", "val"):
        key = f"{split}/loss"
        expected = [(float(r["step"]), float(r[key])) for r in rows if r[key]]
        np.testing.assert_allclose(lines[split], expected)
    assert len(lines["train"]) == 8  # 82 steps, one in ten, none lost in a buffer
    assert (trainer.run_dir / "pictures/learning_curves.png").stat().st_size > 10_000


def test_without_a_csv_the_curves_say_so(tmp_path, drawn):
    with pytest.warns(UserWarning, match="no metrics.csv"):
        run(tmp_path, Classification(), Digits(), LearningCurves(), logger=False)
    assert not drawn


def test_pictures_leave_no_trace_in_the_run(tmp_path):
    callbacks = (ConfusionMatrix(), LearningCurves())
    plain = run(tmp_path, Classification(network=Noisy), Digits(), max_epochs=2)
    drawn = run(tmp_path, Classification(network=Noisy), Digits(), *callbacks, max_epochs=2)
    states = [
        torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True) for t in (plain, drawn)
    ]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])
    assert all(module.training for module in drawn.lightning_module.network.modules())


def test_a_trial_run_draws_nothing(tmp_path, drawn):
    callbacks = (ConfusionMatrix(), GraphPicture(), LearningCurves())
    run(tmp_path, NodeClassification(), KarateClub(), *callbacks, fast_dev_run=True)
    assert not drawn
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("callback", "model", "message"),
    [
        (ConfusionMatrix, Regression, "needs an objective that classifies.*; Regression does not"),
        (
            GraphPicture,
            Classification,
            "needs .* that classifies nodes.*; Classification does not",
        ),
    ],
)
def test_an_objective_without_classes_is_refused_at_once(tmp_path, callback, model, message):
    data = Digits(targets="real" if model is Regression else "labels")
    with pytest.raises(ValueError, match=f"{callback.__name__} {message}"):
        run(tmp_path, model(), data, callback())


class Nodewise(Classifier):
    """A user's own objective: each node by its features alone, learned from every node."""

    spec_type = NodeSpec

    def __init__(self) -> None:
        super().__init__(nn.Linear, partial(torch.optim.SGD, lr=0.1))
        self.save_hyperparameters()

    def build(self, spec: NodeSpec) -> None:
        self.network = self.network_factory(spec.in_channels, spec.out_channels)

    def logits_and_labels(self, batch, split):
        half = slice(None) if split == "predict" else slice(0, 20)
        return self(batch.x)[half], batch.y[half]


def test_pictures_need_nothing_but_the_logits_and_labels_of_a_classifier(tmp_path, drawn):
    model, data = Nodewise(), KarateClub()
    run(tmp_path, model, data, ConfusionMatrix(), GraphPicture())
    graph = data.data
    predicted = model.eval()(graph.x).argmax(-1)
    expected = naive_counts(graph.y[:20], predicted[:20], 4)
    assert torch.equal(counts_of(drawn["val/confusion_matrix"]), expected)
    assert "graph" in drawn


def test_missing_matplotlib_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-trellis\[viz\]"):
        run(tmp_path, Classification(), Digits(), LearningCurves())
    assert not list(tmp_path.rglob("*.ckpt"))
