"""Splits by shares and by folds."""

import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from trellis.datamodules.engine.division import Division, with_validation

STRATA = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[torch.randperm(100)]


@pytest.mark.parametrize("strata", [STRATA, torch.zeros(100, dtype=torch.long)])
@pytest.mark.parametrize("division", [Division(), Division(num_folds=4, fold=2), Division(seed=3)])
def test_each_example_is_in_one_split(strata: torch.Tensor, division: Division) -> None:
    rows = division.rows(strata)
    assert torch.cat([*rows.values()]).sort().values.tolist() == list(range(100))
    again = division.rows(strata)
    assert all(torch.equal(rows[split], again[split]) for split in rows)


def test_shares_are_those_of_each_class() -> None:
    rows = Division(val_share=0.1, test_share=0.2).rows(STRATA)
    counts = {split: STRATA[part].bincount().tolist() for split, part in rows.items()}
    assert counts == {"train": [35, 21, 14], "val": [5, 3, 2], "test": [10, 6, 4]}


def test_another_seed_is_another_draw() -> None:
    first, second = (Division(seed=seed).rows(STRATA)["test"].tolist() for seed in (0, 1))
    assert first != second


def test_folds_are_as_even_as_those_of_scikit_learn() -> None:
    folds = [Division(num_folds=7, fold=fold, val_share=0).rows(STRATA) for fold in range(7)]
    tests = [rows["test"] for rows in folds]
    assert torch.cat(tests).sort().values.tolist() == list(range(100))
    ours = [STRATA[part].bincount(minlength=3).tolist() for part in tests]
    splitter = StratifiedKFold(7, shuffle=True, random_state=0)
    theirs = [
        STRATA[torch.from_numpy(test)].bincount(minlength=3).tolist()
        for _, test in splitter.split(STRATA, STRATA)
    ]
    for one, other in zip(zip(*ours, strict=True), zip(*theirs, strict=True), strict=True):
        assert sorted(one) == sorted(other)  # of each class
    assert sorted(map(sum, ours)) == sorted(map(sum, theirs))


def test_without_validation_rows_it_is_on_the_training_rows() -> None:
    rows = with_validation(Division(val_share=0).rows(STRATA), "here")
    assert torch.equal(rows["val"], rows["train"])
    with pytest.raises(ValueError, match="no rows to train on"):
        with_validation({**rows, "train": rows["train"][:0]}, "here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_share": -0.1}, "val_share=-0.1: give at least 0"),
        ({"val_share": 0.5, "test_share": 0.5}, "leave nothing to train on"),
        ({"num_folds": 1}, "num_folds=1: give at least 2"),
        ({"num_folds": 5, "fold": 5}, "fold=5: give 0 to 4"),
    ],
)
def test_what_cannot_be_divided_is_refused(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Division(**options)
