import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from trellis.analysis import confusion_matrix, graph_picture, learning_curves

COUNTS = torch.tensor([[8, 2, 0], [1, 9, 0], [0, 3, 7]])
RING = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])


def png_size(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = file.getvalue()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend_texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def scatters(axes):
    return [c for c in axes.collections if type(c).__name__ == "PathCollection"]


def test_confusion_matrix_has_true_classes_as_rows():
    figure = confusion_matrix(COUNTS, ("cat", "dog", "newt"))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "predicted class"
    assert axes.get_ylabel() == "true class"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "newt"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "newt"]
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert ((1, 0), "2") in written  # x is the predicted class: two cats were taken for dogs
    assert ((1, 2), "3") in written
    assert len(written) == 6  # zeros are left out
    np.testing.assert_allclose(axes.images[0].get_array(), COUNTS / 10)
    assert axes.get_title() == "24 of 30 right (80.0%)"
    width, height = png_size(figure)
    assert width > 400
    assert height > 400


def test_numbers_on_dark_cells_are_white():
    colours = {
        text.get_text(): text.get_color() for text in confusion_matrix(COUNTS).axes[0].texts
    }
    assert colours["9"] == "white"
    assert colours["1"] == "black"


def test_a_class_without_examples_is_blank_and_many_classes_have_no_numbers():
    empty = confusion_matrix(torch.tensor([[3, 1], [0, 0]])).axes[0]
    np.testing.assert_allclose(empty.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    many = confusion_matrix(torch.eye(60, dtype=torch.long))
    assert texts(many.axes[0]) == []
    assert len(many.axes[0].get_xticklabels()) == 30
    assert png_size(many)[0] < 2400


@pytest.mark.parametrize(
    ("counts", "classes", "match"),
    [(torch.ones(2, 3), (), r"\(2, 3\)"), (torch.ones(2, 2), ("a",), "1 names.*2 classes")],
)
def test_confusion_matrix_refuses_what_does_not_fit(counts, classes, match):
    with pytest.raises(ValueError, match=match):
        confusion_matrix(counts, classes)


def test_graph_picture_draws_each_node_once_and_rings_the_wrong_ones():
    predictions = torch.tensor([0, 0, 1, 1, 2, 2])
    labels = torch.tensor([0, 1, 1, 1, 2, -1])  # node 1 is wrong, node 5 is unknown
    position = torch.rand(6, 2)
    figure = graph_picture(
        RING, predictions, labels, position=position, classes=("red", "green", "blue")
    )
    axes = figure.axes[0]
    drawn = [collection.get_offsets() for collection in scatters(axes)]
    assert sum(len(points) for points in drawn) == 6
    ringed = [
        collection.get_offsets()
        for collection in scatters(axes)
        if len(collection.get_offsets()) and collection.get_linewidths()[0] > 0
    ]
    assert len(ringed) == 1
    np.testing.assert_allclose(ringed[0], position[1:2])
    assert legend_texts(figure.legends[0]) == ["red", "green", "blue", "wrong (1)"]
    assert "4 of 5 correct (80.0%)" in axes.get_title()
    assert min(png_size(figure)) > 600


def test_colours_are_the_predicted_classes_and_differ():
    predictions = torch.arange(6)
    figure = graph_picture(RING, predictions, position=torch.rand(6, 2))
    colours = {
        tuple(c.get_facecolor()[0]) for c in scatters(figure.axes[0]) if len(c.get_offsets())
    }
    assert len(colours) == 6
    assert legend_texts(figure.legends[0]) == list("012345")  # without labels nothing is wrong


def test_more_classes_than_colours_get_other_shapes():
    figure = graph_picture(RING, torch.tensor([0, 8, 0, 8, 0, 8]), position=torch.rand(6, 2))
    first, ninth = (c for c in scatters(figure.axes[0]) if len(c.get_offsets()))
    assert tuple(first.get_facecolor()[0]) == tuple(ninth.get_facecolor()[0])
    assert len(first.get_paths()[0]) != len(ninth.get_paths()[0])


def test_an_undirected_edge_is_drawn_once_between_its_nodes():
    position = torch.rand(6, 2)
    both = torch.cat([RING, RING.flip(0)], dim=1)
    for edges in (both, RING):
        axes = graph_picture(edges, torch.zeros(6).long(), position=position).axes[0]
        (lines,) = (c for c in axes.collections if type(c).__name__ == "LineCollection")
        drawn = {frozenset(map(tuple, np.round(s, 5).tolist())) for s in lines.get_segments()}
        points = [tuple(p) for p in np.round(position.numpy().astype(float), 5).tolist()]
        expected = {frozenset((points[a], points[b])) for a, b in RING.T.tolist()}
        assert drawn == expected
        assert len(lines.get_segments()) == 6


def test_graph_picture_finds_its_own_layout():
    predictions = torch.tensor([0, 0, 0, 1, 1, 1])
    edges = torch.tensor([[0, 1, 0, 3, 4, 3], [1, 2, 2, 4, 5, 5]])
    groups = [c.get_offsets() for c in scatters(graph_picture(edges, predictions).axes[0])]
    left, right = (np.asarray(group) for group in groups if len(group))
    assert np.ptp(left, axis=0).max() < np.linalg.norm(left.mean(0) - right.mean(0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"predictions": torch.ones(6, 2)}, r"\(6, 2\)"),
        ({"labels": torch.zeros(5).long()}, "labels is for 5 nodes, predictions for 6"),
        ({"position": torch.zeros(7, 2)}, "position is for 7 nodes"),
        ({"classes": ("a",)}, "1 names.*2 classes"),
    ],
)
def test_graph_picture_refuses_what_does_not_fit(options, match):
    arguments = {"edge_index": RING, "predictions": torch.tensor([0, 1] * 3), **options}
    with pytest.raises(ValueError, match=match):
        graph_picture(**arguments)


def test_learning_curves_draw_what_the_rows_say():
    rows = [
        {"epoch": "0", "step": "0", "train/loss": "2.0", "val/loss": "", "val/accuracy": ""},
        {"epoch": "0", "step": "0", "train/loss": "", "val/loss": "2.5", "val/accuracy": "0.1"},
        {"epoch": "1", "step": "9", "train/loss": "1.0", "val/loss": "", "val/accuracy": ""},
        {"epoch": "1", "step": "9", "train/loss": None, "val/loss": 1.5, "val/accuracy": 0.6},
        {"epoch": "2", "step": "10", "test/accuracy": "0.55"},
    ]
    loss, accuracy = learning_curves(rows).axes[:2]
    assert [loss.get_title(), accuracy.get_title()] == ["loss", "accuracy"]
    lines = {line.get_label().split()[0]: line for line in loss.lines}
    assert list(lines) == ["train", "val"]
    np.testing.assert_allclose(lines["train"].get_xydata(), [[0, 2], [9, 1]])
    np.testing.assert_allclose(lines["val"].get_xydata(), [[0, 2.5], [9, 1.5]])
    val, test = accuracy.lines
    np.testing.assert_allclose(val.get_xydata(), [[0, 0.1], [9, 0.6]])
    np.testing.assert_allclose(test.get_xydata(), [[10, 0.55]])
    assert test.get_marker() == "D"  # a single value would be no line
    assert legend_texts(accuracy.get_legend()) == ["val 0.6", "test 0.55"]
    assert lines["val"].get_color() == val.get_color() != test.get_color()


def test_agents_are_drawn_over_the_steps_of_their_environments():
    rows = [
        {"step": "4", "train/return": "1.0", "train/env_steps": "100"},
        {"step": "5", "val/return": "1.5"},
        {"step": "8", "train/return": "2.0", "train/env_steps": "300"},
    ]
    figure = learning_curves(rows)
    (axes,) = (axes for axes in figure.axes if axes.get_title())
    train, val = axes.lines
    np.testing.assert_allclose(train.get_xydata(), [[100, 1], [300, 2]])
    np.testing.assert_allclose(val.get_xydata(), [[150, 1.5]])
    assert axes.get_xlabel() == "step of the environments"


def test_a_name_without_a_split_has_a_panel_of_its_own():
    rows = [{"step": step, "lr-Adam": 0.1, "train/loss": 1.0, "a/b/c": 3.0} for step in range(3)]
    figure = learning_curves(rows)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["loss", "a/b/c", "lr-Adam"]
    assert min(png_size(figure)) > 300


@pytest.mark.parametrize("rows", [[], [{"step": "1", "train/loss": ""}], [{"train/loss": "1"}]])
def test_learning_curves_without_values_are_refused(rows):
    with pytest.raises(ValueError, match="no metric to draw"):
        learning_curves(rows)


def test_importing_the_analysis_needs_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import torch, trellis.analysis as a\n"
        "try: a.confusion_matrix(torch.eye(2))\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'torch-trellis[viz]'" in done.stdout
