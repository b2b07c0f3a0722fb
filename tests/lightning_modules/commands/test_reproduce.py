"""An interrupted measurement goes on where it stopped, and measures the same."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from trellis.lightning_modules.commands import reproduce
from trellis.lightning_modules.commands.journal import Journal
from trellis.lightning_modules.commands.ledger import Row
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.networks.generative.flow_autoregressive import MAF
from trellis.spec import TensorSpec


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """A measurement of three seeds on the smallest graph, kept in ``tmp_path``."""
    config = "trainer: {max_epochs: 6}\nmodel: NodeClassification\ndata: KarateClub\n"
    (tmp_path / "karate.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "configs_dir", lambda: tmp_path)
    return Row("karate", "karate.yaml", "test/loss", "nobody")


def complete(row: Row, seeds: int) -> dict[str, Any]:
    """The result of a call that ended."""
    result, journal = reproduce.reproduce(row, seeds)
    journal.close()
    return result


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
    whole = complete(row, 3)
    with monkeypatch.context() as patch:
        watched(patch, PressCtrlC())
        with pytest.raises(SystemExit):
            reproduce.reproduce(row, 3)
    begun = watched(monkeypatch)
    rest = complete(row, 3)
    assert rest["values"] == whole["values"]
    assert [path is not None for path in begun] == [True, False]
    assert "last.ckpt" in str(begun[0])
    assert not (tmp_path / "runs/reproduce/karate.json").exists()


@pytest.mark.long
def test_curves_begin_anew_with_the_run_that_was_interrupted(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(**{**row.__dict__, "metric": "val/loss", "protocol": "curve"})
    whole = complete(row, 2)
    assert [len(curve) for curve in whole["values"]] == [6, 6]
    with monkeypatch.context() as patch:
        watched(patch, PressCtrlC())
        with pytest.raises(SystemExit):
            reproduce.reproduce(row, 2)
    begun = watched(monkeypatch)
    assert complete(row, 2)["values"] == whole["values"]
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


def test_a_stopped_call_of_all_rows_keeps_the_rows_that_are_done(
    row: Row,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {name: dataclasses.replace(row, name=name, seeds=1) for name in ("first", "second")}
    monkeypatch.setattr(reproduce, "ledger", lambda: rows)
    kept: dict[str, Any] = {}
    monkeypatch.setattr(reproduce, "record", lambda result: kept.update({result["name"]: result}))
    with monkeypatch.context() as patch:
        watched(patch, PressCtrlC())  # in the second run, which is that of the second row
        with pytest.raises(SystemExit):
            reproduce.main(["reproduce", "--all", "--record"])
    printed = capsys.readouterr().out
    assert "first: test/loss" in printed
    assert "second" not in printed
    assert list(kept) == ["first"]
    value = kept["first"]["values"]
    begun = watched(monkeypatch)
    reproduce.main(["reproduce", "--all", "--record"])
    assert [path is not None for path in begun] == [True], "only the second row, from last.ckpt"
    assert kept["first"]["values"] == value
    assert list((tmp_path / "runs/reproduce").glob("*.json")) == []


def changed(name: str, value: Any) -> Callable[[Row, pytest.MonkeyPatch], Row]:
    return lambda row, patch: dataclasses.replace(row, **{name: value})


def other_source(row: Row, patch: pytest.MonkeyPatch) -> Row:
    patch.setattr(reproduce, "source_digest", lambda: "edited, not committed")
    return row


def other_config(row: Row, patch: pytest.MonkeyPatch) -> Row:
    path = reproduce.configs_dir() / row.config
    path.write_text(path.read_text() + "seed_everything: 3\n")
    return row


def other_torch(row: Row, patch: pytest.MonkeyPatch) -> Row:
    patch.setattr(reproduce, "version", lambda package: "1.0")
    return row


@pytest.mark.parametrize(
    "change",
    [
        other_source,
        other_config,
        other_torch,
        changed("options", ["--model.init_args.ema=0.5"]),
        changed("metric", "test/accuracy"),
        changed("scale", 100.0),
        changed("protocol", "curve"),
    ],
)
def test_what_other_code_measured_is_measured_again(
    row: Row, monkeypatch: pytest.MonkeyPatch, change: Callable[[Row, pytest.MonkeyPatch], Row]
) -> None:
    key = reproduce._key(row)
    assert reproduce._key(dataclasses.replace(row)) == key
    assert reproduce._key(change(row, monkeypatch)) != key


@pytest.mark.parametrize("value", [1.5, [2.5, 1.5]])
def test_one_run_has_no_standard_deviation(
    row: Row, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    monkeypatch.setattr(reproduce, "_measure", lambda *args: value)
    result = complete(row, 1)
    assert result["std"] is None
    assert "±" not in reproduce._sentence(row, result)
    assert "(1 run)" in reproduce._sentence(row, result)


def test_the_standard_deviation_is_that_of_a_sample(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "_measure", lambda row, seed, *args: [1.0, 3.0, 8.0][seed])
    result = complete(row, 3)
    # Squared distances from 4 are 9, 1 and 16; of a sample their sum is divided by 2, not by 3.
    assert result["std"] == pytest.approx((26 / 2) ** 0.5)
    assert "4 ± 3.6 (3 runs)" in reproduce._sentence(row, result)


def test_a_row_that_nobody_published_is_our_own_measurement(
    row: Row, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "_measure", lambda *args: 3.0)
    rows = {
        "row": dataclasses.replace(row, name="row", seeds=1, at_most=2.0),
        "free": dataclasses.replace(row, name="free", seeds=1),
    }
    monkeypatch.setattr(reproduce, "ledger", lambda: rows)
    with pytest.raises(SystemExit, match="1"):
        reproduce.main(["reproduce", "row"])
    assert "own measurement, outside its own tolerance" in capsys.readouterr().out
    reproduce.main(["reproduce", "free"])
    assert "(nobody): own measurement. " in capsys.readouterr().out


def test_a_row_may_have_several_metrics_of_the_same_runs(row: Row) -> None:
    alone = complete(row, 2)
    both = complete(dataclasses.replace(row, metric="test/accuracy test/loss"), 2)
    assert [loss for _, loss in both["values"]] == alone["values"]
    assert both["mean"][1] == pytest.approx(alone["mean"])
    assert both["std"][1] == pytest.approx(alone["std"])


def test_a_row_may_have_other_folds_than_ten(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "_measure", lambda row, seed, seeds, fold, journal: fold)
    folds = dataclasses.replace(row, protocol="held_out_folds", folds=4)
    assert complete(folds, 1)["values"] == [0, 1, 2, 3]


def test_folds_take_the_one_epoch_that_is_best_on_average(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataclasses.replace(row, protocol="folds")
    # Nine folds have 0.6 in epoch 1, one has 1.0 in epoch 2 and nothing there in the others.
    curves = [[0.5, 0.6, 0.0]] * 9 + [[0.5, 0.2, 1.0]]
    monkeypatch.setattr(
        reproduce, "_measure", lambda row, seed, seeds, fold, journal: curves[fold]
    )
    result = complete(row, 1)
    assert result["values"] == [0.6] * 9 + [0.2]
    assert result["mean"] == pytest.approx(0.56)


def test_the_best_weights_are_tested_not_the_last(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spoil(L.Callback):
        """After the first validation the weights become worse than chance."""

        def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            if trainer.current_epoch == 3:
                with torch.no_grad():
                    for parameter in module.parameters():
                        parameter.fill_(float(parameter.numel()))

    good = complete(row, 1)["values"]
    begun = watched(monkeypatch, Spoil())
    (spoilt,) = complete(row, 1)["values"]
    assert begun == [None]
    assert spoilt < 1.5 * good[0]


def test_a_row_may_start_from_what_another_has_learnt(row: Row) -> None:
    short = {"options": ["--trainer.max_epochs=1"]}
    tuned = dataclasses.replace(
        row, name="tuned", init_from="karate", init_map={"network": "network"}, **short
    )
    with pytest.raises(ValueError, match="trellis reproduce karate comes first"):
        complete(tuned, 1)
    complete(row, 1)
    scratch = complete(dataclasses.replace(row, name="scratch", **short), 1)
    assert complete(tuned, 1)["mean"] < scratch["mean"]


@pytest.mark.parametrize(
    ("targets", "conditional", "timed"),
    [("labels", False, True), ("labels", True, True), ("real", True, False)],
)
def test_facts_are_parameters_and_the_time_of_samples_that_need_nothing_given(
    targets, conditional, timed
) -> None:
    spec = TensorSpec(2, 3, targets=targets)
    objective = DensityEstimation(MAF, spec=spec, conditional=conditional)
    objective.configure_model()
    facts = reproduce._facts(objective)
    assert facts["parameters"] == sum(p.numel() for p in objective.network.parameters())
    assert ("seconds_for_100_samples" in facts) == timed
