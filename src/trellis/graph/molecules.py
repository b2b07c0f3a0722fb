"""Molecules as graphs: atoms are nodes, bonds are edges both ways. Needs RDKit."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils.smiles import e_map, from_rdmol, x_map

# One-hot widths of what PyG knows of an atom: element, chirality, degree, charge, hydrogens ...
ATOM_WIDTHS = tuple(len(values) for values in x_map.values())
# And of a bond: its type, its stereo configuration, whether it is conjugated.
BOND_WIDTHS = tuple(len(values) for values in e_map.values())


@cache
def rdkit() -> Any:
    """The module ``rdkit.Chem``; it no longer writes what it cannot read to stderr.

    Raises:
        ImportError: it is missing; says how to install it.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise ImportError(
            'molecules need RDKit: pip install "torch-trellis[molecules]"'
        ) from error
    rdBase.DisableLog("rdApp.*")
    return Chem


def molecule(smiles: str) -> Data | None:
    """A molecule from its SMILES, its atoms and bonds described by one-hot vectors.

    Args:
        smiles: as a chemist writes it.
    Returns:
        ``x [N, sum(ATOM_WIDTHS)]``, ``edge_index`` and ``edge_attr [E, sum(BOND_WIDTHS)]``;
        ``None`` where this is no molecule, or one without atoms.

    Source: Weininger 1988 (SMILES); the features are those of PyG's ``from_smiles``.

    >>> molecule("CCO")
    Data(x=[3, 177], edge_index=[2, 4], edge_attr=[4, 30])
    >>> molecule("C1CC") is None
    True
    """
    parsed = rdkit().MolFromSmiles(smiles)
    if parsed is None or not parsed.GetNumAtoms():
        return None
    data = from_rdmol(parsed)
    bonds = one_hot(data.edge_attr, BOND_WIDTHS)
    return Data(x=one_hot(data.x, ATOM_WIDTHS), edge_index=data.edge_index, edge_attr=bonds)


def one_hot(numbers: Tensor, widths: Sequence[int]) -> Tensor:
    """Columns of small numbers ``[N, K]`` as one-hot vectors side by side, ``[N, sum(widths)]``.

    >>> one_hot(torch.tensor([[1, 0], [0, 2]]), (2, 3))
    tensor([[0., 1., 1., 0., 0.],
            [1., 0., 0., 0., 1.]])
    """
    columns = zip(numbers.unbind(1), widths, strict=True)
    return torch.cat([F.one_hot(column, width) for column, width in columns], dim=1).float()


def scaffold(smiles: str) -> str:
    """The rings of a molecule and what joins them, as SMILES; empty where there are no rings.

    Source: Bemis and Murcko 1996.

    >>> scaffold("CCc1ccccc1")
    'c1ccccc1'
    """
    rdkit()
    from rdkit.Chem.Scaffolds import MurckoScaffold

    found: str = MurckoScaffold.MurckoScaffoldSmiles(smiles=smiles, includeChirality=False)
    return found
