"""Checkpoints that released versions wrote still open, and still say the same."""

from pathlib import Path

import pytest

import trellis
from trellis.datamodules.graph.karate_club import KarateClub

# A GCN of width 4 on the karate club after 50 epochs, and what it reached when it was written.
RELEASES = {"0.1.0": 0.9468309879302979}
FOLDER = Path(__file__).parent / "releases"


def test_every_release_is_kept() -> None:
    assert {path.stem for path in FOLDER.glob("*.ckpt")} == set(RELEASES)
    assert trellis.__version__ in RELEASES


@pytest.mark.parametrize("version", RELEASES)
def test_a_release_opens_evaluates_and_resumes(version: str, tmp_path: Path) -> None:
    path = FOLDER / f"{version}.ckpt"
    objective, data = trellis.load(path), KarateClub()
    trainer = trellis.Trainer(
        max_epochs=52, default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    (result,) = trainer.test(objective, datamodule=data, verbose=False)
    assert result["test/loss"] == pytest.approx(RELEASES[version], abs=1e-5)
    assert not objective.network.training
    trainer.fit(objective, datamodule=data, ckpt_path=path)
    assert objective.network.training, "loaded for use, trained with dropout all the same"
    assert trainer.global_step == 52
