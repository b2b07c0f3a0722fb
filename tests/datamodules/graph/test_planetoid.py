import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch_geometric.utils import is_undirected

from trellis.datamodules.graph import planetoid
from trellis.datamodules.graph.planetoid import PARTS, Planetoid

COUNT, LABELLED, TEST = 640, 14, 100  # nodes: 540 in "all", of which 14 + 500 train and validate


def tiny(tmp_path: Path, **changes: object) -> Path:
    """A ring of 640 papers in the layout of Cora, with features 1 at two places a row."""
    known = COUNT - TEST
    x = np.zeros((COUNT, 9), dtype=np.float32)
    x[np.arange(COUNT), np.arange(COUNT) % 9] = x[:, 3] = 1
    y = np.eye(7)[np.arange(COUNT) % 7]
    parts = {
        "x": csr_matrix(x[:LABELLED]),
        "y": y[:LABELLED],
        "allx": csr_matrix(x[:known]),
        "ally": y[:known],
        "tx": csr_matrix(x[known:]),
        "ty": y[known:],
        "graph": {i: [(i + 1) % COUNT] for i in range(COUNT)},
    } | changes
    raw = tmp_path / "Planetoid" / "Cora" / "raw"
    raw.mkdir(parents=True)
    for name, value in parts.items():
        (raw / f"ind.cora.{name}").write_bytes(pickle.dumps(value))
    (raw / "ind.cora.test.index").write_text("".join(f"{i}\n" for i in range(known, COUNT)))
    return raw


def ready(folder: Path | str, **options) -> Planetoid:
    data = Planetoid(data_dir=str(folder), **options)
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def test_a_look_alike_is_read(tmp_path: Path) -> None:
    tiny(tmp_path)
    data = ready(tmp_path, sparse=False)
    graph = data.data
    assert graph.x.shape == (COUNT, 9)
    torch.testing.assert_close(graph.x.sum(1), torch.ones(COUNT))
    sizes = [int(graph[f"{split}_mask"].sum()) for split in ("train", "val", "test")]
    assert sizes == [LABELLED, 500, TEST]
    assert torch.equal(graph.y, torch.arange(COUNT) % 7)
    torch.testing.assert_close(ready(tmp_path).data.x.to_dense(), graph.x)
    assert len(list(ready(tmp_path, steps_per_epoch=5).train_dataloader())) == 5


@pytest.mark.parametrize("sparse", [True, False])
def test_rows_without_features_stay_zero(tmp_path: Path, sparse: bool) -> None:
    """CiteSeer has 15 such nodes."""
    tx = np.ones((TEST, 9), dtype=np.float32)
    tx[7] = 0
    tiny(tmp_path, tx=csr_matrix(tx))
    x = ready(tmp_path, sparse=sparse).data.x.to_dense()
    assert x[COUNT - TEST + 7].tolist() == [0.0] * 9
    torch.testing.assert_close(x.sum(1).sort().values, torch.tensor([0.0, *[1.0] * (COUNT - 1)]))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", ["cut", "short", "noise", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, part: str, change: str) -> None:
    path = tiny(tmp_path) / f"ind.cora.{part}"
    content = path.read_bytes()
    damage = {
        "cut": content[: len(content) // 2], "short": content[:-1], "noise": b"<html></html>",
        "empty": b"",
    }  # fmt: skip
    path.write_bytes(damage[change])
    with pytest.raises(OSError, match=rf"ind\.cora\.{part} is damaged .*: move it away") as caught:
        ready(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    tiny(tmp_path, tx=csr_matrix(np.ones((TEST, 4), dtype=np.float32)))
    with pytest.raises(OSError, match="Cora/raw is damaged"):
        ready(tmp_path)


def test_features_must_be_finite(tmp_path: Path) -> None:
    tx = np.ones((TEST, 9), dtype=np.float32)
    tx[5, 2] = np.nan
    tiny(tmp_path, tx=tx)
    with pytest.raises(ValueError, match="feature 2 of example 545 is nan"):
        ready(tmp_path)


def test_setup_alone_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ind\.cora\.x is missing: call prepare_data"):
        Planetoid(data_dir=str(tmp_path)).setup()


def test_downloads_are_asked_for_with_their_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    monkeypatch.setattr(planetoid, "fetch", lambda folder, files, urls: asked.update(files))
    Planetoid(data_dir=str(tmp_path)).prepare_data()
    Planetoid("PubMed", data_dir=str(tmp_path)).prepare_data()
    assert all(asked[f"ind.cora.{part}"].startswith("sha256:") for part in PARTS)
    assert all(asked[f"ind.pubmed.{part}"] is None for part in PARTS)


@pytest.mark.data
def test_cora(data_dir: str) -> None:
    data = ready(data_dir)
    graph = data.data
    assert graph.x.shape == (2708, 1433)
    assert is_undirected(graph.edge_index)
    assert graph.edge_index.size(1) == 2 * 5278
    sizes = [int(graph[f"{split}_mask"].sum()) for split in ("train", "val", "test")]
    assert sizes == [140, 500, 1000]
    assert graph.y[graph.train_mask].bincount().tolist() == [20] * 7
    assert (data.spec.in_channels, data.spec.out_channels) == (1433, 7)
    torch.testing.assert_close(graph.x.to_dense().sum(1), torch.ones(2708))


@pytest.mark.data
def test_class_names_stand_in_the_order_of_the_labels(data_dir: str) -> None:
    """Sizes of the classes as McCallum et al. published them with the corpus."""
    published = {
        "Neural networks": 818, "Probabilistic methods": 426, "Genetic algorithms": 418,
        "Theory": 351, "Case based": 298, "Reinforcement learning": 217, "Rule learning": 180,
    }  # fmt: skip
    data = ready(data_dir)
    sizes = torch.bincount(data.data.y).tolist()
    assert dict(zip(data.spec.classes, sizes, strict=True)) == published
