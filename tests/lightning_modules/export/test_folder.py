"""What trellis export writes: read back, run elsewhere, refused where it would be wrong."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from torch import nn

import trellis
from trellis.lightning_modules import cli
from trellis.lightning_modules.export import folder as exporting
from trellis.lightning_modules.graph import GraphRegression, NodeClassification
from trellis.lightning_modules.sequence import MaskedLM, SequenceClassification
from trellis.lightning_modules.vector import Classification
from trellis.networks.graph import GCN, GINE, GraphNetwork
from trellis.networks.sequence import BertClassifier, BertPretraining
from trellis.networks.vector import MLP
from trellis.spec import GraphSpec, LabelledTokenSpec, NodeSpec, TensorSpec, TokenSpec

ALONE = """
import sys
sys.modules["trellis"] = None
import numpy, onnxruntime, torch
x, edges = (torch.from_numpy(numpy.load(f"{name}.npy")) for name in ("x", "edge_index"))
program = torch.export.load("model.pt2").module()
numpy.save("program.npy", program(x, edges).detach().numpy())
session = onnxruntime.InferenceSession("model.onnx")
given = {"x": x.numpy(), "edge_index": edges.numpy()}
numpy.save("onnx.npy", session.run(None, given)[0])
"""


def ready(objective: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    objective.configure_model()
    return objective


def nodes() -> NodeClassification:
    return ready(NodeClassification(partial(GCN, hidden_channels=4), spec=NodeSpec(5, 3)))


def texts() -> MaskedLM:
    network = partial(BertPretraining, embed_dim=8, num_heads=2, num_layers=1)
    spec = TokenSpec(9, pad_id=0, bos_id=1, eos_id=2, unknown_id=3, mask_id=4)
    return ready(MaskedLM(network, partial(torch.optim.Adam), spec=spec))


def points(network: Any = MLP) -> Classification:
    return ready(Classification(network, spec=TensorSpec(5, 3)))


@pytest.mark.long
def test_a_graph_of_another_size_in_a_process_without_trellis(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    objective = nodes()
    folder = trellis.export(objective, tmp_path / "model")
    x, edges = torch.randn(7, 5), torch.tensor([[0, 1, 6, 3], [1, 2, 0, 3]])
    numpy.save(folder / "x.npy", x)
    numpy.save(folder / "edge_index.npy", edges)
    subprocess.run([sys.executable, "-c", ALONE], cwd=folder, check=True)
    expected = objective.eval().network(x, edges)
    for name in ("program", "onnx"):
        found = torch.from_numpy(numpy.load(folder / f"{name}.npy"))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_weights_come_back_and_shared_ones_are_kept_once(tmp_path: Path) -> None:
    objective = texts()
    assert objective.training
    folder = trellis.export(objective, tmp_path / "model", formats=["safetensors"])
    assert objective.training, "exporting changes nothing"
    with safe_open(folder / "model.safetensors", "pt") as file:
        names, tied = {*file.keys()}, json.loads(file.metadata()["tied"])
    assert len(tied) == 1
    assert names | tied.keys() == objective.state_dict().keys()
    assert not names & tied.keys()
    other = trellis.from_pretrained(folder)
    tokens = torch.tensor([[1, 5, 2]])
    assert torch.equal(other.network(tokens)[0], objective.eval().network(tokens)[0])
    assert other.network.output.weight is other.network.body.tokens.weight
    assert not other.training


@pytest.mark.long
def test_lengths_and_batches_stay_open(tmp_path: Path) -> None:
    spec = LabelledTokenSpec(TokenSpec(9, pad_id=0), 3)
    network = partial(BertClassifier, embed_dim=8, num_heads=2, num_layers=1)
    objective = ready(SequenceClassification(network, partial(torch.optim.Adam), spec=spec))
    folder = trellis.export(objective, tmp_path / "model", formats=["onnx"])
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("tokens", ["batch", "length"])
    objective.eval()
    for tokens in (torch.tensor([[4, 5, 6, 7, 8, 2, 3, 1, 1]]), torch.full((5, 2), 3)):
        (found,) = session.run(None, {"tokens": tokens.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), objective.network(tokens), atol=1e-5, rtol=1e-5
        )
    config = json.loads((folder / "config.json").read_text())
    shape = {"name": "tokens", "dtype": "int64", "shape": ["batch", "length"]}
    assert config["inputs"] == [shape]


@pytest.mark.long
def test_one_graph_alone_and_the_features_of_its_edges(tmp_path: Path) -> None:
    network = partial(GraphNetwork, encoder=partial(GINE, hidden_channels=4), hidden_channels=4)
    spec = GraphSpec(5, 1, targets="real", edge_channels=2)
    objective = ready(GraphRegression(network, spec=spec))
    folder = trellis.export(objective, tmp_path / "model", formats=["program", "onnx"])
    config = json.loads((folder / "config.json").read_text())
    assert {"name": "edge_attr", "dtype": "float32", "shape": ["edges", 2]} in config["inputs"]
    edges, batch = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.zeros(3, dtype=torch.long)
    x, edge_attr = torch.randn(3, 5), torch.randn(3, 2)
    program = torch.export.load(folder / "model.pt2").module()
    expected = objective.eval().network(x, edges, batch, 1, edge_attr)
    torch.testing.assert_close(program(x, edges, batch, 1, edge_attr), expected)
    other = objective.network(x, edges, batch, 1, edge_attr + 1)
    assert not torch.allclose(other, expected)


class Shuffled(nn.Module):
    """Other numbers each time, in a form that an export cannot repeat."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + torch.randn(1)


def test_a_program_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model.pt2 computes something else than Shuffled"):
        trellis.export(points(Shuffled), tmp_path / "model", formats=["program"])
    assert not [*tmp_path.iterdir()], "nothing is left, and no temporary folder"


class CountsRows(nn.Linear):
    """``len(x)`` is a number of Python's, which torch's first way of tracing makes a constant."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x.new_ones(len(x), 1)


def test_a_network_that_counts_its_rows_stays_open(tmp_path: Path) -> None:
    objective = points(CountsRows)
    folder = trellis.export(objective, tmp_path / "model", formats=["program"])
    x = torch.randn(9, 5)
    found = torch.export.load(folder / "model.pt2").module()(x)
    torch.testing.assert_close(found, objective.network(x))


@pytest.mark.long
def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    objective = points()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match="already exists"):
        trellis.export(objective, tmp_path / "full")
    with pytest.raises(ValueError, match="'onx' is unknown; did you mean onnx"):
        trellis.export(objective, tmp_path / "model", formats=["onx"])
    with pytest.raises(ValueError, match=r"opset=9: too old .* MLP; 14 is the lowest") as told:
        trellis.export(objective, tmp_path / "model", formats=["onnx"], opset=9)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "model").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(exporting, "save_config", full)
    with pytest.raises(OSError, match="no space"):
        trellis.export(points(), tmp_path / "model", formats=["safetensors"])
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return trellis.export(points(), tmp_path / "model", formats=["safetensors"])


def test_damaged_files_are_named(written: Path, tmp_path: Path) -> None:
    weights = written / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"model\.safetensors is damaged"):
        trellis.from_pretrained(written)
    (written / "config.json").write_text("{")
    with pytest.raises(OSError, match=r"config\.json is damaged"):
        trellis.from_pretrained(written)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        trellis.from_pretrained(written)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        trellis.from_pretrained(tmp_path / "nowhere")


def test_a_config_names_nothing_that_a_checkpoint_may_not(written: Path) -> None:
    path = written / "config.json"
    config = json.loads(path.read_text())
    config["hyper_parameters"]["network"] = {
        "class_path": "os.system",
        "init_args": {"command": "true"},
    }
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="refused: it names os.system"):
        trellis.from_pretrained(written)


def test_the_methods_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, uploaded = points(), tmp_path / "uploaded"

    def create_repo(self: Any, repo_id: str, **options: Any) -> Any:
        return type("Repository", (), {"repo_id": repo_id})

    def upload_folder(self: Any, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, uploaded / repo_id)
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    model = trellis.HubModel(objective, formats=("safetensors",))
    assert model.push_to_hub("ann/points") == "https://huggingface.co/ann/points"
    other = trellis.HubModel.from_pretrained(uploaded / "ann" / "points").objective
    x = torch.randn(4, 5)
    assert torch.equal(other.network(x), objective.eval().network(x))
    card = ModelCard.load(uploaded / "ann" / "points" / "README.md")
    assert card.data.library_name == "trellis"
    assert "Classification" in card.data.tags
    again = model.save_pretrained(tmp_path / "saved")
    assert again is None
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "README.md", "config.json", "model.safetensors"
    }  # fmt: skip


def test_a_repository_is_downloaded(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trellis.lightning_modules.export import huggingface_hub_private as hub

    asked: list[Any] = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options["revision"], options["allow_patterns"]))
        return str(written)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda **_: str(written / "config.json")
    )
    objective = trellis.from_pretrained("ann/points", revision="v1")
    assert asked == [("ann/points", "v1", ["config.json", "model.safetensors"])]
    assert isinstance(objective.network, MLP)


@pytest.mark.long
def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["fit", "--config", "gcn_digits", "--trainer.max_epochs=1",
              "--trainer.enable_progress_bar=false"])  # fmt: skip
    best = "runs/gcn_digits/0/checkpoints/best.ckpt"
    cli.main(["export", best, "--to", "out", "--formats", "safetensors,program"])
    card = ModelCard.load("out/README.md")
    (result,) = card.data.eval_results[:1]
    assert (card.data.model_name, result.dataset_name) == ("gcn_digits", "DigitsGraph")
    assert "| gcn-digits | test/accuracy |" in card.text
    assert "class_path: trellis.networks.graph.GCN" in card.text
    assert "`edge_index` | int64 | 2, edges |" in card.text
    other, own = trellis.from_pretrained("out"), trellis.load(best)
    state = own.state_dict()
    assert all(torch.equal(v, state[name]) for name, v in other.state_dict().items())
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["export", best, "--to", "out"])
    assert "out already exists" in capsys.readouterr().err
