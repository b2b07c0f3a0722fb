import pytest
import torch

from trellis.generative.pixel_levels import as_levels


@pytest.mark.parametrize("num_levels", [2, 3, 256])
def test_every_level_is_found_again(num_levels: int) -> None:
    levels = torch.arange(num_levels)
    found = as_levels((levels / (num_levels - 1)).view(1, -1), num_levels)
    assert found.dtype == torch.long
    assert found.tolist() == [levels.tolist()]


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), 1.01])
def test_other_numbers_are_refused(value: float) -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, value]])
    with pytest.raises(ValueError, match=rf"x holds {value:.4g}, which is none of the 2 levels"):
        as_levels(x, 2)
    with pytest.raises(ValueError, match="256 levels from 0 to 1: give pixels='unit'"):
        as_levels(x, 256)
