"""Packages of an extra that are not installed: one line names the extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from trellis.lightning_modules.commands import extras
from trellis.lightning_modules.commands.extras import missing_extra

# What a command line meets without a package, and the extra that has it.
WITHOUT = '''
import importlib.metadata as metadata
import sys

class Missing:
    """Finds nothing of a package, as if it had never been installed."""
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PACKAGES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def absent(function):
    def look(name, *args):
        if name in PACKAGES:
            raise metadata.PackageNotFoundError(name)
        return function(name, *args)
    return look

PACKAGES = sys.argv[1].split(",")
sys.meta_path.insert(0, Missing())
metadata.version, metadata.distribution = map(absent, (metadata.version, metadata.distribution))
from trellis.lightning_modules import cli
cli.main(sys.argv[2:])
'''
GRAPH = ["fit", "--model=NodeClassification", "--data=KarateClub", "--trainer.max_epochs=1"]
PAIRS = ["fit", "--model=SequenceToSequence", "--model.network=TransformerSeq2Seq",
         "--data=DateFormats"]  # fmt: skip
RUNS = {
    "wandb": ("wandb", [*GRAPH, "--trainer.logger=WandbLogger"], "wandb"),
    "tensorboard": (
        "tensorboard,tensorboardX",
        [*GRAPH, "--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=."],
        "tensorboard",
    ),
    "gymnasium": ("gymnasium", ["fit", "--model=DQN", "--data=EnvironmentReplay"], "rl"),
    "play": ("gymnasium", ["play", "some.ckpt"], "rl"),
    "tokenizers": (
        "tokenizers",
        [*PAIRS[:3], "--data=ParallelText", "--data.train=[a,a]", "--data.val=[a,a]",
         "--data.tokenizer=BPETokenizer", "--data.tokenizer.num_tokens=270"],
        "text",
    ),
    "matplotlib": ("matplotlib", ["demo"], "viz"),
    "mlflow": ("mlflow", [*GRAPH, "--trainer.logger=MLFlowLogger"], "mlflow"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("No module named 'wandb'", "wandb"),
        ("No module named 'matplotlib.figure'", "viz"),
        ("import of gymnasium halted; None in sys.modules", "rl"),
        (
            "Requirement 'wandb>=0.12' not met. HINT: Try `pip install -U 'wandb'`",
            "wandb",
        ),
        ("Requirement 'tensorboardX' not met. Requirement 'tensorboard' not met.", "tensorboard"),
        ("No module named 'sacrebleu'", "text"),
        ("Requirement 'mlflow>=1.0.0' not met. HINT: Try `pip install -U 'mlflow'`", "mlflow"),
        ("No module named 'onnxscript'", "export"),
        ("No module named 'safetensors'", "export"),
        ("No module named 'mine'", None),
        ("CUDA error", None),
    ],
)
def test_the_extra_of_a_package(text: str, extra: str | None) -> None:
    advice = missing_extra(text)
    assert advice is None if extra is None else f"pip install 'torch-trellis[{extra}]'" in advice


def test_run_from_sources_it_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise extras.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", unknown)
    assert missing_extra("No module named 'wandb'") is None


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_a_command_without_a_package_names_its_extra(name: str, tmp_path: Path) -> None:
    packages, words, extra = RUNS[name]
    (tmp_path / "a").write_text("ein mann\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, packages, *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert f"pip install 'torch-trellis[{extra}]'" in line.replace('"', "'")
    assert len(line) < 160
