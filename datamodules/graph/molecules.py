"""Molecules in a table: their SMILES, and what was measured of each."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch_geometric.data import Batch, Data

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Inputs, Split
from trellis.datamodules.engine.division import Division, Rows, with_validation
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.datamodules.vector.columns import Columns, read_columns
from trellis.datamodules.vector.encoding import mean_and_scale
from trellis.files import FilePath, data_root
from trellis.graph.molecules import ATOM_WIDTHS, BOND_WIDTHS, molecule, scaffold
from trellis.spec import GraphSpec

SplitBy = Literal["random", "scaffold"]
Unreadable = Literal["error", "skip"]
GraphTargets = Literal["real", "binary"]


class MoleculeData(DataModule):
    """Base of the data whose graphs are molecules: a subclass reads the table.

    Batch: a PyG ``Batch`` with ``x`` (one-hot: element, chirality, degree, charge, hydrogens,
    radical electrons, hybridisation, aromatic, in a ring), ``edge_index``, ``edge_attr`` (one-hot:
    type of the bond, its stereo configuration, conjugated), ``batch`` and targets ``y [B, T]``,
    NaN where one was not measured: real ones in their own unit, or 0 and 1.

    Args:
        smiles: column of the SMILES.
        target: column of the target, or several.
        targets: ``real``, or ``binary``: 0 and 1.
        split: ``random``, by ``division``; ``scaffold`` trains on the molecules of the most common
            scaffolds, and tests on those of the rarest: the shares are those of ``division``.
        division: shares and seed of the splits.
        unreadable: a SMILES that is none is an error, or ``skip`` leaves it out and says so.
        batch_size: molecules per batch.
    Raises:
        ValueError: an option out of range, a column that is not there, a cell that is no number,
            a SMILES that is none; names the line.

    Source: Wu et al. 2018 (MoleculeNet and its scaffold split).
    """

    def __init__(
        self,
        smiles: str,
        target: Sequence[str] | str,
        targets: GraphTargets,
        split: SplitBy,
        division: Division,
        unreadable: Unreadable,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.smiles = smiles
        self.target = (target,) if isinstance(target, str) else (*target,)
        self.targets = choose_from("targets", targets, GraphTargets)
        self.split, self.division = choose_from("split", split, SplitBy), division
        self.unreadable = choose_from("unreadable", unreadable, Unreadable)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.graphs: InMemoryGraphs | None = None

    @abstractmethod
    def read(self) -> Columns:
        """The table."""

    def setup(self, stage: str | None = None) -> None:
        if self.graphs is not None:
            return
        table = self.read()
        table.require(self.target, "target")
        read = self._molecules(table)
        y = torch.stack([self._measured(table, name) for name in self.target], dim=1)[read.rows]
        self.splits = with_validation(self._divided(read.smiles), table.source)
        self.test_ids = [read.smiles[i] for i in self.splits["test"].tolist()]
        self.spec = self._spec(y[self.splits["train"]])
        self.graphs = _in_memory(read.graphs, y)

    def _molecules(self, table: Columns) -> "_Read":
        table.require([self.smiles], "smiles")
        rows, texts, graphs = [], [], []
        for row, smiles in enumerate(table.texts(self.smiles)):
            if (graph := molecule(smiles)) is not None:
                rows.append(row)
                texts.append(smiles)
                graphs.append(graph)
            elif self.unreadable == "error":
                problem = f"{smiles[:60]!r} is no molecule: mend it, or give unreadable=skip"
                raise table.error(row, self.smiles, problem)
        if not graphs:
            raise ValueError(f"{table.source}, column {self.smiles!r}: there is no molecule")
        if missing := len(table) - len(rows):
            rank_zero_info(f"{table.source}: {missing} of {len(table)} rows are no molecules")
        return _Read(torch.tensor(rows), texts, graphs)

    def _measured(self, table: Columns, name: str) -> Tensor:
        values = table.floats(name, "mend it, or leave it empty")
        wrong = ~(np.isnan(values) | np.isin(values, (0, 1)))
        if self.targets == "binary" and wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise table.error(row, name, f"{values[row]:g} is neither 0 nor 1: give targets=real")
        return torch.from_numpy(values).float()

    def _spec(self, y: Tensor) -> GraphSpec:
        spec = GraphSpec(
            sum(ATOM_WIDTHS),
            y.size(1),
            targets=self.targets,
            target_names=self.target,
            edge_channels=sum(BOND_WIDTHS),
        )
        columns = [column[~column.isnan()].double().numpy() for column in y.unbind(1)]
        for name, column in zip(self.target, columns, strict=True):
            if not len(column):
                raise ValueError(f"target={name!r}: no training molecule has it")
        if self.targets == "binary":
            return spec
        means, scales = zip(*map(mean_and_scale, columns), strict=True)
        return replace(spec, target_means=means, target_scales=scales)

    def _divided(self, smiles: Sequence[str]) -> Rows:
        if self.split == "random":
            return self.division.rows(torch.zeros(len(smiles), dtype=torch.long))
        groups: dict[str, list[int]] = {}
        for number, text in enumerate(smiles):
            groups.setdefault(scaffold(text), []).append(number)
        held_out = self.division.val_share + self.division.test_share
        ends = [round((1 - share) * len(smiles)) for share in (held_out, self.division.test_share)]
        limits = [ends[0], ends[1] - ends[0], len(smiles)]
        parts: list[list[int]] = [[], [], []]
        # The largest groups first, of equally large ones the last in the table, as DeepChem does.
        for group in sorted(groups.values(), key=lambda g: (len(g), g[0]), reverse=True):
            room = (n for n in range(3) if len(parts[n]) + len(group) <= limits[n])
            parts[next(room)] += group
        train, val, test = (torch.tensor(sorted(part), dtype=torch.long) for part in parts)
        return {"train": train, "val": val, "test": test}

    def loader(self, split: Split) -> Loader[Batch]:
        assert self.graphs is not None, "setup() comes first"
        return self._loader(self.graphs, self.splits[split], shuffle=split == "train")

    def _loader(self, graphs: InMemoryGraphs, chosen: Tensor, shuffle: bool) -> Loader[Batch]:
        return Loader(
            len(chosen),
            lambda indices: graphs.batch(chosen[indices]),
            batch_size=self.batch_size,
            shuffle=shuffle,
        )

    def inputs(self, path: str, spec: Any) -> Inputs:
        table = read_columns(path, "input")
        read = self._molecules(table)
        y = torch.full((len(read.graphs), spec.out_channels), torch.nan)
        graphs, chosen = _in_memory(read.graphs, y), torch.arange(len(read.graphs))
        return Inputs(self._loader(graphs, chosen, shuffle=False), read.smiles)


class MoleculeNet(MoleculeData):
    """One of the sets of MoleculeNet; see ``MoleculeData``.

    ============= ========= ================================================ ========
    name          molecules targets                                          metric
    ============= ========= ================================================ ========
    ESOL          1,128     logarithm of the solubility in water, in mol/l   RMSE
    FreeSolv      642       free energy of hydration, in kcal/mol            RMSE
    Lipophilicity 4,200     logarithm of octanol/water partition at pH 7.4   RMSE
    BACE          1,513     whether it inhibits beta-secretase 1             ROC-AUC
    ClinTox       1,484     approved as a drug; too toxic in clinical trials ROC-AUC
    Tox21         7,831     twelve assays of toxicity                        ROC-AUC
    ============= ========= ================================================ ========

    Args:
        name: which.
        split: ``random``, or by ``scaffold``; see ``MoleculeData``.
        division: shares and seed of the splits.
        batch_size: molecules per batch.
        data_dir: the files are in ``data_dir/molecules``.
    Raises:
        FileNotFoundError: the file is missing.
        ImportError: RDKit is missing; says how to install it.

    Source: Wu et al. 2018.
    """

    def __init__(
        self,
        name: Literal["ESOL", "FreeSolv", "Lipophilicity", "BACE", "ClinTox", "Tox21"] = "ESOL",
        split: SplitBy = "random",
        division: Division = Division(val_share=0.1, test_share=0.1),  # noqa: B008 - frozen
        batch_size: int = 64,
        data_dir: FilePath | None = None,
    ) -> None:
        file, targets, columns, smiles = FILES[choose_from("name", name, FILES)]
        super().__init__(smiles, columns, targets, split, division, "skip", batch_size)
        self.path = data_root(data_dir) / "molecules" / file

    def prepare_data(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path.name} is not in {self.path.parent}: put there the file of "
                f"moleculenet.org, or set TRELLIS_DATA to a folder that holds molecules"
            )

    def read(self) -> Columns:
        return read_columns(self.path, "data_dir")


class MoleculesFromFile(MoleculeData):
    """Molecules of your own; see ``MoleculeData``.

    Args:
        path: a table as of ``Table``, with a column of SMILES.
        target: column of the target, or several.
        smiles: column of the SMILES.
        targets: ``real``, or ``binary``: 0 and 1.
        split: ``random``, or by ``scaffold``.
        division: shares and seed of the splits.
        unreadable: a SMILES that is none is an error, or ``skip`` leaves it out and says so.
        batch_size: molecules per batch.
    Raises:
        FileNotFoundError: there is no such file.
        ImportError: RDKit is missing; says how to install it.
        ValueError: see ``MoleculeData``.
    """

    def __init__(
        self,
        path: FilePath,
        target: Sequence[str] | str,
        smiles: str = "smiles",
        targets: GraphTargets = "real",
        split: SplitBy = "random",
        division: Division = Division(val_share=0.1, test_share=0.1),  # noqa: B008 - frozen
        unreadable: Unreadable = "error",
        batch_size: int = 64,
    ) -> None:
        super().__init__(smiles, target, targets, split, division, unreadable, batch_size)
        self.path = path

    def read(self) -> Columns:
        return read_columns(self.path, "path")


class _Read(NamedTuple):
    """Rows of a table that are molecules, and these."""

    rows: Tensor
    smiles: list[str]
    graphs: list[Data]


def _in_memory(graphs: Sequence[Data], y: Tensor) -> InMemoryGraphs:
    for graph, target in zip(graphs, y, strict=True):
        graph.y = target[None]
    return InMemoryGraphs.from_data_list(graphs)


_TOX21 = ("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma",
          "SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53")  # fmt: skip
_ESOL = "measured log solubility in mols per litre"
# File, kind and columns of the targets, column of the SMILES.
FILES: dict[str, tuple[str, GraphTargets, tuple[str, ...], str]] = {
    "ESOL": ("delaney-processed.csv", "real", (_ESOL,), "smiles"),
    "FreeSolv": ("SAMPL.csv", "real", ("expt",), "smiles"),
    "Lipophilicity": ("Lipophilicity.csv", "real", ("exp",), "smiles"),
    "BACE": ("bace.csv.gz", "binary", ("Class",), "smiles"),
    "ClinTox": ("clintox.csv.gz", "binary", ("FDA_APPROVED", "CT_TOX"), "smiles"),
    "Tox21": ("tox21.csv.gz", "binary", _TOX21, "smiles"),
}
