"""Searches: what is tried, what is refused, and that one which was killed goes on."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from trellis.lightning_modules import cli
from trellis.lightning_modules.commands.search_space import option_names, read_space, words

optuna = pytest.importorskip("optuna")

KARATE = """
trainer: {max_epochs: 8, log_every_n_steps: 8, accelerator: cpu}
model:
  class_path: NodeClassification
  init_args: {network: {class_path: GCN}, optimizer: {class_path: Adam}}
data: KarateClub
"""
SPACE = """
metric: val/accuracy
mode: max
parameters:
  model.optimizer.lr: {log_uniform: [1e-4, 1e-1]}
  model.network.dropout: {uniform: [0.0, 0.8]}
  model.network.hidden_channels: {int: [4, 32]}
  model.network: {choices: [GCN, GraphSAGE]}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(SPACE)
    Path("karate.yaml").write_text(KARATE)


def search(*line: str) -> None:
    cli.main(["search", *line])


def table(folder: str) -> dict[int, dict[str, str]]:
    with open(Path(folder) / "trials.csv", newline="") as file:
        return {int(row["trial"]): row for row in csv.DictReader(file)}


def tried(folder: str) -> list[list[str]]:
    """What each trial was given and what came of it, in their order."""
    rows = sorted(table(folder).items())
    hidden = ("trial", "seconds")  # a killed trial has taken a number, too
    return [[row[name] for name in row if name not in hidden] for _, row in rows]


@pytest.mark.long
def test_a_search_tries_what_it_may_and_writes_the_best_config(
    capsys: pytest.CaptureFixture[str],
) -> None:
    search("karate.yaml", "--space", "space.yaml", "--trials", "3")
    folder = "runs/karate_search/0"
    out = capsys.readouterr().out
    assert f"next: trellis fit --config {folder}/best.yaml" in out
    assert len(table(folder)) == 3
    for row in table(folder).values():
        assert 1e-4 <= float(row["model.optimizer.lr"]) <= 1e-1
        assert 0 <= float(row["model.network.dropout"]) <= 0.8
        assert 4 <= int(row["model.network.hidden_channels"]) <= 32
    best = max(table(folder).values(), key=lambda row: float(row["val/accuracy"]))
    network = yaml.safe_load(Path(folder, "best.yaml").read_text())["model"]["init_args"][
        "network"
    ]
    assert network["init_args"]["hidden_channels"] == int(best["model.network.hidden_channels"])
    assert network["class_path"].endswith(best["model.network"].strip('"'))
    assert Path(folder, "search.png").stat().st_size > 5000
    # The best config alone gives the same value again: it has the seed, too.
    cli.main(
        [
            "fit",
            "--config",
            f"{folder}/best.yaml",
            "--trainer.run_name=again",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
        ]
    )
    with open("runs/again/0/metrics.csv", newline="") as file:
        values = [
            float(row["val/accuracy"]) for row in csv.DictReader(file) if row["val/accuracy"]
        ]
    assert max(values) == pytest.approx(float(best["val/accuracy"]), abs=1e-5)


@pytest.mark.long
def test_a_search_in_two_parts_is_the_whole_search() -> None:
    search("karate.yaml", "--space=space.yaml", "--trials=2")
    search("karate.yaml", "--space=space.yaml", "--trials=1")
    study = optuna.load_study(
        study_name="search", storage="sqlite:///runs/karate_search/1/study.db"
    )
    study.ask()  # as if the process had been killed in its second trial
    search("--resume", "runs/karate_search/1", "--trials", "2")
    first, second = (tried(f"runs/karate_search/{version}") for version in (0, 1))
    assert len(first) == 2
    assert first == second
    assert sorted(table("runs/karate_search/1")) == [0, 2]


@pytest.mark.long
def test_ctrl_c_ends_the_search_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from trellis.lightning_modules.commands import search_trial

    def interrupted(words: list[str], watch: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_trial, "best_of", interrupted)
    with pytest.raises(SystemExit) as stop:
        search("karate.yaml", "--space=space.yaml", "--trials=1")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert stop.value.code == 130
    assert "trellis search --resume runs/karate_search/0" in capsys.readouterr().err
    search("--resume", "runs/karate_search/0", "--trials", "1")
    assert len(table("runs/karate_search/0")) == 1


def test_without_optuna_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused("karate.yaml", "--space", "space.yaml")
    assert "pip install 'torch-trellis[search]'" in capsys.readouterr().err


@pytest.mark.long
def test_a_killed_search_goes_on() -> None:
    words = [sys.executable, "-m", "trellis", "search", "karate.yaml", "--space", "space.yaml",
             "--trials", "6"]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("trial 2/6"):
            break
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    search("--resume", "runs/karate_search/0", "--trials", "6")
    search("karate.yaml", "--space", "space.yaml", "--trials", "6")
    assert tried("runs/karate_search/0") == tried("runs/karate_search/1")


@pytest.mark.long
def test_one_that_lags_behind_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning rate that learns nothing, after five that learn."""
    from trellis.lightning_modules.commands.search_space import Hyperparameter

    Path("space.yaml").write_text("parameters: {model.optimizer.lr: {uniform: [0, 1]}}")
    rates = iter([0.03, 0.04, 0.05, 0.03, 0.04, 0.0])

    def suggest(self: Hyperparameter, trial: Any) -> float:
        rate = next(rates)
        return trial.suggest_float(self.name, rate, rate)

    monkeypatch.setattr(Hyperparameter, "suggest", suggest)
    search("karate.yaml", "--space=space.yaml", "--trials=6")
    states = [row["state"] for _, row in sorted(table("runs/karate_search/0").items())]
    assert states == ["complete"] * 5 + ["pruned"]
    with open("runs/karate_search/0/trials/5/metrics.csv", newline="") as file:
        epochs = {row["epoch"] for row in csv.DictReader(file)}
    assert len(epochs) == 4, "stopped at the first validation at which that is allowed"


@pytest.mark.long
def test_what_fails_is_told_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.yaml").write_text("parameters:\n  model.network.num_layers: {choices: [0, 2]}\n")
    search("karate.yaml", "--space", "space.yaml", "--trials", "4")
    rows = table("runs/karate_search/0").values()
    failed = [row for row in rows if row["model.network.num_layers"] == "0"]
    assert 0 < len(failed) < 4
    assert all("num_layers=0: give at least 1" in row["state"] for row in failed)
    assert all(row["state"] == "complete" for row in rows if row not in failed)
    assert "num_layers=0" in capsys.readouterr().err


def refused(*line: str) -> None:
    with pytest.raises(SystemExit) as stop:
        search(*line)
    assert stop.value.code == 2
    assert not Path("runs").exists(), "at the door"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{parameters: {model.optimzer.lr: {uniform: [0, 1]}}}", "mean model.optimizer.lr?"),
        ("{parameters: {model.network.width: {int: [1, 2]}}}", "no run has an option model.net"),
        ("{parameters: {model.optimizer.lr: {unifrom: [0, 1]}}}", "did you mean uniform?"),
        ("{parameters: {model.optimizer.lr: {log_uniform: [0, 1]}}}", "give numbers above 0"),
        ("{parameters: {model.optimizer.lr: {uniform: [1, 0]}}}", "the first must be smaller"),
        ("{parameters: {model.network.dropout: {int: [0.1, 2]}}}", "give two whole numbers"),
        ("{parameters: {model.network.hidden_channels: {uniform: [4, 8]}}}", "hidden_channels"),
        ("{parameters: {model.optimizer.lr: {choices: [fast]}}}", "lr"),
        ("{parmeters: {}}", "did you mean parameters?"),
        ("{mode: biggest, parameters: {model.optimizer.lr: {uniform: [0, 1]}}}", "min, max"),
        ("{metric: val/f1, parameters: {model.optimizer.lr: {uniform: [0, 1]}}}", "add mode"),
        ("[]", "give a mapping"),
        ("{", "is no valid YAML"),
    ],
)
def test_a_wrong_space_is_refused_at_the_door(
    space: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.yaml").write_text(space)
    refused("karate.yaml", "--space", "space.yaml")
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["karate.yaml"], "give a CONFIG and --space FILE"),
        (["karate.yaml", "--space", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["gcn_digtis", "--space", "space.yaml"], "did you mean gcn_digits?"),
        (["karate.yaml", "--space", "space.yaml", "--trainer.max_epohcs=3"], "max_epochs"),
        (["karate.yaml", "--space", "space.yaml", "--seeds", "0"], "give at least 1"),
        (["--resume", "nowhere"], "there is no search in this folder"),
        (["--resume", "runs", "--space", "space.yaml"], "leave --space out"),
    ],
)
def test_a_wrong_line_is_refused_at_the_door(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(*line)
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_a_metric_that_no_run_logs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.yaml").write_text(SPACE.replace("val/accuracy", "val/acuracy"))
    with pytest.raises(SystemExit):
        search("karate.yaml", "--space", "space.yaml")
    assert "the run logs val/accuracy, val/loss; did you mean val/acc" in capsys.readouterr().err


@pytest.mark.long
def test_the_same_space_as_a_sweep() -> None:
    search("karate.yaml", "--space=space.yaml", "--sweep=sweep.yaml", "--trainer.max_epochs=3")
    sweep = yaml.safe_load(Path("sweep.yaml").read_text())
    assert not Path("runs").exists()
    assert sweep["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert sweep["parameters"]["model.optimizer.lr"] == {
        "distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1,
    }  # fmt: skip
    assert sweep["parameters"]["model.network"]["values"] == ["GCN", "GraphSAGE"]
    # What an agent would type, with W&B's placeholders filled in.
    given = [f"--{name}={each.get('min', each.get('values', [0])[0])}"
             for name, each in sweep["parameters"].items()]  # fmt: skip
    line = [word for word in sweep["command"] if not word.startswith("${")] + given
    assert line[:2] == ["trellis", "fit"]
    line[line.index("--trainer.logger=WandbLogger")] = "--trainer.fast_dev_run=true"
    cli.main(line[1:])


def test_a_choice_may_be_a_list_and_a_number_without_a_dot(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "parameters:\n  a.b: {choices: [[8], [8, 16], null]}\n  a: {choices: [X]}\n"
        "  c: {uniform: [1e-3, 1e0]}\n"
    )
    space = read_space(tmp_path / "s.yaml")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = {str(space.suggest(study.ask())["a.b"]) for _ in range(20)}
    assert seen == {"[8]", "[8, 16]", "None"}
    assert [each.name for each in space.parameters] == ["a", "c", "a.b"], "classes come first"
    assert words({"a.b": [8, 16], "a": "X", "c": None}) == ["--a.b=[8, 16]", "--a=X", "--c=null"]
    assert space.parameters[1].values == (1e-3, 1.0)


def test_options_are_written_as_they_are_typed() -> None:
    config = {"data": {"class_path": "D", "init_args": {"size": 1, "net": {"class_path": "N"}}}}
    assert [*option_names(config)] == ["data", "data.size", "data.net"]


def test_the_page_names_the_files_that_are_written() -> None:
    page = (Path(__file__).parents[3] / "docs" / "hyperparameters.md").read_text(encoding="utf-8")
    (space,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    Path("space.yaml").write_text(space)
    assert len(read_space(Path("space.yaml")).parameters) == 4
