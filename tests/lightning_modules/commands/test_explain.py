"""``trellis explain``: a node of a trained graph, and what it refuses."""

from pathlib import Path

import pytest
from learning_cases import CASES, run

from trellis.lightning_modules import cli

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")


def test_a_node_of_the_karate_club(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["fit", "--model=NodeClassification", "--data=KarateClub", "--trainer.max_epochs=5",
              "--trainer.run_name=club", *QUIET])  # fmt: skip
    checkpoint = "runs/club/0/checkpoints/last.ckpt"
    capsys.readouterr()
    cli.main(["explain", checkpoint, "--node", "11", "--epochs", "5"])
    out = capsys.readouterr().out
    assert out.startswith("node 11: ")
    assert "0 -> 11" in out  # its only neighbour
    assert Path("explanation_11.png").read_bytes().startswith(b"\x89PNG")
    for node, message in (("11", "exists: name another file"), ("34", "give one of 0 to 33")):
        with pytest.raises(SystemExit):
            cli.main(["explain", checkpoint, "--node", node])
        assert message in capsys.readouterr().err


def test_another_objective_is_refused(tmp_path: Path, capsys) -> None:
    last = run(CASES["classification"], tmp_path).last
    with pytest.raises(SystemExit):
        cli.main(["explain", str(last), "--node", "1"])
    assert "holds a Classification, not a NodeClassification" in capsys.readouterr().err
