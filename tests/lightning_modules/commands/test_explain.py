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


@pytest.mark.parametrize("network", ["GCN", "GINE"])
def test_weights_and_features_of_edges_are_those_of_the_prediction(
    tmp_path: Path, capsys, monkeypatch, network: str
) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = [f"{i},{i % 3},{'ab'[i % 2]}" for i in range(12)]
    Path("nodes.csv").write_text("\n".join(["id,x,label", *nodes]))
    column = "weight" if network == "GCN" else "length"
    edges = [f"{i},{(i + 1) % 12},{1 + 5 * i}" for i in range(12)]
    Path("edges.csv").write_text("\n".join([f"source,target,{column}", *edges]))
    cli.main(["fit", "--model=NodeClassification", f"--model.network={network}",
              "--data=GraphFromFiles", "--trainer.max_epochs=30", "--trainer.run_name=own",
              "--model.optimizer.lr=0.1", *QUIET])  # fmt: skip
    checkpoint = "runs/own/0/checkpoints/last.ckpt"
    cli.main(["predict", checkpoint, *QUIET])
    rows = next(Path("runs").rglob("predictions.csv")).read_text().splitlines()
    shares = [float(each) for each in rows[1].split(",")[-2:]]
    capsys.readouterr()
    cli.main(["explain", checkpoint, "--node", "0", "--epochs", "3"])
    assert f", {max(shares):.1%};" in capsys.readouterr().out


def test_another_objective_is_refused(tmp_path: Path, capsys) -> None:
    last = run(CASES["classification"], tmp_path).last
    with pytest.raises(SystemExit):
        cli.main(["explain", str(last), "--node", "1"])
    assert "holds a Classification, not a NodeClassification" in capsys.readouterr().err
