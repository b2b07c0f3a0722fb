"""An interrupted measurement goes on where it stopped, and measures the same."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from trellis.lightning_modules.commands import reproduce
from trellis.lightning_modules.commands.journal import Journal
from trellis.lightning_modules.commands.ledger import Row


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """A measurement of three seeds on the smallest graph, kept in ``tmp_path``."""
    config = "trainer: {max_epochs: 6}\nmodel: NodeClassification\ndata: KarateClub\n"
    (tmp_path / "karate.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "configs_dir", lambda: tmp_path)
    return Row("karate", "karate.yaml", "test/loss", "nobody")


class PressCtrlC(L.Callback):
    """At one step of the second run."""

    def __init__(self) -> None:
        self.runs = 0

    def on_train_start(self, *args: Any) -> None:
        self.runs += 1

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if self.runs == 2 and trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def watched(monkeypatch: pytest.MonkeyPatch, *callbacks: L.Callback) -> list[Any]:
    """Checkpoints that runs go on from, one entry a run; ``callbacks`` join every run."""
    make, begun = reproduce._cli, []

    def cli(*args: Any) -> Any:
        made = make(*args)
        made.trainer.callbacks[:0] = callbacks
        fit = made.trainer.fit

        def noted(*args: Any, **options: Any) -> None:
            begun.append(options["ckpt_path"])
            fit(*args, **options)

        made.trainer.fit = noted
        return made

    monkeypatch.setattr(reproduce, "_cli", cli)
    return begun


def test_goes_on_within_the_run_that_was_interrupted(
    row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = reproduce.reproduce(row, 3)
    with monkeypatch.context() as patch:
        watched(patch, PressCtrlC())
        with pytest.raises(SystemExit):
            reproduce.reproduce(row, 3)
    begun = watched(monkeypatch)
    rest = reproduce.reproduce(row, 3)
    assert rest["values"] == whole["values"]
    assert [path is not None for path in begun] == [True, False]
    assert "last.ckpt" in str(begun[0])
    assert not (tmp_path / "runs/reproduce/karate.json").exists()


def test_curves_begin_anew_with_the_run_that_was_interrupted(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(**{**row.__dict__, "metric": "val/loss", "protocol": "curve"})
    whole = reproduce.reproduce(row, 2)
    assert [len(curve) for curve in whole["values"]] == [6, 6]
    with monkeypatch.context() as patch:
        watched(patch, PressCtrlC())
        with pytest.raises(SystemExit):
            reproduce.reproduce(row, 2)
    begun = watched(monkeypatch)
    assert reproduce.reproduce(row, 2)["values"] == whole["values"]
    assert begun == [None]


def test_another_measurement_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    first = Journal(path, "a")
    first.finish("seed 0", 1.5)
    first.spend(30)
    assert Journal(path, "a").done == {"seed 0": 1.5}
    assert Journal(path, "a").seconds == 30
    assert Journal(path, "b").done == {}
    path.write_text("{")
    assert Journal(path, "a").done == {}


def test_a_run_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "row.json", "a")
    journal.begin("seed 0", tmp_path / "run")
    assert journal.checkpoint("seed 0") is None
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    assert journal.checkpoint("seed 0") == last
    assert journal.checkpoint("seed 1") is None
    assert json.loads((tmp_path / "row.json").read_text())["key"] == "a"
