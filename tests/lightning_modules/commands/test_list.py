"""The ledger's table: a standard deviation only of several runs, a verdict only of what it is."""

from pathlib import Path

import pytest

from trellis.lightning_modules.commands import list as module
from trellis.lightning_modules.commands.ledger import Row

ROWS = {
    "one": Row("one", "c.yaml", "test/loss", "paper", published=2.0, within=0.5),
    "own": Row("own", "c.yaml", "test/loss", "ours", at_most=2.0),
    "new": Row("new", "c.yaml", "test/loss", "paper", published=2.0, within=0.5),
}
MEASURED = {
    "one": {"mean": 2.1, "std": 0.0, "values": [2.1], "minutes": 1.0, "verdict": "confirmed"},
    "own": {
        "mean": 1.5,
        "std": 0.25,
        "values": [1.0, 2.0],
        "minutes": 2.0,
        "verdict": "confirmed",
    },
}


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ledger", lambda: ROWS)
    monkeypatch.setattr(module, "measured", lambda: MEASURED)


def test_table() -> None:
    assert module.table().splitlines()[2:] == [
        "| `one` | `test/loss` | 2 | 2.1 (1 run) | confirmed | 1.0 | paper |",
        "| `own` | `test/loss` | - | 1.5 ± 0.25 (2 runs) "
        "| own measurement, within its own tolerance | 2.0 | ours |",
        "| `new` | `test/loss` | 2 | - | - | - | paper |",
    ]


def test_lines() -> None:
    one, own, new = module.ledger_lines()
    assert one.endswith("published 2, within 0.5; measured 2.1 (1 run): confirmed (paper)")
    assert "measured 1.5 ± 0.25 (2 runs): own measurement, within its own tolerance" in own
    assert "never measured" in new


def test_the_table_of_the_readme_is_the_one_of_the_ledger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    readme = Path(__file__).parents[3] / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(readme.read_text(encoding="utf-8"), encoding="utf-8")
    module.write_table(copy)
    assert copy.read_text(encoding="utf-8") == readme.read_text(encoding="utf-8")


def test_the_options_of_one_class() -> None:
    shown = "\n".join(module.details("networks", "GCN"))
    assert shown.startswith("GCN: Graph convolutional network.\nfrom trellis.networks.graph.GCN\n")
    assert "  dropout: float = 0.5\n      probability before each convolution." in shown
    assert "  in_channels: int\n      features of a node." in shown
    assert "learning rate" in "\n".join(module.details("objectives", "NodeClassification"))


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("networks", "GCNN", "networks has no GCNN; did you mean GCN?"),
        ("objectives", "GCN", "objectives has no GCN; it is among networks"),
        ("data", "qqqq", "data has no qqqq; see trellis list data"),
        ("configs", "gcn_crra", "configs has no gcn_crra"),
    ],
)
def test_an_unknown_name_is_answered_with_a_known_one(kind: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        module.details(kind, name)
