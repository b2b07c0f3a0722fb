"""Predictions as files: names of columns, ids of examples."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trellis.lightning_modules.commands.predictions import write_predictions
from trellis.lightning_modules.vector.regression import Moments
from trellis.spec import TensorSpec

HALVES = torch.tensor([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])


def written(folder: Path, batches: list[Any], spec: TensorSpec, ids: Any = None) -> list[str]:
    path = write_predictions(batches, SimpleNamespace(spec=spec), folder, ids)
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("ids", [None, ["a", "b", "c"], ["a", "b", "c", "left out"]])
def test_probabilities_stand_under_classes_beside_ids(tmp_path: Path, ids: Any) -> None:
    lines = written(tmp_path, [HALVES[:2], HALVES[2:]], TensorSpec(3, 2, classes=("x", "y")), ids)
    rows = ["x,y", "0.25,0.75", "0.5,0.5", "1.0,0.0"]
    names = ["id", "a", "b", "c"]
    with_ids = [f"{name},{row}" for name, row in zip(names, rows, strict=True)]
    assert lines == (rows if ids is None else with_ids)


def test_each_target_has_a_column_for_each_number(tmp_path: Path) -> None:
    spec = TensorSpec(3, 2, targets="real", target_names=("u", "v"))
    batches = [Moments(HALVES[:1], 2 * HALVES[:1]), Moments(HALVES[1:], 2 * HALVES[1:])]
    lines = written(tmp_path, batches, spec)
    assert lines[:2] == ["u_mean,v_mean,u_std,v_std", "0.25,0.75,0.5,1.5"]
    assert len(lines) == 4
    unnamed = written(tmp_path, batches, TensorSpec(3, 2, targets="real"))
    assert unnamed[0] == "0_mean,1_mean,0_std,1_std"


def test_columns_of_a_dictionary_keep_their_names(tmp_path: Path) -> None:
    batches = [{"return": torch.tensor([1.0, 2.0]), "length": torch.tensor([3, 4])}]
    assert written(tmp_path, batches, TensorSpec(3, 2)) == ["return,length", "1.0,3", "2.0,4"]
