"""The configs that say where to train are combined with one that says what."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from trellis.lightning_modules.cli import main
from trellis.lightning_modules.commands.command_line import run_name, with_known_configs
from trellis.lightning_modules.commands.ledger import (
    TRAINER_LAYERS,
    configs_dir,
    ledger,
    whole_configs,
)
from trellis.lightning_modules.commands.list import lines

ROOT = Path(__file__).parents[1]
LAYERS = {path.stem: path for path in sorted((configs_dir() / TRAINER_LAYERS).glob("*.yaml"))}


def resolved(layer: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The options of the trainer that a config and a layer make together."""
    with pytest.raises(SystemExit):
        main(["fit", "--config", "gcn_cora", "--config", f"trainer/{layer}", "--print_config"])
    whole: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    assert whole["model"]["class_path"].endswith("NodeClassification")
    options: dict[str, Any] = whole["trainer"]
    return options


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_a_layer_is_combined_with_a_config(layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = resolved(layer, capsys)
    assert options["max_epochs"] == 200, "of the config below"
    for name, value in yaml.safe_load(LAYERS[layer].read_text())["trainer"].items():
        if name != "plugins":
            assert options[name] == value


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_says_what_it_is_for_and_sets_only_the_trainer(layer: str) -> None:
    text = LAYERS[layer].read_text()
    assert text.startswith("# ")
    assert list(yaml.safe_load(text)) == ["trainer"]


def test_layers_are_listed_and_are_no_configs_of_the_ledger() -> None:
    assert not set(LAYERS.values()) & set(whole_configs())
    assert not any(row.config.startswith(TRAINER_LAYERS) for row in ledger().values())
    assert len([line for line in lines("configs") if line.startswith("trainer/")]) == len(LAYERS)


@pytest.mark.parametrize(
    ("layer", "missing"),
    [("gpu", "gpu backend"), ("tpu", "torch_xla")],
)
def test_missing_hardware_is_named_in_one_line(
    layer: str, missing: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "gcn_cora", "--config", f"trainer/{layer}"])
    assert stop.value.code == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("trellis fit: ")]
    assert missing in line
    assert "TRELLIS_TRACEBACK" not in line


def test_a_layer_names_no_run() -> None:
    words = with_known_configs(["--config", "graph/gcn_cora", "--config=trainer/cpu"])
    assert words[1] == str(configs_dir() / "graph/gcn_cora.yaml")
    assert words[3] == str(LAYERS["cpu"])
    assert run_name(words) == "gcn_cora"


def test_the_nearest_short_name_is_said() -> None:
    with pytest.raises(FileNotFoundError, match=r"trainer/dpd; did you mean trainer/ddp"):
        with_known_configs(["--config", "trainer/dpd"])
    with pytest.raises(FileNotFoundError, match=r"no config gcn_crra; did you mean gcn_cora\?"):
        with_known_configs(["--config", "gcn_crra"])


@pytest.mark.long
def test_the_script_for_slurm_is_requeued_and_goes_on(tmp_path: Path) -> None:
    """Beside a stand-in for srun and scontrol: there is no cluster here."""
    stand_ins = {
        "srun": 'shift; exec env SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 "$@"\n',
        "scontrol": 'echo "$@" >> scontrol.txt\n',
        "trellis": f'exec {sys.executable} -m trellis "$@"\n',
    }
    for name, text in stand_ins.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "trellis", "SLURM_NNODES": "1",
        "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NODELIST": "localhost",
        "TRELLIS_SLURM_OPTIONS": "--trainer.accelerator=cpu",
    }  # fmt: skip
    words = [str(ROOT / "docs/slurm.sh"), "--model", "NodeClassification", "--data", "KarateClub"]

    def submit(max_epochs: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*words, f"--trainer.max_epochs={max_epochs}"],
            cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    first = submit(1_000_000)
    runs = tmp_path / "runs/slurm-7"
    end = time.monotonic() + 90
    while not list(runs.glob("*/*/checkpoints/last.ckpt")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)
    # SLURM signals the tasks, not the script.
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 143, output
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"

    (last,) = runs.glob("*/*/checkpoints/last.ckpt")
    second = submit(torch.load(last)["epoch"] + 20)
    output, _ = second.communicate(timeout=60)
    assert "goes on from" in output
    assert second.returncode == 0, output
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 7\n"
