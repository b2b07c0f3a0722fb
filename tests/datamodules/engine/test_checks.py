import pytest
import torch

from trellis.datamodules.engine.checks import check_features, check_labels


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_features_must_be_finite(value: str) -> None:
    x = torch.zeros(4, 3)
    check_features(x, "mine")
    x[2, 1] = float(value)
    with pytest.raises(ValueError, match=f"mine: feature 1 of example 2 is {value}: replace"):
        check_features(x, "mine")


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_must_be_in_range(label: int) -> None:
    check_labels(torch.tensor([0, 2]), 3, "mine")
    with pytest.raises(ValueError, match=rf"mine: label {label} of example 1 is not in 0\.\.2"):
        check_labels(torch.tensor([0, label]), 3, "mine")
