"""The trellis command: its answers, its exit codes, its files."""

import json
import logging
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from trellis import load
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules import cli

FIT = ["fit", "--model", "NodeClassification", "--data", "KarateClub",
       "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
       "--trainer.log_every_n_steps=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Lightning's log handler keeps the stderr of the test that imported it.
    monkeypatch.setattr(logging, "raiseExceptions", False)


def trellis(*words: str) -> None:
    cli.main(list(words))


def failing(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Error text of a command that must end with exit code 2 and without a traceback."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    text = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if "error" in line or "did you" in line]) <= 2
    return text


def test_help_and_list_answer_at_once() -> None:
    for words in (["--help"], ["list"], ["list", "networks", "GCN"], ["fit", "--help"]):
        start = os.times()
        code = f"from trellis.lightning_modules.cli import main; main({words!r})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        end = os.times()  # the child's processor time: a busy machine changes nothing
        assert sum(end[2:4]) - sum(start[2:4]) < 1.0
        assert "GCN" in done.stdout or "fit" in done.stdout


def test_a_size_that_data_refuses_is_named_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ("--data=SyntheticDensities", "--data.batch_size=0")
    model = ("--model=DensityEstimation", "--model.network=NSF")
    text = failing(capsys, "fit", *model, *data)
    assert text.splitlines()[-1] == "trellis fit: error: batch_size=0: give at least 1"


def test_list_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    trellis("list")
    text = capsys.readouterr().out
    for word in ("GCN", "NodeClassification", "Planetoid", "graph/gcn_cora.yaml", "gcn-cora"):
        assert word in text
    names = [line.split()[0] for line in text.splitlines()]
    assert {"GPT", "RecurrentTagger", "TransformerSeq2Seq", "Multi30k", "DateFormats"} <= {*names}
    assert {"NSF", "VAE", "DCGANGenerator", "MLPAutoencoder", "ActorCriticNetwork"} <= {*names}
    parts = {"AlignedTexts", "SyntheticPairs", "Objective", "Layered", "Translator"}
    assert not parts & {*names}, "not to be used as is"


def test_fit_writes_a_new_run_each_time_and_says_what_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for version in ("0", "1"):
        trellis(*FIT, "--trainer.max_epochs=3")
        run = tmp_path / "runs" / "nodeclassification_karateclub" / version
        files = {path.name for path in run.rglob("*") if path.is_file()}
        assert {"config.yaml", "metrics.csv", "best.ckpt", "last.ckpt"} <= files
        assert not [name for name in files if name.startswith(".")], "temporary files left"
        text = capsys.readouterr().out
        assert f"next: trellis test --ckpt_path runs/{run.parent.name}/{version}" in text


def test_the_saved_config_gives_the_same_run_again(tmp_path: Path) -> None:
    trellis(*FIT, "--trainer.max_epochs=5", "--seed_everything=3")
    first = tmp_path / "runs" / "nodeclassification_karateclub" / "0"
    trellis("fit", "--config", str(first / "config.yaml"))
    second = first.parent / "1"
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()
    a, b = (torch.load(run / "checkpoints" / "last.ckpt") for run in (first, second))
    assert all(torch.equal(value, b["state_dict"][key]) for key, value in a["state_dict"].items())


def test_a_checkpoint_is_enough_to_test_validate_and_predict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trellis(*FIT, "--trainer.max_epochs=3", "--model.network=GraphSAGE")
    best = "runs/nodeclassification_karateclub/0/checkpoints/best.ckpt"
    for command in ("test", "validate", "predict"):
        trellis(command, "--ckpt_path", best)
    assert "test/accuracy" in capsys.readouterr().out


def test_predictions_are_written_under_the_names_of_the_classes(tmp_path: Path) -> None:
    trellis("fit", "--model", "Classification", "--data", "Digits", "--trainer.max_epochs=1",
            "--trainer.enable_progress_bar=false")  # fmt: skip
    best = "runs/classification_digits/0/checkpoints/best.ckpt"
    trellis("predict", "--ckpt_path", best)
    (path,) = (tmp_path / "runs").rglob("predictions.csv")
    header, *rows = path.read_text().split()
    assert header == "0,1,2,3,4,5,6,7,8,9"
    written = torch.tensor([[float(cell) for cell in row.split(",")] for row in rows])
    data = Digits()
    data.setup()
    x = torch.cat([x for x, _ in data.test_dataloader()])
    torch.testing.assert_close(written, load(best)(x).softmax(-1))


@pytest.mark.long
def test_predictions_of_sequences_are_rows_of_their_lengths(tmp_path: Path) -> None:
    """The last window of a text is shorter."""
    (tmp_path / "my text.txt").write_text("to be or not to be, that is the question. " * 12)
    trellis("fit", "--model", "CausalLM", "--data", "TinyShakespeare", "--data.path",
            str(tmp_path / "my text.txt"), "--data.context=16", "--trainer.max_epochs=1",
            "--model.network=GPT", "--model.network.context=16", "--model.network.embed_dim=8",
            "--trainer.enable_progress_bar=false")  # fmt: skip
    trellis("predict", "--ckpt_path", "runs/causallm_tinyshakespeare/0/checkpoints/best.ckpt")
    (path,) = (tmp_path / "runs").rglob("predictions.csv")
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    assert header == [str(place) for place in range(16)]
    # The last tenth has 51 characters: the first is not predicted.
    assert [len(row) for row in rows] == [16, 16, 16, 2]
    assert all(float(cell) < 0 for row in rows for cell in row)


def test_what_is_typed_beats_the_checkpoint(tmp_path: Path) -> None:
    trellis(*FIT, "--trainer.max_epochs=2", "--model.optimizer=Adam",
            "--model.optimizer.lr=0.01")  # fmt: skip
    last = "runs/nodeclassification_karateclub/0/checkpoints/last.ckpt"
    with pytest.warns(UserWarning, match="lr=0.01 of the checkpoint instead of 0.77"):
        trellis("fit", "--ckpt_path", last, "--trainer.max_epochs=4",
                "--model.optimizer.lr=0.77", "--trainer.enable_progress_bar=false")  # fmt: skip
    saved = yaml.safe_load(
        (tmp_path / "runs/nodeclassification_karateclub/1/config.yaml").read_text()
    )
    assert saved["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.77
    assert saved["model"]["init_args"]["network"]["class_path"] == "trellis.networks.graph.GCN"


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "hidden_channels", "dropout"),
    [
        (["--model.network=GAT"], 8, 0.6),
        (["--model.network.hidden_channels=12", "--model.network=GAT"], 12, 0.6),
        (["--model.network=GAT", "--model.network.dropout=0.1"], 8, 0.1),
    ],
)
def test_another_class_starts_from_its_own_defaults(
    words: list[str], hidden_channels: int, dropout: float, tmp_path: Path
) -> None:
    trellis(*FIT, "--trainer.max_epochs=1", *words)
    (config,) = tmp_path.rglob("config.yaml")
    network = yaml.safe_load(config.read_text())["model"]["init_args"]["network"]
    assert network["class_path"] == "trellis.networks.graph.GAT"
    assert network["init_args"]["hidden_channels"] == hidden_channels
    assert network["init_args"]["dropout"] == dropout


def test_init_from_takes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    trellis(*FIT, "--trainer.max_epochs=5")
    runs = tmp_path / "runs" / "nodeclassification_karateclub"
    last = runs / "0" / "checkpoints" / "last.ckpt"
    trellis(*FIT, "--trainer.max_epochs=1", "--init_from", str(last), "--model.optimizer=SGD",
            "--model.optimizer.lr=0.0")  # fmt: skip
    old, new = torch.load(last), torch.load(runs / "1" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(v, new["state_dict"][k]) for k, v in old["state_dict"].items())
    assert new["global_step"] == 1


def test_configs_are_layered_left_to_right(tmp_path: Path) -> None:
    base = {
        "model": {"class_path": "NodeClassification"},
        "data": {"class_path": "KarateClub"},
        "trainer": {"max_epochs": 1, "enable_progress_bar": False},
    }
    Path("base.yaml").write_text(yaml.safe_dump(base))
    Path("more.yaml").write_text(yaml.safe_dump({"trainer": {"max_epochs": 2}}))
    trellis("fit", "--config", "base.yaml", "--config", "more.yaml")
    saved = yaml.safe_load((tmp_path / "runs" / "more" / "0" / "config.yaml").read_text())
    assert saved["trainer"]["max_epochs"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], "did you mean fit"),
        (["fit", "--config", "configs/graph/gcn_crra.yaml"], "did you mean .*gcn_cora.yaml"),
        ([*FIT, "--trainer.max_epohcs=3"], "did you mean --trainer.max_epochs"),
        ([*FIT, "--model.network.hiden_channels=3"], "hiden_channels.*not accepted|unrecog"),
        (["fit", "--model", "NodeClasification"], "did you mean NodeClassification"),
        ([*FIT, "--data", "Karateclub"], "did you mean KarateClub"),
        ([*FIT, "--model.network=GCNN"], "did you mean GCN"),
        ([*FIT, "--model.network.hidden_channels=abc"], "hidden_channels.*int.*abc"),
        ([*FIT, "--data", "Digits"], "NodeClassification learns from data with a NodeSpec"),
        ([*FIT, "--model.network=LeNet5"], "NodeClassification calls network"),
        ([*FIT, "--model.spec.in_channels=7", "--model.spec.out_channels=4"], "in_channels: 7"),
        (["test", "--ckpt_path", "nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["reproduce", "gcn-croa"], "did you mean gcn-cora"),
        ([*FIT, "--trainer.accelerator=gpu"], "gpu"),
        ([*FIT, "--trainer.precision=8"], "precision.: 8: give one of 64.*'bf16-mixed'"),
    ],
)
def test_bad_input_is_answered_in_a_line_or_two(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", ["trellis", *words])
    assert re.search(message, " ".join(failing(capsys, *words).split()))
    assert not list(tmp_path.rglob("*.ckpt")), "nothing half-written"


def test_missing_data_says_where_to_put_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRELLIS_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    text = failing(capsys, "fit", "--config", "graph/gcn_cora.yaml")
    assert "ind.cora.x" in text
    assert str(tmp_path / "none" / "Planetoid" / "Cora" / "raw") in text


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("lacking", "import torch\nimport nothere\n", r"lacking.py, line 2: .*No module.*nothere"),
        ("crooked", "x = 1\nclass Net(:\n", r"crooked.py, line 2: SyntaxError"),
        ("dividing", "\n\n1 / 0\n", r"dividing.py, line 3: ZeroDivisionError"),
        ("empty", "class Nett: pass\n", r"module empty has no Net; did you mean Nett"),
        ("absent", None, "there is no module absent"),
    ],
)
def test_the_error_of_a_users_module_is_told(
    name: str, code: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if code is not None:
        Path(f"{name}.py").write_text(code)
    said = failing(capsys, *FIT, f"--model.network={name}.Net")
    assert re.search(message, said), said
    Path("own.yaml").write_text(f"model: {{init_args: {{network: {{class_path: {name}.Net}}}}}}")
    assert re.search(message, failing(capsys, *FIT, "--config=own.yaml"))


def test_a_class_of_the_working_folder_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("at_hand.py").write_text("from trellis.networks.graph import GCN\nclass Net(GCN): pass\n")
    trellis(*FIT, "--model.network=at_hand.Net", "--trainer.fast_dev_run=true")
    assert sys.modules["at_hand"].Net.__module__ == "at_hand"


def test_a_wrong_option_of_a_class_is_answered_with_a_right_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*FIT, "--model.network=GCN", "--model.network.hiden_channels=3"]
    monkeypatch.setattr(sys, "argv", ["trellis", *words])
    said = failing(capsys, *words)
    assert "did you mean --hidden_channels?" in said
    assert "--help" not in said


def test_a_missing_package_of_a_logger_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("comet_ml") is not None:
        pytest.skip("nothing is missing")
    said = failing(capsys, *FIT, "--trainer.logger=CometLogger")
    assert "CometLogger cannot be made: Requirement 'comet-ml" in said
    assert "pip install" in said


def offline(*args: object, **options: object) -> None:
    from urllib.error import URLError

    raise URLError("no network")


def test_a_broken_config_names_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.yaml").write_text("model: [\n")
    assert "broken.yaml is no valid YAML" in failing(capsys, "fit", "--config", "broken.yaml")


def test_two_runs_at_once_never_share_a_folder(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from trellis.lightning_modules.engine.run_folder import RunFolder

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: RunFolder(tmp_path / "runs", "same").path, range(40)))
    assert len(set(paths)) == 40


def test_reproduce_prints_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                               tmp_path: Path) -> None:  # fmt: skip
    """A row over the smallest graph, through the same code as the published ones."""
    from trellis.lightning_modules.commands import reproduce
    from trellis.lightning_modules.commands.ledger import Row

    config = tmp_path / "karate.yaml"
    config.write_text("trainer: {max_epochs: 30}\nmodel: NodeClassification\ndata: KarateClub\n")
    row = Row("karate", "karate.yaml", "test/accuracy", "nobody", published=100.0, within=60.0,
              scale=100.0)  # fmt: skip
    monkeypatch.setattr(reproduce, "ledger", lambda: {"karate": row})
    monkeypatch.setattr(reproduce, "configs_dir", lambda: tmp_path)
    trellis("reproduce", "karate", "--seeds", "2", "--json")
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert list(result) == ["name", "config", "metric", "published", "mean", "std", "values",
                            "seeds", "minutes", "verdict", "commit", "parameters"]  # fmt: skip
    assert result["parameters"] > 0
    assert result["mean"] == pytest.approx(sum(result["values"]) / 2)
    assert result["verdict"] == "confirmed"
    assert result["seeds"] == 2


def test_it_ends_silently_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as stop:
            trellis("list")
        assert stop.value.code == 141
        pipe.flush()  # what Python does at its end
