"""``trellis predict --input``: new rows, in their order, by what was learnt in training."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from trellis.lightning_modules import cli

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """A checkpoint of a linear model of a table, and its rows; the table itself is gone."""
    folder = tmp_path_factory.mktemp("trained")
    generator = np.random.default_rng(0)
    rows = []
    for number in range(200):
        place, size = generator.choice(["north", "south"]), generator.uniform(20, 120)
        price = 1000 * size + 30000 * (place == "north")
        rows.append({"house": f"h{number}", "place": place, "size": size, "price": price})
    path = written(folder / "houses.csv", rows)
    options = ("--data.target=price", "--data.id=house", "--trainer.max_epochs=60")
    model = ("--model=Regression", "--model.network=MLP", "--model.network.hidden_channels=[]")
    optimizer = ("--model.optimizer=Adam", "--model.optimizer.lr=0.05")
    root = (f"--trainer.default_root_dir={folder}", "--trainer.run_name=houses")
    data = ("--data=Table", f"--data.path={path}")
    cli.main(["fit", *model, *optimizer, *data, *options, *root, *QUIET])
    path.unlink()
    return folder / "houses" / "0" / "checkpoints" / "best.ckpt", rows


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def predicted(folder: Path, checkpoint: Path, given: str) -> list[dict[str, str]]:
    words = ["predict", str(checkpoint), "--input", given, *QUIET, "--data.batch_size=4"]
    cli.main([*words, f"--trainer.default_root_dir={folder}"])
    (path,) = folder.rglob("predictions.csv")
    return list(csv.DictReader(path.open(newline="")))


def test_rows_are_predicted_in_their_order_and_unit(trained, tmp_path: Path) -> None:
    checkpoint, rows = trained
    # Other columns, in another order, without the target: a table is read by names.
    some = [rows[i] for i in (150, 3, 77, 4, 199, 0)]
    new = [{"size": r["size"], "colour": "red", "house": r["house"], "place": r["place"]}
           for r in some]  # fmt: skip
    found = predicted(tmp_path, checkpoint, str(written(tmp_path / "new.csv", new)))
    assert [row["id"] for row in found] == ["h150", "h3", "h77", "h4", "h199", "h0"]
    prices = [float(row["price_mean"]) for row in found]
    assert prices == pytest.approx([row["price"] for row in some], rel=0.02)


def test_rows_come_from_a_pipe(trained, tmp_path: Path, monkeypatch) -> None:
    checkpoint, rows = trained
    text = "place\tsize\nnorth\t100\nsouth\t100\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    first, second = predicted(tmp_path, checkpoint, "-")
    assert (first["id"], second["id"]) == ("0", "1")
    gap = float(first["price_mean"]) - float(second["price_mean"])
    assert gap == pytest.approx(30000, rel=0.02)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("place,siez\nnorth,100\n", r"no column 'size' .*did you mean siez"),
        ("place,size\nnorth,100\nsouth,big\n", r"line 3, column 'size': 'big' is not a finite"),
        ("place,size\nnorth,\n", r"line 2, column 'size': the value is missing"),
        ("1,2,3\n4,5,6\n", r"has 3 columns, but the model was trained on 2 features"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_line(
    trained, tmp_path: Path, capsys, table: str, message: str
) -> None:
    path = tmp_path / "new.csv"
    path.write_text(table)
    with pytest.raises(SystemExit) as stop:
        predicted(tmp_path, trained[0], str(path))
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert stop.value.code == 2
    assert re.search(message, line)


def test_data_without_a_reader_of_new_examples_says_so(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["fit", "--model=Classification", "--data=SyntheticPoints", "--trainer.max_epochs=1",
              "--trainer.run_name=houses", *QUIET])  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(["predict", "runs/houses/0/checkpoints/best.ckpt", "--input", "x.csv", *QUIET])
    assert "SyntheticPoints predicts its test split only" in capsys.readouterr().err
