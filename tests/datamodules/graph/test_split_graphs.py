"""Photo and minesweeper in their raw layout, and splits drawn by class."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch_geometric.data import Data
from torch_geometric.datasets import Amazon as PygAmazon
from torch_geometric.utils import is_undirected

from trellis.datamodules.graph.amazon import Amazon
from trellis.datamodules.graph.heterophilous_graph import HeterophilousGraph
from trellis.datamodules.graph.node_split import split_by_class
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.spec import NodeSpec

NODES = 480


def sizes(data: Data) -> list[int]:
    return [int(data[f"{split}_mask"].sum()) for split in ("train", "val", "test")]


def test_a_split_has_as_many_of_each_class_and_no_node_twice() -> None:
    data = Data(y=torch.arange(300) % 3, num_nodes=300)
    split_by_class(data, per_class=20, num_val=50, num_test=100, seed=0)
    assert sizes(data) == [60, 50, 100]
    assert data.y[data.train_mask].bincount().tolist() == [20] * 3
    assert not (data.train_mask & data.val_mask | data.test_mask & data.val_mask).any()
    split_by_class(data, per_class=20, num_val=10, num_test=None, seed=0, val_by_class=True)
    assert sizes(data) == [60, 30, 210]
    assert data.y[data.val_mask].bincount().tolist() == [10] * 3
    other = data.clone()
    split_by_class(other, per_class=20, num_val=10, num_test=None, seed=1, val_by_class=True)
    assert not other.train_mask.equal(data.train_mask)


def test_too_few_nodes_are_counted() -> None:
    data = Data(y=torch.arange(300) % 3, num_nodes=300)
    with pytest.raises(ValueError, match="class 0 has 100 nodes left, 101 are wanted"):
        split_by_class(data, per_class=101, num_val=1, num_test=1, seed=0)
    with pytest.raises(ValueError, match="300 nodes are too few for 20 a class, 50 .* 191"):
        split_by_class(data, per_class=20, num_val=50, num_test=191, seed=0)


def photo(folder: Path) -> Path:
    """A ring of products in 8 classes with a self-loop, in the layout of PyG's Amazon."""
    raw = folder / "Amazon" / "Photo" / "raw"
    raw.mkdir(parents=True)
    ring = csr_matrix((np.ones(NODES), (np.arange(NODES), (np.arange(NODES) + 1) % NODES)))
    ring = ring + csr_matrix(([1.0], ([5], [5])), shape=ring.shape)
    words = np.zeros((NODES, 10))
    words[np.arange(NODES), np.arange(NODES) % 10] = 3
    words[:, 0] = 1
    parts = {"labels": np.arange(NODES) % 8}
    for name, matrix in (("adj", ring), ("attr", csr_matrix(words))):
        parts |= {f"{name}_{key}": getattr(matrix, key) for key in ("data", "indices", "indptr")}
        parts[f"{name}_shape"] = np.array(matrix.shape)
    path = raw / "amazon_electronics_photo.npz"
    np.savez(path, **parts)
    return path


def test_photo_is_what_pyg_reads(tmp_path: Path) -> None:
    photo(tmp_path)
    data = Amazon(data_dir=str(tmp_path))
    data.prepare_data()
    data.setup()
    theirs = PygAmazon(str(tmp_path / "Amazon"), "Photo")[0]
    assert data.data.edge_index.equal(theirs.edge_index)
    assert data.data.y.equal(theirs.y)
    assert data.data.x.equal(theirs.x)
    sparse = Amazon(data_dir=str(tmp_path), sparse=True)
    sparse.setup()
    assert sparse.data.x.to_dense().equal(theirs.x)
    assert data.spec == NodeSpec(10, 8)
    assert sizes(data.data) == [160, 240, 80]


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    photo(tmp_path).write_bytes(b"no archive")
    with pytest.raises(OSError, match="amazon_electronics_photo.npz is damaged"):
        Amazon(data_dir=str(tmp_path)).setup()
    with pytest.raises(FileNotFoundError, match="amazon_electronics_computers.npz is missing"):
        Amazon("Computers", data_dir=str(tmp_path)).setup()
    with pytest.raises(ValueError, match="name='Books': choose from Photo, Computers"):
        Amazon("Books")


def minesweeper(folder: Path, **changes: np.ndarray) -> Path:
    raw = folder / "HeterophilousGraph" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    part = (np.arange(40)[None] + np.arange(10)[:, None]) % 4
    parts = {
        "node_features": np.eye(40, 7, dtype=np.float32),
        "node_labels": np.arange(40) % 2,
        "edges": np.stack((np.arange(39), np.arange(1, 40)), 1),
        "train_masks": part < 2,
        "val_masks": part == 2,
        "test_masks": part == 3,
    } | changes
    path = raw / "minesweeper.npz"
    np.savez(path, **parts)
    return path


def test_minesweeper_has_the_published_split_of_each_fold(tmp_path: Path) -> None:
    minesweeper(tmp_path)
    for fold in (0, 3):
        data = HeterophilousGraph(fold=fold, data_dir=str(tmp_path))
        data.prepare_data()
        data.setup()
        assert sizes(data.data) == [20, 10, 10]
        assert data.data.val_mask.nonzero()[0].item() == (2 - fold) % 4
        assert is_undirected(data.data.edge_index)
        assert data.data.edge_index.size(1) == 78
        assert data.spec == NodeSpec(7, 2)


def test_a_damaged_minesweeper_is_named(tmp_path: Path) -> None:
    minesweeper(tmp_path, node_labels=np.arange(40))
    with pytest.raises(ValueError, match="minesweeper.npz: label 2 of example 2"):
        HeterophilousGraph(data_dir=str(tmp_path)).setup()
    minesweeper(tmp_path).write_bytes(b"PK no archive")
    with pytest.raises(OSError, match="minesweeper.npz is damaged"):
        HeterophilousGraph(data_dir=str(tmp_path)).setup()
    with pytest.raises(ValueError, match="fold=10: give 0 to 9"):
        HeterophilousGraph(fold=10)


@pytest.mark.data
def test_the_raw_files_have_the_published_sizes(data_dir: str) -> None:
    graph = Amazon(data_dir=data_dir)
    graph.setup()
    assert (graph.data.num_nodes, graph.data.edge_index.size(1)) == (7650, 238162)
    assert graph.spec == NodeSpec(745, 8)
    assert sizes(graph.data) == [160, 240, 7250]
    mines = HeterophilousGraph(data_dir=data_dir)
    mines.setup()
    assert (mines.data.num_nodes, mines.data.edge_index.size(1)) == (10_000, 2 * 39_402)
    assert sizes(mines.data) == [5000, 2500, 2500]


@pytest.mark.data
def test_random_splits_of_cora_are_others_of_the_same_size(data_dir: str) -> None:
    masks = []
    for fold in (0, 0, 1):
        data = Planetoid(data_dir=data_dir, split="random", fold=fold)
        data.setup()
        assert sizes(data.data) == [140, 500, 1000]
        assert data.data.y[data.data.train_mask].bincount().tolist() == [20] * 7
        masks.append(data.data.train_mask)
    assert masks[0].equal(masks[1])
    assert not masks[0].equal(masks[2])
