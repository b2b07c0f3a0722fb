"""Pictures of searches for hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from trellis.analysis.pictures import PALETTE, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of the axis of a hyper-parameter.
Scale = Literal["log", "linear", "choices"]


class Tried(NamedTuple):
    """A trial of a search.

    Args:
        number: in the order of the search.
        value: of the metric.
        setting: its hyper-parameters by name.
        stopped: before its end, since it lagged behind.
    """

    number: int
    value: float
    setting: Mapping[str, Any]
    stopped: bool = False


def search_picture(
    trials: Sequence[Tried],
    metric: str,
    mode: Literal["min", "max"],
    scales: Mapping[str, Scale],
) -> Figure:
    """Values in the order of the trials with the best so far, and against each hyper-parameter.

    Args:
        trials: at least one.
        metric: its name.
        mode: whether small or large values are good.
        scales: of the axis of each hyper-parameter.
    """
    figure = empty_figure(3.2 * (1 + len(scales)), 3.4)
    first, *others = figure.subplots(1, 1 + len(scales), sharey=True, squeeze=False)[0]
    numbers = [trial.number for trial in trials]
    _scatter(first, numbers, trials)
    # A trial that was stopped has not shown what it can do.
    worst = min if mode == "max" else max
    values = [trial.value for trial in trials]
    whole = [worst(values) if trial.stopped else trial.value for trial in trials]
    best = [*accumulate(whole, min if mode == "min" else max)]
    first.step(numbers, best, where="post", color=PALETTE[1], label="best so far")
    first.set(xlabel="trial", ylabel=metric)
    first.legend(frameon=False, fontsize="small")
    for (name, scale), axes in zip(scales.items(), others, strict=True):
        given = [trial.setting[name] for trial in trials]
        if scale == "choices":
            texts = [str(each) for each in given]
            places = {text: place for place, text in enumerate(sorted({*texts}))}
            _scatter(axes, [places[text] for text in texts], trials)
            axes.set_xticks([*places.values()], [text[:16] for text in places])
            axes.margins(x=0.2)
        else:
            _scatter(axes, given, trials)
            axes.set_xscale(scale)
        axes.set_xlabel(name)
    return figure


def _scatter(axes: Axes, x: Sequence[float], trials: Sequence[Tried]) -> None:
    """Trials that came to their end, and hollow ones that did not."""
    for stopped, colour, label in ((False, PALETTE[0], "trial"), (True, "none", "stopped")):
        points = [(a, t.value) for a, t in zip(x, trials, strict=True) if t.stopped == stopped]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, s=24, facecolor=colour, edgecolor=PALETTE[0], label=label)
