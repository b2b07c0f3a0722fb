"""Every config in two processes: the metrics of one, equal weights, and a bit-equal resume."""

from pathlib import Path
from typing import Any

import pytest
from config_cases import CONFIGS, NAMES, parsed
from pair_of_processes import in_two_processes

pytestmark = [pytest.mark.long, pytest.mark.data]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> dict[str, Any]:
    """What one pair of processes, which starts once, finds for all configs."""
    return in_two_processes("configs", tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_two_processes_are_like_one(path: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    two = found[f"{path.parent.name}/{path.name}"]
    assert "error" not in two, two["error"]
    assert two["differ_after_resume"] == []
    assert two["differ_between_processes"] == []
    # A stream of text is divided by rows: a step of one process is a step of both.
    batches = 2 if path.stem == "lstm_shakespeare" else 4
    cli = parsed(path, tmp_path, f"--trainer.limit_val_batches={batches}")
    (one,) = cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    assert two["metrics"] == pytest.approx(one, rel=1e-5, abs=1e-6)
