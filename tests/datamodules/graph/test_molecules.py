"""Molecules against RDKit and PyG, and splits by scaffold."""

import re
from pathlib import Path

import pytest
import torch
from torch_geometric.utils import from_smiles
from torch_geometric.utils.smiles import e_map, x_map

from trellis.datamodules.engine.division import Division
from trellis.datamodules.graph.molecules import MoleculeNet, MoleculesFromFile
from trellis.graph.molecules import molecule, scaffold

TABLE = """name,smiles,boils,toxic
ethanol,CCO,78.4,0
water,O,100,0
benzene,c1ccccc1,80.1,1
toluene,Cc1ccccc1,110.6,
aspirin,CC(=O)Oc1ccccc1C(=O)O,,1
naphthalene,c1ccc2ccccc2c1,218,1
cyclohexane,C1CCCCC1,80.7,0
phenol,Oc1ccccc1,181.7,1
methane,C,-161.5,0
xylene,Cc1ccccc1C,144,
"""


def ready(folder: Path, table: str = TABLE, **options) -> MoleculesFromFile:
    (folder / "m.csv").write_text(table)
    data = MoleculesFromFile(str(folder / "m.csv"), **{"target": "boils", **options})
    data.setup()
    return data


def test_atoms_are_those_of_pyg_as_one_hot_vectors() -> None:
    smiles = "C[C@H](N)C(=O)[O-]"
    ours, theirs = molecule(smiles), from_smiles(smiles)
    widths = [len(values) for values in x_map.values()]
    numbers = [part.argmax(1) for part in ours.x.split(widths, dim=1)]
    assert torch.equal(torch.stack(numbers, 1), theirs.x)
    assert torch.equal(ours.x.sum(1), torch.full((6,), float(len(widths))))
    assert torch.equal(ours.edge_index, theirs.edge_index)


def test_bonds_are_those_of_pyg_as_one_hot_vectors() -> None:
    smiles = "C/C=C/c1ccccc1C#N"
    ours, theirs = molecule(smiles), from_smiles(smiles)
    widths = [len(values) for values in e_map.values()]
    numbers = torch.stack([part.argmax(1) for part in ours.edge_attr.split(widths, dim=1)], 1)
    assert torch.equal(numbers, theirs.edge_attr)
    assert torch.equal(ours.edge_attr.sum(1), torch.full((len(numbers),), float(len(widths))))
    single, double, triple, aromatic = (
        e_map["bond_type"].index(kind) for kind in ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
    )
    counts = numbers[:, 0].bincount(minlength=aromatic + 1)
    # Each bond both ways: three single ones, C=C, the ring, C#N.
    assert counts[[single, double, triple, aromatic]].tolist() == [6, 2, 2, 12]
    assert molecule("O").edge_attr.shape == (0, sum(widths))


def test_targets_come_with_gaps_and_the_scale_of_the_training_split(tmp_path: Path) -> None:
    data = ready(tmp_path, target=["boils", "toxic"], targets="real", batch_size=20)
    batches = [next(iter(data.loader(split))) for split in ("train", "val", "test")]
    y = torch.cat([batch.y for batch in batches])
    assert y.shape == (10, 2)
    assert y.isnan().sum(0).tolist() == [1, 2]
    train = batches[0].y[:, 0]
    train = train[~train.isnan()].double()
    assert data.spec.target_means[0] == pytest.approx(train.mean().item())
    assert data.spec.target_scales[0] == pytest.approx(train.std(correction=0).item())


def test_no_scaffold_is_in_two_splits_and_the_largest_trains(tmp_path: Path) -> None:
    data = ready(tmp_path, split="scaffold", division=Division(val_share=0.2, test_share=0.2))
    smiles = [line.split(",")[1] for line in TABLE.splitlines()[1:]]
    parts = [{scaffold(smiles[i]) for i in data.splits[s].tolist()} for s in data.splits]
    assert "c1ccccc1" in parts[0]  # five of ten
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]
    assert [len(rows) for rows in data.splits.values()] == [6, 1, 3]  # three without rings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": TABLE + "who,C1CC,1,0\n"}, "line 12, column 'smiles': 'C1CC' is no molecule"),
        ({"target": "boil"}, "there is no column target='boil'; did you mean boils?"),
        ({"smiles": "smile"}, "there is no column smiles='smile'; did you mean smiles?"),
        ({"targets": "binary"}, "line 2, column 'boils': 78.4 is neither 0 nor 1"),
        ({"target": "name"}, "line 2, column 'name': 'ethanol' is not a finite number"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ready(tmp_path, **options)


def test_what_is_no_molecule_is_left_out_on_request(tmp_path: Path) -> None:
    data = ready(tmp_path, TABLE + "who,C1CC,1,0\n,,2,1\n", unreadable="skip")
    assert sum(len(rows) for rows in data.splits.values()) == 10


def test_new_molecules_are_predicted_under_their_smiles(tmp_path: Path) -> None:
    data = ready(tmp_path)
    (tmp_path / "new.csv").write_text("smiles,colour\nCCC,none\nN,none\n")
    loader, names = data.inputs(str(tmp_path / "new.csv"), data.spec)
    [batch] = loader
    assert names == ["CCC", "N"]
    assert torch.equal(batch.x[:3], molecule("CCC").x)
    assert torch.equal(batch.edge_attr, molecule("CCC").edge_attr)
    assert batch.edge_attr.shape == (4, data.spec.edge_channels)
    assert batch.num_graphs == 2


@pytest.mark.data
@pytest.mark.parametrize(("name", "count", "targets"), [("FreeSolv", 642, 1), ("ESOL", 1128, 1)])
def test_the_real_files_have_the_sizes_of_the_paper(
    data_dir: str, name: str, count: int, targets: int
) -> None:
    data = MoleculeNet(name, data_dir=data_dir)
    data.setup()
    assert sum(len(rows) for rows in data.splits.values()) == count
    assert data.spec.out_channels == targets
