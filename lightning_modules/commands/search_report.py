"""What a search has found: a table, a picture, and the best config."""

import csv
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trellis.analysis.searches import Scale, Tried, search_picture
from trellis.files import atomic_write_text
from trellis.lightning_modules.commands.search_space import shown, words

# Kind of a parameter -> the axis of its picture.
SCALES: dict[str, Scale] = {
    "log_uniform": "log",
    "uniform": "linear",
    "int": "linear",
    "choices": "choices",
}
SHOWN = 10  # trials in the table that is printed; the file has all


def report(search: Any) -> None:
    """Print the best trials; write ``trials.csv``, ``search.png`` and ``best.yaml``.

    Args:
        search: a ``Search`` whose trials have been run.
    Raises:
        ValueError: no trial has a value.
    """
    done = [trial for trial in search.tried() if trial.state.name == "COMPLETE"]
    if not done:
        raise ValueError(f"{search.folder}: no trial has come to its end")
    sign = 1 if search.about["mode"] == "min" else -1
    others = [trial for trial in search.tried() if trial.state.name != "COMPLETE"]
    ordered = sorted(done, key=lambda trial: sign * trial.value) + others
    columns, rows = _table(search, ordered)
    _write_csv(search.folder / "trials.csv", columns, rows)
    print(_printed(columns, rows[:SHOWN]))
    best = ordered[0]
    path = search.folder / "best.yaml"
    atomic_write_text(path, _best_config(search, best))
    print(f"search: {search.folder}")
    if find_spec("matplotlib") is not None:
        print(f"picture: {_picture(search)}")
    print(f"best: {search.about['metric']} {best.value:.6g}\nnext: trellis fit --config {path}")


def _table(search: Any, trials: list[Any]) -> tuple[list[str], list[list[str]]]:
    names = [each.name for each in search.space.parameters]
    columns = ["trial", search.about["metric"], *names, "seconds", "state"]
    rows = []
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.6g}"
        given = [shown(trial.params.get(name, "")) for name in names]
        state = trial.user_attrs.get("error") or trial.state.name.lower()
        seconds = f"{trial.user_attrs.get('seconds', 0):.1f}"
        rows.append([str(trial.number), value, *given, seconds, state])
    return columns, rows


def _printed(columns: list[str], rows: list[list[str]]) -> str:
    short = [column.removeprefix("model.") for column in columns]
    clipped = [[cell[:40] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(short, *clipped, strict=True)]
    lines = [short, *clipped]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _write_csv(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    atomic_write_text(path, text.getvalue())


def _best_config(search: Any, best: Any) -> str:
    """What ``trellis fit --config`` takes, with all defaults written out."""
    from trellis.lightning_modules.commands.run import quieten
    from trellis.lightning_modules.commands.search_trial import Parsed

    quieten(all_news=True)
    setting = words(search.space.chosen(best.params))
    cli: Any = Parsed([*search.about["words"], *setting], run=False)
    found = f"{search.about['metric']} {best.value:.6g}"
    return f"# {found}, trial {best.number} of {search.folder}\n{cli.dumped()}"


def _picture(search: Any) -> Path:
    space, about = search.space, search.about
    scales = {each.name: SCALES[each.kind] for each in space.parameters}
    trials = [
        Tried(each.number, each.value, space.chosen(each.params), each.state.name == "PRUNED")
        for each in search.tried()
        if each.value is not None
    ]
    path: Path = search.folder / "search.png"
    search_picture(trials, about["metric"], about["mode"], scales).savefig(path)
    return path
