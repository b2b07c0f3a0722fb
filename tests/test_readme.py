"""What the README says to type works as it stands."""

import csv
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from trellis.lightning_modules import cli

README = Path(__file__).parents[1] / "README.md"


def blocks(section: str) -> list[str]:
    """The code of a section, block by block."""
    text = README.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    return re.findall(r"^```\w*\n(.*?)^```$", text.partition("\n## ")[0], re.DOTALL | re.MULTILINE)


def typed(block: str) -> list[list[str]]:
    """The command lines of a block, split into words as a shell does."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_your_own_graph(capsys: pytest.CaptureFixture[str]) -> None:
    edges, nodes, commands, explain, links = blocks("Your own graph")
    Path("edges.csv").write_text(edges, encoding="utf-8")
    Path("nodes.csv").write_text(nodes, encoding="utf-8")
    table = list(csv.DictReader(nodes.splitlines()))
    for words in typed(commands):
        cli.main([*words, "--trainer.enable_progress_bar=false"])
    predictions = re.findall(r"^predictions: (.*)$", capsys.readouterr().out, re.MULTILINE)
    (path,) = map(Path, predictions)
    predicted = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row.pop("id") for row in predicted] == [row["id"] for row in table]
    assert set(predicted[0]) == {row["label"] for row in table} - {""}
    assert "" in {row["label"] for row in table}
    best = [max(row, key=lambda name: float(row[name])) for row in predicted]
    trained = [number for number, row in enumerate(table) if row["split"] == "train"]
    assert [best[number] for number in trained] == [table[number]["label"] for number in trained]
    cli.main(typed(explain)[0])
    assert "node finn: " in capsys.readouterr().out
    assert Path("explanation_finn.png").is_file()
    for words in typed(links):
        cli.main([*words, "--trainer.enable_progress_bar=false", "--trainer.max_epochs=2"])
    assert [*Path("runs").glob("linkprediction_edgesplit/0/checkpoints/best.ckpt")]


@pytest.mark.long
def test_your_own_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    houses, new, commands = blocks("Your own table")
    Path("houses.csv").write_text(houses, encoding="utf-8")
    Path("new.csv").write_text(new, encoding="utf-8")
    fit, from_file, from_pipe = typed(commands)
    cli.main([*fit, "--trainer.enable_progress_bar=false"])
    Path("houses.csv").unlink()
    cli.main([*from_file, "--trainer.enable_progress_bar=false"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(new.encode())))
    cli.main(["predict", *from_pipe[from_pipe.index("predict") + 1 :]])
    predictions = re.findall(r"^predictions: (.*)$", capsys.readouterr().out, re.MULTILINE)
    first, second = (Path(path).read_text(encoding="utf-8") for path in predictions)
    assert first == second
    rows = list(csv.DictReader(first.splitlines()))
    assert [row["id"] for row in rows] == ["h11", "h12"]
    # 50 a room and 80 for the north, about.
    prices = [float(row["price_mean"]) for row in rows]
    assert prices == pytest.approx([370, 310], rel=0.1)


PYTHON = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.S | re.M)
# Others train on Cora, or open what has been trained.
ALONE = [code for code in PYTHON if "Planetoid" not in code and "runs/" not in code]


def test_there_is_python_to_run() -> None:
    assert ALONE


@pytest.mark.parametrize("number", range(len(ALONE)))
def test_python_runs(number: int) -> None:
    found: dict[str, Any] = {}
    exec(ALONE[number], found)
    # What a comment says of the shape of a value is so.
    for name, shape in re.findall(r"^(\w+) = .*# \[([\d, ]+)\]$", ALONE[number], re.M):
        assert [*found[name].shape] == [int(size) for size in shape.split(",")], name


def test_shapes_are_said_at_all() -> None:
    assert len(re.findall(r"^\w+ = .*# \[[\d, ]+\]$", "".join(ALONE), re.M)) >= 3
