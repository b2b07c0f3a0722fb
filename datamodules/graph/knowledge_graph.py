"""Knowledge graphs: triples of a head, a relation and a tail."""

import io
import json
import tarfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import SPLITS, DataModule, Inputs, Split
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.downloads import damaged_file
from trellis.datamodules.engine.loader import Loader
from trellis.files import FilePath, data_root, decode_utf8, name_of, read_bytes
from trellis.graph.triples import KnownAnswers, Questions, both_ways
from trellis.index import did_you_mean
from trellis.spec import KnowledgeGraphSpec

Name = Literal["WN18RR", "umls", "nations"]


class Triples(DataModule):
    """Base of the data in triples: a subclass reads the text of each split.

    Batch: ``Questions``, two for each triple: after its tail, and after its head.

    Args:
        batch_size: triples per batch.
    Raises:
        ValueError: a line that is no triple, or a relation that no training triple has; names the
            line.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = at_least_one("batch_size", batch_size)
        self.triples: dict[Split, Tensor] = {}

    @abstractmethod
    def texts(self) -> Mapping[Split, tuple[str, str]]:
        """What messages call each split, and its text: a triple a line, with tabs between."""

    def setup(self, stage: str | None = None) -> None:
        if self.triples:
            return
        texts = self.texts()
        read = {split: _read(*text) for split, text in texts.items()}
        names = {split: [words for _, words in rows] for split, rows in read.items()}
        entities = sorted({word for rows in names.values() for row in rows for word in row[::2]})
        relations = sorted({row[1] for row in names["train"]})
        for split in SPLITS:
            _check_relations(texts[split][0], read[split], relations)
        places = ({e: n for n, e in enumerate(entities)}, {r: n for n, r in enumerate(relations)})
        for split, rows in names.items():
            numbers = [[places[0][h], places[1][r], places[0][t]] for h, r, t in rows]
            self.triples[split] = torch.tensor(numbers)
        train = self.triples["train"]
        if unseen := len(entities) - len(train[:, ::2].unique()):
            rank_zero_info(f"{unseen} of {len(entities):,} entities have no training triple")
        self._learn(len(entities), len(relations))
        self.spec = KnowledgeGraphSpec(
            len(entities), len(relations), json.dumps(entities), json.dumps(relations)
        )

    def _learn(self, num_entities: int, num_relations: int) -> None:
        everything = torch.cat([self.triples[split] for split in SPLITS])
        self._known = KnownAnswers(everything, num_entities, num_relations)
        head, relation, tail = both_ways(self.triples["train"], num_relations)
        self._edges = torch.stack([head, tail]), relation

    def _edges_there(self) -> tuple[Tensor, Tensor]:
        """The training triples where the trainer learns: sent once, not with each batch."""
        edge_index, edge_type = self._edges
        return edge_index.to(self.device), edge_type.to(self.device)

    def loader(self, split: Split) -> Loader[Questions]:
        triples, train, count = self.triples[split], split == "train", self.spec.num_relations
        nothing, edges = torch.empty(2, 0, dtype=torch.long), self._edges_there()

        def batch(indices: Tensor) -> Questions:
            questions = both_ways(triples[indices], count)
            known = nothing if train else self._known.others(*questions)
            return Questions(*questions, known, *edges)

        return Loader(len(triples), batch, batch_size=self.batch_size, shuffle=train)

    def inputs(self, path: str, spec: Any) -> Inputs:
        """Questions after tails: a head, a tab and a relation a line.

        A relation that begins with ``^`` asks after the head.
        """
        self.setup()  # networks may read the training triples
        name, text = name_of(path), decode_utf8(read_bytes(path, "input"), name_of(path))
        entities, relations = json.loads(spec.entities), json.loads(spec.relations)
        heads = {entity: number for number, entity in enumerate(entities)}
        both = [*relations, *(f"^{relation}" for relation in relations)]
        asked_for = {relation: number for number, relation in enumerate(both)}
        questions, ids = [], []
        for line, (head, relation) in _rows(name, text, 2, "head<TAB>relation"):
            where = _place(name, line, head, heads), _place(name, line, relation, asked_for)
            questions.append(where)
            ids.append(f"{head} {relation}")
        asked = torch.tensor(questions)
        nothing, edges = torch.empty(2, 0, dtype=torch.long), self._edges_there()

        def batch(indices: Tensor) -> Questions:
            entity, relation = asked[indices].unbind(1)
            answers = torch.full_like(entity, -1)
            return Questions(entity, relation, answers, nothing, *edges)

        return Inputs(Loader(len(asked), batch, batch_size=self.batch_size), ids)


class KnowledgeGraph(Triples):
    """One of three knowledge graphs that methods are compared on.

    Batch: ``Questions``, two for each triple: after its tail, and after its head.

    ======= ======== ========= ====== ===== =====
    name    entities relations train  val   test
    ======= ======== ========= ====== ===== =====
    WN18RR  40,943   11        86,835 3,034 3,134
    umls    135      46        5,216  652   661
    nations 14       55        1,592  199   201
    ======= ======== ========= ====== ===== =====

    Args:
        name: which.
        batch_size: triples per batch.
        data_dir: the archives are in ``data_dir/knowledge_graphs``.
    Raises:
        FileNotFoundError: the archive is missing.
        OSError: it is damaged.
        ValueError: an unknown name, or a batch size below 1.

    Source: Dettmers et al. 2018 (WN18RR); Kok and Domingos 2007 (UMLS, Nations); the archives of
    github.com/TimDettmers/ConvE.
    """

    def __init__(
        self, name: Name = "umls", batch_size: int = 256, data_dir: FilePath | None = None
    ) -> None:
        choose_from("name", name, Name)
        super().__init__(batch_size)
        self.path = data_root(data_dir) / "knowledge_graphs" / f"{name}.tar.gz"

    def prepare_data(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path.name} is not in {self.path.parent}: put there that of "
                f"github.com/TimDettmers/ConvE, or set TRELLIS_DATA to a folder that holds "
                f"knowledge_graphs"
            )

    def texts(self) -> Mapping[Split, tuple[str, str]]:
        files: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
        try:
            with tarfile.open(self.path) as archive:
                found = {Path(member.name).name: member for member in archive.getmembers()}
                read = {}
                for split, file in files.items():
                    stream = archive.extractfile(found[f"{file}.txt"]) or io.BytesIO()
                    name = f"{self.path.name}, {file}.txt"
                    read[split] = name, decode_utf8(stream.read(), name)
                return read
        except (tarfile.TarError, EOFError, KeyError) as error:
            raise damaged_file(self.path, error) from error


class KnowledgeGraphFromFiles(Triples):
    """A knowledge graph of your own, from three files with a triple a line.

    Batch: ``Questions``, two for each triple: after its tail, and after its head. A line is
    ``head<TAB>relation<TAB>tail``.

    Args:
        train: path of the training triples, in UTF-8.
        val: path of the validation triples.
        test: path of the test triples; ``None`` uses ``val``.
        batch_size: triples per batch.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a line that is no triple, or a relation that no training triple has; names the
            line.
    """

    def __init__(
        self, train: FilePath, val: FilePath, test: FilePath | None = None, batch_size: int = 256
    ) -> None:
        super().__init__(batch_size)
        self.paths: dict[Split, str] = {"train": train, "val": val, "test": test or val}

    def texts(self) -> Mapping[Split, tuple[str, str]]:
        return {
            split: (path, decode_utf8(read_bytes(path, split), path))
            for split, path in self.paths.items()
        }


def _check_relations(name: str, rows: list[tuple[int, list[str]]], relations: list[str]) -> None:
    known = set(relations)
    for line, (_, relation, _) in rows:
        if relation not in known:
            hint = did_you_mean(relation, relations)
            raise in_line(name, line, f"relation {relation!r} is in no training triple{hint}")


def _read(name: str, text: str) -> list[tuple[int, list[str]]]:
    """Numbers of lines and their triples."""
    return _rows(name, text, 3, "head<TAB>relation<TAB>tail")


def _rows(name: str, text: str, width: int, form: str) -> list[tuple[int, list[str]]]:
    rows = []
    for line, content in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not content.strip():
            continue
        words = [word.strip() for word in content.split("\t")]
        if len(words) != width or not all(words):
            raise in_line(name, line, f"{content[:60]!r} is not {form}")
        rows.append((line, words))
    if not rows:
        raise ValueError(f"{name} holds no {form}")
    return rows


def _place(name: str, line: int, word: str, known: Mapping[str, int]) -> int:
    """The number of an entity or a relation."""
    if word not in known:
        hint = did_you_mean(word, known)
        raise in_line(name, line, f"{word!r} is not in the training data{hint}")
    return known[word]
