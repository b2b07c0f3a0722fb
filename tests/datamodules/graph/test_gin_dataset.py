"""Collections in the text format of graph papers: tags, attributes, neither; folds; damage."""

import tarfile
from pathlib import Path

import networkx as nx
import pytest
import torch
from gin_files import COUNT, text, write

from trellis.datamodules.graph.gin_dataset import GINDataset
from trellis.datamodules.graph.graph_text import GraphText
from trellis.spec import GraphSpec


def ready(folder: Path | str, name: str = "TOY", **options) -> GINDataset:
    data = GINDataset(name, data_dir=str(folder), **options)
    data.prepare_data()
    data.setup()
    return data


def test_each_graph_is_what_networkx_builds(tmp_path: Path) -> None:
    write(tmp_path, text())
    data = ready(tmp_path)
    assert data.spec == GraphSpec(3, 2)
    for number in range(COUNT):
        graph = data.graphs.batch(torch.tensor([number]))
        size = 3 + number % 4
        peer = nx.cycle_graph(size) if number % 2 else nx.path_graph(size)
        ours = nx.from_edgelist(graph.edge_index.t().tolist())
        assert set(map(frozenset, ours.edges)) == set(map(frozenset, peer.edges))
        assert graph.x.argmax(1).tolist() == [node % 3 for node in range(size)]
        assert graph.y.item() == number % 2
        assert graph.edge_index.size(1) == 2 * peer.number_of_edges()


@pytest.mark.parametrize(
    ("content", "features", "expected"),
    [
        (text(), "auto", [1, 0, 0]),
        (text(lambda _: 0), "auto", [1, 0]),  # the degree of an end of a path
        (text(), "degree", [1, 0]),
        (text(), "constant", [1]),
        (text(lambda _: -5, attributes=True), "attributes", None),
        (text(lambda _: 0, attributes=True), "auto", None),
    ],
)
def test_features_are_what_the_collection_has(tmp_path, content, features, expected) -> None:
    write(tmp_path, content)
    data = ready(tmp_path, features=features)
    x = data.graphs.batch(torch.tensor([0])).x
    if expected is None:
        train = data.graphs.batch(data.splits["train"]).x
        torch.testing.assert_close(train.mean(0), torch.zeros(2), rtol=0, atol=1e-4)
        torch.testing.assert_close(train.std(0, correction=0), torch.ones(2), rtol=0, atol=1e-4)
    else:
        assert x[0].tolist() == expected


def test_tags_and_attributes_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, text(attributes=True))
    data = ready(tmp_path, features="both")
    assert data.spec.in_channels == 5
    assert data.graphs.x[:, :3].sum(1).unique().tolist() == [1]


def test_reddit_graphs_have_a_constant_feature(tmp_path: Path) -> None:
    write(tmp_path, text(lambda _: 0), "REDDITBINARY")
    assert ready(tmp_path, "REDDITBINARY").spec.in_channels == 1


def test_an_edge_that_one_end_lists_counts_and_loops_do_not(tmp_path: Path) -> None:
    graphs = GraphText(tmp_path, "2\n2 0\n0 1 1\n0 0\n1 1\n0 1 0\n").graphs("constant")
    assert graphs.batch(torch.tensor([0])).edge_index.tolist() == [[0, 1], [1, 0]]
    assert graphs.batch(torch.tensor([1])).edge_index.shape == (2, 0)


def test_published_folds_are_used_and_what_no_fold_tests_is_trained_on(tmp_path: Path) -> None:
    folder = write(tmp_path, text())
    (folder / "10fold_idx").mkdir()
    for fold in range(10):
        indices = [3 * fold, 3 * fold + 1, 3 * fold + 2]  # 30 to 39 are in none
        (folder / f"10fold_idx/test_idx-{fold + 1}.txt").write_text("\n".join(map(str, indices)))
    data = ready(tmp_path, fold=2)
    assert data.splits["test"].tolist() == data.splits["val"].tolist() == [6, 7, 8]
    assert data.splits["train"].tolist() == [*range(6), *range(9, 40)]
    apart = ready(tmp_path, fold=9, validation="next_fold")
    assert apart.splits["val"].tolist() == [0, 1, 2]
    assert apart.splits["train"].tolist() == [*range(3, 27), *range(30, 40)]


def test_an_archive_is_read_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path, text())
    with tarfile.open(folder.parent / "PACKED.tar.gz", "w:gz") as archive:
        archive.add(folder / "TOY.txt", "PACKED/PACKED.txt")
    packed, plain = ready(tmp_path, "PACKED"), ready(tmp_path)
    assert packed.graphs.edge_index.equal(plain.graphs.edge_index)
    assert packed.splits["test"].equal(plain.splits["test"])
    (folder.parent / "PACKED.tar.gz").write_bytes(b"no archive")
    with pytest.raises(OSError, match=r"PACKED.tar.gz is damaged"):
        ready(tmp_path, "PACKED")


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (1, "many", "line 1: 'many': give the number of graphs"),
        (1, "41", "the file ends where a graph should follow"),
        (1, "39", "more lines than the 39 graphs of line 1 have"),
        (2, "3", "line 2: '3': give 'nodes label' of a graph"),
        (2, "-3 1", "line 2: a graph of -3 nodes"),
        (3, "0 x", "line 3: '0 x': give 'tag degree neighbours'"),
        (3, "0 4 1", "line 3: '0 4 1': give 'tag degree neighbours'"),
        (3, "0 1 3", "line 3: neighbour 3: give 0 to 2"),
        (4, "0 1 0 0.5", "line 4: 1 attributes, where others have 0"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: int, new: str, message: str) -> None:
    lines = text().splitlines()
    lines[line - 1] = new
    write(tmp_path, "\n".join(lines))
    with pytest.raises(ValueError, match=message):
        ready(tmp_path)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (text(), {"features": "attributes"}, "nodes have no attributes"),
        (text(attributes=True).replace("300.5", "nan"), {"features": "both"}, "is not finite"),
        (text(attributes=True).replace("300.5", "x"), {"features": "both"}, "is not a number"),
        ("2\n1 0\n0 0\n1 0\n0 0\n", {}, "all graphs have one label"),
    ],
)
def test_content_that_cannot_be_learnt_from_is_refused(tmp_path, content, options, message):
    write(tmp_path, content)
    with pytest.raises(ValueError, match=message):
        ready(tmp_path, **options)


@pytest.mark.parametrize(
    ("lines", "message"),
    [("40\n", "give numbers of graphs, 0 to 39"), ("\n", "is damaged"), ("x\n", "is damaged")],
)
def test_a_damaged_fold_is_named(tmp_path: Path, lines: str, message: str) -> None:
    folder = write(tmp_path, text())
    (folder / "10fold_idx").mkdir()
    for fold in range(1, 11):
        (folder / f"10fold_idx/test_idx-{fold}.txt").write_text(
            lines if fold == 3 else f"{fold}\n"
        )
    with pytest.raises(OSError, match=f"test_idx-3.txt .*{message}"):
        ready(tmp_path)
    (folder / "10fold_idx/test_idx-3.txt").write_text("4\n")
    with pytest.raises(ValueError, match="a graph is tested in two folds"):
        ready(tmp_path)


def test_options_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="features='words': choose from auto, tags"):
        GINDataset(features="words")
    with pytest.raises(ValueError, match="name='../x': give the name"):
        GINDataset("../x")
    with pytest.raises(ValueError, match="fold=10: give 0 to 9"):
        GINDataset(fold=10)


def test_setup_alone_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="TOY.txt is missing: put it or TOY.tar.gz there"):
        GINDataset("TOY", data_dir=str(tmp_path)).setup()


@pytest.mark.data
def test_ptc(data_dir: str) -> None:
    data = ready(data_dir, "PTC")
    assert (len(data.graphs), data.graphs.x.shape) == (344, (8792, 19))
    assert data.graphs.y.bincount().tolist() == [192, 152]
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 310, "val": 34, "test": 34
    }  # fmt: skip
