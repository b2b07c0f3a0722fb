"""Runs side by side are those one after the other, and stopping them loses none that is done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from work_of_jobs import squared

from trellis.lightning_modules.commands import reproduce
from trellis.lightning_modules.commands.jobs import Jobs
from trellis.lightning_modules.commands.journal import Journal
from trellis.lightning_modules.commands.ledger import Row

SCRIPT = """
import sys
from pathlib import Path
from trellis.lightning_modules.commands import reproduce
from trellis.lightning_modules.commands.jobs import Jobs
from trellis.lightning_modules.commands.ledger import Row

if __name__ == "__main__":
    row = Row("karate", str(Path("karate.yaml").resolve()), "test/loss", "nobody")
    with Jobs(2, reproduce.measured_alone) as jobs:
        print(reproduce.reproduce(row, 3, jobs)[0]["values"])
"""


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    config = "trainer: {max_epochs: 6}\nmodel: NodeClassification\ndata: KarateClub\n"
    (tmp_path / "karate.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    return Row("karate", str(tmp_path / "karate.yaml"), "test/loss", "nobody")


def test_tasks_are_shared_and_workers_kept() -> None:
    made: dict[int, str] = {}
    done: dict[int, int] = {}
    with Jobs(2, squared) as jobs:
        for tasks in ([0, 1, 2, 3], [4]):
            jobs.run(tasks, made.__setitem__, done.__setitem__)
        assert len(jobs._workers) == 2
    assert done == {task: task * task for task in range(5)}
    assert made == {task: f"squaring {task}" for task in range(5)}


@pytest.mark.parametrize(
    ("bad", "message"), [(5, "5: five is right out"), (7, "7: its process ended")]
)
def test_a_task_that_fails_ends_the_call(bad: int, message: str) -> None:
    done: dict[int, int] = {}
    with Jobs(1, squared) as jobs, pytest.raises(RuntimeError, match=message):
        jobs.run([2, bad, 3], lambda *_: None, done.__setitem__)
    assert done == {2: 4}


def test_no_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="jobs=0: give at least 1"):
        Jobs(0, squared)


@pytest.mark.long
def test_seeds_side_by_side_measure_what_they_measure_in_turn(row: Row) -> None:
    in_turn, journal = reproduce.reproduce(row, 2)
    journal.close()
    with Jobs(2, reproduce.measured_alone) as jobs:
        together, journal = reproduce.reproduce(row, 2, jobs)
    assert together["values"] == in_turn["values"]
    assert set(journal.done) == {"seed 0", "seed 1"}
    assert journal.checkpoint("seed 0") is None


def started(tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "script.py"], text=True, stdout=subprocess.PIPE, start_new_session=True,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def kept_in(tmp_path: Path) -> dict[str, Any]:
    """Results in the journal."""
    path = tmp_path / "runs/reproduce/karate.json"
    key = json.loads(path.read_text())["key"] if path.is_file() else ""
    return Journal(path, key).done


@pytest.mark.long
@pytest.mark.parametrize("whom", ["group", "first"])
def test_ctrl_c_keeps_what_is_done_and_goes_on_from_there(
    row: Row, tmp_path: Path, whom: str
) -> None:
    path = Path(row.config)
    path.write_text(path.read_text().replace("max_epochs: 6", "max_epochs: 400"))
    process = started(tmp_path)
    end = time.monotonic() + 120
    while not (done := kept_in(tmp_path)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    if whom == "group":  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (1, -signal.SIGINT, 143), error
    kept = kept_in(tmp_path)
    assert kept.items() >= done.items()

    again = started(tmp_path)
    output, error = again.communicate(timeout=120)
    assert again.returncode == 0, error
    in_turn = [reproduce._value(reproduce.Run(row, seed, 3, None), None, lambda _: None,
                                progress_bar=False) for seed in range(3)]  # fmt: skip
    assert output.strip().endswith(str(in_turn))
