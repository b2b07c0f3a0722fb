"""Triples from archives and files, as questions both ways."""

import re
from pathlib import Path

import pytest
import torch

from trellis.datamodules.graph.knowledge_graph import KnowledgeGraph, KnowledgeGraphFromFiles

TRAIN = "ann\tchild_of\tbob\nbob\tchild_of\tcleo\nann\tknows\tcleo\n"


def files(folder: Path, train: str = TRAIN, val: str = "ann\tknows\tbob\n") -> list[str]:
    for name, text in (("train", train), ("val", val)):
        (folder / f"{name}.tsv").write_text(text)
    return [str(folder / f"{name}.tsv") for name in ("train", "val")]


def ready(folder: Path, **texts: str) -> KnowledgeGraphFromFiles:
    data = KnowledgeGraphFromFiles(*files(folder, **texts), batch_size=2)
    data.setup()
    return data


@pytest.mark.parametrize(
    ("name", "entities", "relations", "sizes"),
    [
        ("umls", 135, 46, [5216, 652, 661]),
        ("nations", 14, 55, [1592, 199, 201]),
        ("WN18RR", 40943, 11, [86835, 3034, 3134]),
    ],
)
@pytest.mark.data
def test_the_archives_have_the_sizes_of_the_papers(
    data_dir: str, name: str, entities: int, relations: int, sizes: list[int]
) -> None:
    data = KnowledgeGraph(name, data_dir=data_dir)
    data.prepare_data()
    data.setup()
    assert (data.spec.num_entities, data.spec.num_relations) == (entities, relations)
    assert [len(triples) for triples in data.triples.values()] == sizes


def test_each_triple_is_asked_both_ways(tmp_path: Path) -> None:
    data = ready(tmp_path)
    [batch] = data.loader("val")
    # ann, bob, cleo; child_of, knows, and their inverses.
    assert batch.entity.tolist() == [0, 1]
    assert batch.relation.tolist() == [1, 3]
    assert batch.answer.tolist() == [1, 0]
    assert batch.known.tolist() == [[0], [2]]  # ann knows cleo, too
    assert torch.equal(batch.edge_index[:, :3], batch.edge_index.flip(0)[:, 3:])
    seen = [batch.entity.tolist() for batch in data.loader("train")]
    assert sorted(sum(seen, [])) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train": "ann\tknows\n"}, "train.tsv, line 1: 'ann\\tknows' is not head<TAB>relation"),
        ({"train": "\n"}, "train.tsv holds no head<TAB>relation<TAB>tail"),
        (
            {"val": "ann\tknows\tbob\nann\tknow\tbob\n"},
            "val.tsv, line 2: relation 'know' is in no training triple; did you mean knows?",
        ),
    ],
)
def test_what_is_no_triple_is_named(tmp_path: Path, texts: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message).replace("\\\t", "\\\\t")):
        ready(tmp_path, **texts)


def test_new_questions_are_answered_in_their_order(tmp_path: Path) -> None:
    data = ready(tmp_path)
    new = tmp_path / "new.tsv"
    new.write_text("bob\tchild_of\ncleo\t^child_of\n")
    loader, ids = data.inputs(str(new), data.spec)
    [batch] = loader
    assert ids == ["bob child_of", "cleo ^child_of"]
    assert (batch.entity.tolist(), batch.relation.tolist()) == ([1, 2], [0, 2])
    new.write_text("bop\tchild_of\n")
    with pytest.raises(ValueError, match=r"new.tsv, line 1: 'bop' is not in .*did you mean bob"):
        data.inputs(str(new), data.spec)
