import sys
from pathlib import Path

import pytest
import torch

from trellis.datamodules.engine import large_tables
from trellis.datamodules.graph import edge_table, node_table
from trellis.datamodules.graph.graph_from_files import GraphFromFiles
from trellis.spec import NodeSpec

NODES = """id,age,label,height
a,1,red,0.5
b,2,blue,-1e2
c,3,red,0
d,4,,7
e,5,blue,1
f,6,red,1
"""
EDGES = "source,target\na,b\nb,c\nc,b\nd,f\n"


def made(tmp_path: Path, nodes: str = NODES, edges: str = EDGES, **options) -> GraphFromFiles:
    (tmp_path / "nodes.csv").write_text(nodes, encoding="utf-8")
    (tmp_path / "edges.csv").write_text(edges, encoding="utf-8")
    data = GraphFromFiles(str(tmp_path / "edges.csv"), str(tmp_path / "nodes.csv"), **options)
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def test_reads_features_labels_and_edges(tmp_path: Path) -> None:
    data = made(tmp_path)
    graph = data.data
    assert graph.x.tolist() == [[1, 0.5], [2, -100], [3, 0], [4, 7], [5, 1], [6, 1]]
    assert graph.y.tolist() == [1, 0, 1, -1, 0, 1]
    assert data.spec == NodeSpec(2, 2, ("blue", "red"), feature_names=("age", "height"))
    edges = {(0, 1), (1, 0), (1, 2), (2, 1), (3, 5), (5, 3)}
    assert set(map(tuple, graph.edge_index.t().tolist())) == edges
    assert graph.edge_index.size(1) == len(edges)


def test_directed_edges_keep_their_direction(tmp_path: Path) -> None:
    edge_index = made(tmp_path, undirected=False).data.edge_index
    assert edge_index.t().tolist() == [[0, 1], [1, 2], [2, 1], [3, 5]]


@pytest.mark.parametrize("header", ["", "SOURCE,Target\n", "from, to\n", "\n\n"])
def test_the_header_of_the_edges_is_optional(tmp_path: Path, header: str) -> None:
    edges = header + EDGES.removeprefix("source,target\n")
    assert torch.equal(made(tmp_path, edges=edges).data.edge_index, made(tmp_path).data.edge_index)


def test_a_graph_may_have_no_edges(tmp_path: Path) -> None:
    assert made(tmp_path, edges="").data.edge_index.shape == (2, 0)


def test_what_spreadsheets_add_is_understood(tmp_path: Path) -> None:
    nodes = "\ufeff" + NODES.replace("\n", "\r\n").replace("red", '" red"') + "\r\n,,,\r\n"
    data = made(tmp_path, nodes=nodes, edges="\ufeffa,b\r\n")
    assert data.spec.classes == ("blue", "red")
    assert data.data.edge_index.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("separator", [";", "\t", " ", "   "])
@pytest.mark.parametrize("said", [False, True])
def test_cells_may_be_separated_otherwise(tmp_path: Path, separator: str, said: bool) -> None:
    lines = NODES.replace("d,4,,7", "d,4,red,7")  # no empty cells between spaces
    nodes, edges = (text.replace(",", separator) for text in (lines, EDGES))
    if said and separator.strip(" "):  # as Excel does
        nodes, edges = (f"sep={separator}\n{text}" for text in (nodes, edges))
    data, expected = made(tmp_path, nodes, edges), made(tmp_path, lines)
    for name in ("x", "y", "edge_index", "train_mask"):
        assert torch.equal(data.data[name], expected.data[name]), name


def test_semicolons_go_with_decimal_commas(tmp_path: Path) -> None:
    nodes = NODES.replace(",", ";").replace("0.5", "0,5").replace("-1e2", "-1,5e2")
    assert made(tmp_path, nodes).data.x[:2].tolist() == [[1, 0.5], [2, -150]]


def test_edges_of_snap_are_read(tmp_path: Path) -> None:
    nodes = NODES.replace("f,6", "#f,6")  # a hash may begin an id
    edges = "# Directed graph\n# FromNodeId\tToNodeId\n%\na\tb\nb\tc \n#f\td\n"
    graph = made(tmp_path, nodes, edges, undirected=False).data
    assert graph.edge_index.t().tolist() == [[0, 1], [1, 2], [5, 3]]


@pytest.mark.parametrize("header", ["", "source,target,weight\n"])
def test_weights_are_left_out_on_request(tmp_path: Path, header: str) -> None:
    edges = header + "a,b,0.5\nb,c,2\nd,f,1\n"
    graph = made(tmp_path, edges=edges, ignore_weights=True).data
    assert torch.equal(graph.edge_index, made(tmp_path).data.edge_index)


@pytest.mark.parametrize("header", ["", "source,target,weight\n"])
def test_weights_go_with_their_edges(tmp_path: Path, header: str) -> None:
    edges = header + "b,c,2\na,b,0.5\nc,b,2\nf,f,3\n"
    data = made(tmp_path, edges=edges)
    graph = data.data
    found = dict(zip(map(tuple, graph.edge_index.t().tolist()), graph.edge_weight, strict=True))
    both = {(0, 1): 0.5, (1, 0): 0.5, (1, 2): 2, (2, 1): 2, (5, 5): 3}
    assert found == both
    assert data.spec.edge_weights
    directed = made(tmp_path, edges=edges, undirected=False).data
    assert directed.edge_index.t().tolist() == [[0, 1], [1, 2], [2, 1], [5, 5]]
    assert directed.edge_weight.tolist() == [0.5, 2, 2, 3]


def test_other_columns_of_edges_are_features(tmp_path: Path) -> None:
    edges = "source,target,Since,weight,kind\nb,c,1999,2,0\na,b,2001,0.5,1\n"
    data = made(tmp_path, edges=edges)
    graph = data.data
    assert graph.edge_index.t().tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert graph.edge_attr.tolist() == [[2001, 1], [2001, 1], [1999, 0], [1999, 0]]
    assert graph.edge_weight.tolist() == [0.5, 0.5, 2, 2]
    assert (data.spec.edge_weights, data.spec.edge_channels) == (True, 2)
    plain = made(tmp_path, edges=edges, ignore_weights=True)
    assert "edge_weight" not in plain.data
    assert plain.data.edge_attr.tolist() == graph.edge_attr.tolist()
    assert (plain.spec.edge_weights, plain.spec.edge_channels) == (False, 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("NA", "red"), r"nodes\.csv, column 'label': label 'NA' stands for a missing value"),
        (("nan", "1"), "label 'nan' stands for a missing value"),
        (("0.0", "0.1768"), "the labels are 2 real numbers, such as 0.1768"),
    ],
)
def test_labels_that_are_no_classes_are_refused(
    tmp_path: Path, labels: tuple[str, str], message: str
) -> None:
    nodes = NODES.replace("red", labels[0]).replace("blue", labels[1])
    with pytest.raises(ValueError, match=message):
        made(tmp_path, nodes)


def test_numeric_labels_are_ordered_as_numbers(tmp_path: Path) -> None:
    nodes = NODES.replace("red", "10").replace("blue", "9")
    assert made(tmp_path, nodes=nodes).spec.classes == ("9", "10")


def test_a_drawn_split_covers_the_labelled_nodes(tmp_path: Path) -> None:
    lines = [f"n{i},{i},{'xyz'[i % 3] if i % 4 else ''}" for i in range(80)]
    nodes = "\n".join(["id,value,label", *lines])
    graph = made(tmp_path, nodes, "n1,n2", train_fraction=0.5, val_fraction=0.3).data
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert torch.equal(masks.sum(0), (graph.y >= 0).long())
    assert masks.sum(1).tolist() == [30, 18, 12]
    options = {"train_fraction": 0.5, "val_fraction": 0.3}
    again = made(tmp_path, nodes, "n1,n2", **options).data
    other = made(tmp_path, nodes, "n1,n2", seed=1, **options).data
    assert torch.equal(again.train_mask, graph.train_mask)
    assert not torch.equal(other.train_mask, graph.train_mask)


SPLIT = """id,label,value,split
a,x,1,train
b,y,1,val
c,x,1,test
d,y,1,
e,,1,train
"""


def test_a_column_may_say_the_split(tmp_path: Path) -> None:
    data = made(tmp_path, SPLIT, "a,b")
    assert data.data.train_mask.tolist() == [True, False, False, False, False]
    assert data.data.val_mask.tolist() == [False, True, False, False, False]
    assert data.data.test_mask.tolist() == [False, False, True, False, False]
    assert data.spec.in_channels == 1


def test_labels_may_be_real_numbers(tmp_path: Path) -> None:
    numbers = SPLIT.replace("a,x", "a,0.5").replace("b,y", "b,-2").replace("c,x", "c,1e1")
    data = made(tmp_path, numbers.replace("d,y,1,", "d,1.5,1,train"), "a,b", targets="real")
    assert data.data.y.tolist() == [[0.5], [-2], [10], [1.5], [0]]
    assert data.data.train_mask.tolist() == [True, False, False, True, False]
    spec = data.spec
    assert (spec.targets, spec.out_channels, spec.classes) == ("real", 1, ())
    assert (spec.target_names, spec.target_means, spec.target_scales) == (("label",), (1,), (0.5,))
    with pytest.raises(ValueError, match="nodes.csv, line 2, column 'label': 'x' is not a finite"):
        made(tmp_path, SPLIT, "a,b", targets="real")


def test_an_epoch_yields_the_graph_as_often_as_asked(tmp_path: Path) -> None:
    data = made(tmp_path, steps_per_epoch=3)
    assert len(list(data.train_dataloader())) == 3
    assert [batch is data.data for batch in data.predict_dataloader()] == [True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3,red,0\n", "old,red,0\n", "nodes.csv, line 4, column 'age': 'old' is not a finite"),
        ("3,red,0\n", "3,red,nan\n", "nodes.csv, line 4, column 'height': 'nan' is not a finite"),
        ("3,red,0\n", "3,red,\n", "nodes.csv, line 4, column 'height': '' is not a finite"),
        ("3,red,0\n", "3,red,1e99\n", "line 4, column 'height': '1e99' is not a finite number"),
        ("c,3", "a,3", "nodes.csv, line 4: node id 'a' is also on line 2: remove one"),
        ("c,3,red,0", "c,3,red", "nodes.csv, line 4: 3 cells for 4 columns"),
        ("label", "class", "no column label='label' after the id: choose from age, class"),
        ("height", "age", "two columns have the name 'age'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in NODES
    with pytest.raises(ValueError, match=message) as caught:
        made(tmp_path, NODES.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("a,b\nb,z\n", "edges.csv, line 2, column 'target': 'z' is not a node id: add the node"),
        ("node1,node2\na,b\n", "line 1, column 'source': 'node1' is not a node id.*source,target"),
        ("a,b,heavy\n", "edges.csv, line 1, column 'weight': 'heavy' is not a finite number"),
        ("a,b,1\nb,c,-2\n", "edges.csv, line 2, column 'weight': a weight is negative: give at"),
        ("a,b,1\nb,c\n", "edges.csv, line 2: 2 cells: give source,target,weight"),
        ("a,b,1\nb,c,1\nb,a,2\n", "line 3, column 'weight': line 1 has another number for this"),
        ("source,target,w,w\na,b,1,1\n", "edges.csv: two columns have the name 'w': rename one"),
        ("a,b,c,d\n", "edges.csv, line 1: 4 cells: give source,target"),
        ("a\n", "edges.csv, line 1: 1 cells: give source,target"),
    ],
)
def test_a_wrong_edge_is_named(tmp_path: Path, edges: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(tmp_path, edges=edges)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("id,x,label\na,1,\nb,2,\n", "column 'label': no example has a label: fill in some"),
        ("id,x,label\na,1,red\nb,2,\n", "all labels are 'red': give at least two classes"),
        ("id,label\na,red\nb,blue\n", "no feature columns"),
        ("id,x,label\n", "give a header and one line per node"),
        (SPLIT.replace("test", ""), "the test split is empty: give it"),
        (SPLIT.replace("e,,1,train", "e,,1,tset"), "line 6, column 'split': 'tset': give train"),
        ("id,x,label\na,1,red\nb,2,blue\n", "the val split is empty"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, nodes: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        made(tmp_path, nodes, "a,b\n")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "nodes.csv").write_bytes("id,x,label\nä,1,red\n".encode("latin-1"))
    data = GraphFromFiles(str(tmp_path / "edges.csv"), str(tmp_path / "nodes.csv"))
    with pytest.raises(ValueError, match="nodes.csv, line 2, column 1: byte 0xe4 is not UTF-8"):
        data.setup()


@pytest.mark.parametrize("missing", ["edges", "nodes"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    made(tmp_path)
    (tmp_path / f"{missing}.csv").unlink()
    data = GraphFromFiles(str(tmp_path / "edges.csv"), str(tmp_path / "nodes.csv"))
    with pytest.raises(FileNotFoundError, match=rf"{missing}=.*{missing}\.csv: no such file"):
        data.setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_fraction": 1.0}, "train_fraction=1.0: give a number between 0 and 1"),
        ({"val_fraction": 0.0}, "val_fraction=0.0: give a number"),
        ({"train_fraction": 0.7, "val_fraction": 0.3}, "leave no test nodes"),
    ],
)
def test_fractions_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphFromFiles(**options)


def test_a_new_graph_is_read_by_the_names_of_its_features(tmp_path: Path) -> None:
    spec = made(tmp_path).spec
    new = tmp_path / "new"
    new.mkdir()
    (new / "nodes.csv").write_text("id,height,colour,age\nx,3,7,1\ny,4,8,2\n")
    (new / "edges.csv").write_text("x,y\n")
    gone = GraphFromFiles(str(tmp_path / "gone" / "edges.csv"), str(tmp_path / "gone/nodes.csv"))
    loader, ids = gone.inputs(str(new), spec)
    [graph] = loader
    assert ids == ["x", "y"]
    assert graph.x.tolist() == [[1, 3], [2, 4]]
    assert graph.edge_index.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ("id,heigth,age\nx,3,1\n", "", "has no column 'height', .*did you mean heigth"),
        ("id,height,age\nx,3,old\n", "", "line 2, column 'age': 'old' is not a finite number"),
        ("id,height,age\nx,3,1\n", "x,z\n", "'z' is not a node id"),
        ("id,height,age\nx,3,1\n", "source,target,kind\nx,x,2\n", "has 1 features of edges"),
    ],
)
def test_a_new_graph_that_does_not_fit_is_refused(
    tmp_path: Path, nodes: str, edges: str, message: str
) -> None:
    data = made(tmp_path)
    new = tmp_path / "new"
    new.mkdir()
    (new / "nodes.csv").write_text(nodes)
    (new / "edges.csv").write_text(edges or "source,target\n")
    with pytest.raises(ValueError, match=message):
        data.inputs(str(new), data.spec)
    with pytest.raises(FileNotFoundError, match=r"input=.*nodes.csv: no such file"):
        data.inputs(str(tmp_path / "nowhere"), data.spec)


def test_weights_are_needed_where_the_model_was_trained_with_them(tmp_path: Path) -> None:
    data = made(tmp_path, edges="source,target,weight\na,b,2\n")
    new = tmp_path / "new"
    new.mkdir()
    (new / "nodes.csv").write_text(NODES)
    (new / "edges.csv").write_text("a,b,3\n")
    [graph] = data.inputs(str(new), data.spec).loader
    assert graph.edge_weight.tolist() == [3, 3]
    (new / "edges.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="has no column weight, but the model was trained"):
        data.inputs(str(new), data.spec)


PLAIN = {
    "split": (SPLIT, EDGES, {}),
    "weights": (NODES, "source,target,weight,length\na,b,.5,1e-3\nb,c,2,-7\n", {}),
    "no header": (NODES, "a,b,1\nb,c,2\n", {"undirected": False}),
    "tabs and comments": (
        NODES.replace(",", "\t"), "# from here\n# Nodes: 6\na\tb\nb\tc", {"ignore_weights": True}
    ),
    "a header that begins with #": (NODES.replace("id,", "#id,"), EDGES, {}),
    "ids that begin with #": (NODES.replace("a,", "#a,"), "#a,b\n# none\nb,c\n", {}),
    "comments alone": (NODES, "# none", {}),
    "real": (NODES.replace("red", "1.5").replace("blue", "2"), EDGES, {"targets": "real"}),
    "windows": (NODES.replace("\n", "\r\n"), EDGES.replace("\n", "\r\n"), {}),
    "spaces around ids": (NODES.replace("a,", "a ,"), EDGES.replace("a,", " a,"), {}),
    "quotes": (
        NODES.replace("red", '" r,""ed"').replace("label", '"label"').replace("7", '"7"'),
        EDGES,
        {},
    ),
    "half a quote": (NODES.replace("red", 'r"ed'), EDGES, {}),
    "an open quote": (NODES.replace("a,1", '"a,1'), EDGES, {}),
    "no number": (NODES.replace("0.5", "half"), EDGES, {}),
    "too large": (NODES.replace("0.5", "1e99"), EDGES, {}),
    "nothing": (NODES.replace("0.5", ""), EDGES, {}),
    "one cell fewer": (NODES.replace(",0.5", ""), EDGES, {}),
    "no such node": (NODES, EDGES + "d,z\n", {}),
    "no such split": (SPLIT.replace("e,,1,train", "e,,1,tset"), EDGES, {}),
    "twice": (NODES + "a,1,red,2\n", EDGES, {}),
    "negative weight": (NODES, "source,target,weight\na,b,-1\n", {}),
    "other weight": (NODES, "source,target,weight\na,b,1\nb,a,2\n", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_large_tables_are_read_as_small_ones_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    nodes, edges, options = PLAIN[name]
    found = []
    for large in (1 << 24, 0):
        monkeypatch.setattr(large_tables, "LARGE", large)
        try:
            data = made(tmp_path, nodes=nodes, edges=edges, **options)
        except ValueError as error:
            found.append(str(error))
        else:
            tensors = {key: value.tolist() for key, value in data.data.to_dict().items()}
            found.append((tensors, data.spec, data.node_ids))
    assert found[0] == found[1]


def test_large_tables_are_not_read_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(large_tables, "LARGE", 0)
    for module in (node_table, edge_table):
        monkeypatch.setattr(module, "parsed_rows", None)
    assert made(tmp_path).data.edge_index.shape == (2, 6)


def test_without_pyarrow_a_large_table_is_read_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "LARGE", 0)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert made(tmp_path).data.edge_index.shape == (2, 6)


def test_a_table_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "_free_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"edges.csv has 0.0 GB, more than .* SampledNodes"):
        made(tmp_path, nodes="id,x,label\na,1,r\nb,2,b\n", edges=EDGES * 9)


def test_features_of_new_edges_are_found_by_their_names(tmp_path: Path) -> None:
    header = "source,target,since,kind,weight\n"
    data = made(tmp_path, edges=f"{header}a,b,2001,1,5\n")
    assert data.spec.edge_names == ("since", "kind")
    new = tmp_path / "new"
    new.mkdir()
    (new / "nodes.csv").write_text(NODES)
    (new / "edges.csv").write_text("source,target,weight,kind,colour,since\na,b,5,1,7,2001\n")
    [graph] = data.inputs(str(new), data.spec).loader
    assert graph.edge_attr.tolist() == [[2001, 1], [2001, 1]]
    assert graph.edge_weight.tolist() == [5, 5]
    (new / "edges.csv").write_text("source,target,weight,kinds,since\na,b,5,1,2001\n")
    message = "no column 'kind', but the model was trained on 2 features of edges; did you mean k"
    with pytest.raises(ValueError, match=message):
        data.inputs(str(new), data.spec)
