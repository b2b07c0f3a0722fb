"""Pictures of searches: what is drawn is what was tried."""

import pytest

from trellis.analysis.searches import Tried, search_picture

pytest.importorskip("matplotlib")

TRIALS = [
    Tried(0, 0.5, {"lr": 0.01, "network": "GCN"}),
    Tried(1, 0.9, {"lr": 0.1, "network": "GAT"}),
    Tried(2, 0.95, {"lr": 1.0, "network": "GCN"}, stopped=True),
    Tried(3, 0.7, {"lr": 10.0, "network": "GCN"}),
]


def test_the_best_so_far_leaves_out_what_was_stopped() -> None:
    figure = search_picture(TRIALS, "val/accuracy", "max", {"lr": "log", "network": "choices"})
    first, lr, network = figure.axes
    (best,) = first.get_lines()
    assert list(best.get_ydata()) == [0.5, 0.9, 0.9, 0.9]
    whole, stopped = lr.collections
    assert whole.get_offsets().tolist() == [[0.01, 0.5], [0.1, 0.9], [10.0, 0.7]]
    assert stopped.get_offsets().tolist() == [[1.0, 0.95]]
    assert lr.get_xscale() == "log"
    assert [label.get_text() for label in network.get_xticklabels()] == ["GAT", "GCN"]
    assert network.collections[0].get_offsets()[:, 0].tolist() == [1, 0, 1]


def test_small_is_best() -> None:
    figure = search_picture(TRIALS, "val/loss", "min", {"lr": "linear"})
    assert list(figure.axes[0].get_lines()[0].get_ydata()) == [0.5] * 4
