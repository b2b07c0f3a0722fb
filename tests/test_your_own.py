"""The page for users with code of their own: its commands run in a folder with its files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "your_own.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for each, text in found if each == language]


COMMANDS = [block.strip() for block in blocks("") if block.startswith("trellis ")]
QUIET = "--trainer.enable_progress_bar=false --trainer.enable_model_summary=false"
# One after the other in one process, which imports torch once.
ALL = """
import shlex, sys
from trellis.lightning_modules.cli import main
for line in sys.argv[1:]:
    main(shlex.split(line)[1:])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds what the page says, and nothing else."""
    (tmp_path / "lab.py").write_text(blocks("python")[0], encoding="utf-8")
    (tmp_path / "corridor.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    return tmp_path


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def quietly(command: str) -> str:
    return command if " play " in command else f"{command} {QUIET}"


def check(text: str, folder: Path) -> None:
    """The four commands have run, and learnt what there is to learn."""
    assert text.count("run: ") == 3
    saved = torch.load(
        folder / "runs" / "fit_wave" / "0" / "checkpoints" / "last.ckpt", weights_only=True
    )
    assert saved["hyper_parameters"]["_class_path"] == "lab.Fit"
    assert saved["hyper_parameters"]["width"] == 16
    assert saved["datamodule_hyper_parameters"]["points"] == 256
    # Six steps to the right, of which the last is rewarded: half of 1 - 5 * 0.1.
    assert "lab:Corridor-v0: return 0.25 +- 0 (5 episodes, 0.25 to 0.25), 6 steps each" in text


def test_the_page_has_four_commands() -> None:
    assert len(COMMANDS) == 4


@pytest.mark.long
def test_the_commands_run_from_another_folder(folder: Path) -> None:
    last = "trellis test runs/fit_wave/0/checkpoints/last.ckpt --import lab"
    lines = [*map(quietly, COMMANDS), f"{last} {QUIET}"]
    text = run([sys.executable, "-c", ALL, *lines], folder)
    check(text, folder)
    (loss,) = re.findall(r"test/loss +│? *([\d.e-]+)", text)
    assert float(loss) < 0.05, "the variance of the wave is 0.52"


@pytest.mark.long
def test_the_commands_run_one_by_one(folder: Path) -> None:
    words = [[sys.executable, "-m", *quietly(command).split()] for command in COMMANDS]
    check("".join(run(each, folder) for each in words), folder)
