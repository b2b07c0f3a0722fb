import io
import stat
import urllib.error
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import torch
from torch_geometric.io import read_tu_data

from trellis.datamodules.graph.tu_dataset import TUDataset, read_collection, stratified_folds
from trellis.spec import GraphSpec

GRAPHS = 30


def tiny_files(name: str = "TINY", nodes: str | None = "node_labels") -> dict[str, str]:
    """Thirty paths of 2 to 4 nodes in two classes, labelled 1 and -1, ends of paths labelled 5."""
    edges, owner, kinds, first = [], [], [], 1
    for graph in range(GRAPHS):
        size = 2 + graph % 3
        for node in range(first, first + size - 1):
            edges += [f"{node}, {node + 1}", f"{node + 1}, {node}"]
        owner += [str(graph + 1)] * size
        kinds += ["5"] + ["2"] * (size - 2) + ["5"]
        first += size
    files = {
        "A": edges,
        "graph_indicator": owner,
        "graph_labels": ["1" if graph % 3 else "-1" for graph in range(GRAPHS)],
    }
    if nodes:
        files[nodes] = kinds
    return {f"{name}_{part}.txt": "\n".join(lines) + "\n" for part, lines in files.items()}


def write(folder: Path, files: dict[str, str], name: str = "TINY") -> Path:
    raw = folder / "TUDataset" / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (raw / file).write_text(text)
    return raw


def ready(folder: Path | str, name: str = "TINY", **options) -> TUDataset:
    data = TUDataset(name, data_dir=str(folder), **options)
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


@pytest.mark.parametrize("nodes", ["node_labels", "node_attributes"])
def test_reads_what_pyg_reads(tmp_path: Path, nodes: str) -> None:
    raw = write(tmp_path, tiny_files(nodes=nodes))
    ours = read_collection(raw, "TINY")
    theirs, slices, _ = read_tu_data(str(raw), "TINY")
    if nodes == "node_labels":  # PyG keeps a column for labels that do not occur
        theirs.x = theirs.x[:, theirs.x.any(0)]
    assert len(ours) == GRAPHS
    assert torch.equal(ours.y, theirs.y)
    for graph in range(GRAPHS):
        batch = ours.batch(torch.tensor([graph]))
        nodes_of, edges_of = (
            slice(*slices[key][graph : graph + 2]) for key in ("x", "edge_index")
        )
        assert torch.equal(batch.x, theirs.x[nodes_of])
        assert torch.equal(batch.edge_index, theirs.edge_index[:, edges_of])


def test_self_loops_and_repeated_edges_are_dropped(tmp_path: Path) -> None:
    """As PyG and the paper's code do: a loop would count a node among its own neighbours."""
    files = tiny_files(nodes=None)
    expected = read_collection(write(tmp_path / "plain", files), "TINY")
    files["TINY_A.txt"] += "1, 1\n2, 2\n1, 2\n"
    found = read_collection(write(tmp_path / "loops", files), "TINY")
    for name in ("x", "edge_index", "edges"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_without_node_labels_the_degree_is_the_feature(tmp_path: Path) -> None:
    data = ready(write(tmp_path, tiny_files(nodes=None)).parents[2])
    batch = data.graphs.batch(torch.tensor([0, 2]))  # paths of two and of four nodes
    assert batch.x.tolist() == [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]]
    assert data.spec == GraphSpec(2, 2)


def test_reddit_graphs_have_a_constant_feature(tmp_path: Path) -> None:
    write(tmp_path, tiny_files("REDDIT-X", nodes=None), "REDDIT-X")
    assert ready(tmp_path, "REDDIT-X").graphs.x.unique().tolist() == [1]


def test_attributes_are_left_out_beside_labels(tmp_path: Path) -> None:
    files = tiny_files() | {"TINY_node_attributes.txt": "nonsense"}
    assert ready(write(tmp_path, files).parents[2]).spec.in_channels == 2


@pytest.mark.parametrize("counts", [(125, 63), (10, 10, 10), (31, 17)])
def test_folds_are_disjoint_complete_and_stratified(counts: tuple[int, ...]) -> None:
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    folds = stratified_folds(y, seed=0)
    assert len(folds) == 10
    assert torch.cat(folds).sort().values.tolist() == list(range(len(y)))
    for fold in folds:
        for label, count in enumerate(counts):
            assert int((y[fold] == label).sum()) in (count // 10, -(-count // 10))


def test_the_seed_draws_the_folds() -> None:
    y = torch.arange(40) % 2
    first, again, other = (stratified_folds(y, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("validation", "parts"), [("test_fold", 9), ("next_fold", 8)])
def test_what_each_fold_trains_on(tmp_path: Path, validation: str, parts: int) -> None:
    write(tmp_path, tiny_files())
    tests = []
    for fold in range(10):
        data = ready(tmp_path, fold=fold, validation=validation)
        splits = {split: set(chosen.tolist()) for split, chosen in data.splits.items()}
        assert len(splits["train"]) == parts * GRAPHS / 10
        assert not splits["train"] & (splits["val"] | splits["test"])
        if validation == "test_fold":
            assert splits["val"] == splits["test"]
        else:
            assert not splits["val"] & splits["test"]
            following = ready(tmp_path, fold=(fold + 1) % 10).splits["test"]
            assert splits["val"] == set(following.tolist())
        tests += data.splits["test"].tolist()
    assert sorted(tests) == list(range(GRAPHS))


def test_an_epoch_serves_each_training_graph_once(tmp_path: Path) -> None:
    write(tmp_path, tiny_files())
    data = ready(tmp_path, batch_size=4)
    batches = list(data.train_dataloader())
    assert [batch.num_graphs for batch in batches] == [4] * 6 + [3]
    expected = data.graphs.batch(data.splits["train"])
    assert sum(batch.num_nodes for batch in batches) == expected.num_nodes
    assert sorted(int(n) for b in batches for n in b.ptr.diff()) == sorted(
        expected.ptr.diff().tolist()
    )
    served = torch.cat([batch.y for batch in data.test_dataloader()])
    assert torch.equal(served, data.graphs.y[data.splits["test"]])


def test_a_read_only_folder_is_enough(tmp_path: Path) -> None:
    raw = write(tmp_path, tiny_files())
    before = sorted(raw.parent.rglob("*"))
    raw.chmod(stat.S_IRUSR | stat.S_IXUSR)
    ready(tmp_path)
    raw.chmod(stat.S_IRWXU)
    assert sorted(raw.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("A", "1, 2\n2, x\n", "A.txt is damaged .*' x' to float64 at row 1"),
        ("A", "1, 2\n2, 99999\n", r"A.txt is damaged \(an edge is not a pair of nodes in 1..90"),
        ("A", "0, 1\n", r"A.txt is damaged \(an edge is not a pair"),
        ("A", "1, 4\n", r"A.txt is damaged \(edge 0 -> 3 joins two graphs"),
        ("graph_indicator", "1\n1\n3\n2\n", "graph_indicator.txt is damaged .*must grow"),
        ("graph_indicator", "1\n31\n", "must grow from 1 to the 30 of TINY_graph_labels.txt"),
        ("node_labels", "1\n2\n", r"node_labels.txt is damaged \(2 lines for 90 nodes"),
        ("graph_labels", "", "graph_labels.txt is damaged .*empty"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, part: str, text: str, message: str) -> None:
    write(tmp_path, tiny_files() | {f"TINY_{part}.txt": text})
    with pytest.raises(OSError, match=message) as caught:
        ready(tmp_path)
    assert f"move the folder {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_may_be_written_as_decimals(tmp_path: Path) -> None:
    files = tiny_files()
    expected = read_collection(write(tmp_path / "plain", files), "TINY")
    for name in ("TINY_graph_labels.txt", "TINY_node_labels.txt", "TINY_A.txt"):
        decimals = files[name].replace("\n", ".0\n").replace(", ", ".0, ")
        found = read_collection(write(tmp_path / name, files | {name: decimals}), "TINY")
        for part in ("x", "y", "edge_index"):
            assert torch.equal(getattr(found, part), getattr(expected, part))
    files["TINY_graph_labels.txt"] = "1.0\n" * 29 + "0.25\n"
    with pytest.raises(OSError, match=r"graph_labels.txt is damaged \(line 30 has 0.25 where a w"):
        ready(write(tmp_path, files).parents[2])


def test_attributes_must_be_finite(tmp_path: Path) -> None:
    files = tiny_files(nodes="node_attributes")
    files["TINY_node_attributes.txt"] = "nan" + files["TINY_node_attributes.txt"][1:]
    with pytest.raises(OSError, match="node_attributes.txt is damaged .*not finite"):
        ready(write(tmp_path, files).parents[2])


def test_too_few_graphs_for_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="a class has 9 graphs: 10 folds"):
        stratified_folds(torch.tensor([0] * 20 + [1] * 9), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 10}, "fold=10: give 0 to 9"),
        ({"fold": -1}, "fold=-1: give 0 to 9"),
        ({"name": "../MUTAG"}, "name='../MUTAG': give the name"),
        ({"validation": "train"}, "validation='train': choose from test_fold, next_fold"),
    ],
)
def test_arguments_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TUDataset(**options)


class Reply(io.BytesIO):
    headers = Message()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in tiny_files().items():
            file.writestr(f"TINY/{name}", text)
        file.writestr("TINY/README.txt", "about")
        file.writestr("../../escape.sh", "no")
    return content.getvalue()


def test_the_archive_is_downloaded_and_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def urlopen(url: str, timeout: float) -> Reply:
        asked.append(url)
        return Reply(archive())

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    data = ready(tmp_path)
    assert asked == ["https://www.chrsmrrs.com/graphkerneldatasets/TINY.zip"]
    assert len(data.graphs) == GRAPHS
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert all("raw" in path or path.count("/") < 2 for path in left), "the archive is gone"
    assert not any(path.endswith((".sh", ".tmp", ".zip")) for path in left)


@pytest.mark.parametrize("damage", [0, 40])
def test_an_archive_of_the_user_is_kept(tmp_path: Path, damage: int) -> None:
    path = tmp_path / "TUDataset" / "TINY" / "TINY.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(content := archive()[: -damage or None])
    if damage:
        with pytest.raises(OSError, match=r"TINY\.zip is damaged .*: put a good copy"):
            ready(tmp_path)
    else:
        assert len(ready(tmp_path).graphs) == GRAPHS
    assert path.read_bytes() == content


def test_a_damaged_archive_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Reply(archive()[:-40]))
    with pytest.raises(OSError, match=r"TINY\.zip is damaged"):
        ready(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_network_the_message_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(FileNotFoundError, match=r"TINY_A\.txt is not in .*TINY/raw; put"):
        ready(tmp_path)


def test_setup_alone_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"TINY_A\.txt is missing: call prepare_data"):
        TUDataset("TINY", data_dir=str(tmp_path)).setup()


@pytest.mark.data
def test_mutag(data_dir: str) -> None:
    data = ready(data_dir, "MUTAG")
    assert (len(data.graphs), len(data.graphs.x)) == (188, 3371)
    assert data.spec == GraphSpec(7, 2)
    assert data.graphs.y.bincount().tolist() == [63, 125]
    assert data.graphs.x.sum() == 3371
    assert int(data.graphs.edges.sum()) == 7442
    assert {len(ready(data_dir, "MUTAG", fold=k).splits["test"]) for k in range(10)} == {18, 19}
