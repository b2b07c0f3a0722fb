"""A last batch of one example must not end a run, and must change nothing else."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from learning_cases import quiet_trainer
from torch import nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.engine.single_values import normalize_single_values
from trellis.lightning_modules.vector.classification import Classification
from trellis.spec import TensorSpec


class Seventeen(DataModule):
    """17 vectors in batches of 16."""

    spec = TensorSpec(4, 2)

    def loader(self, split: str) -> Loader:
        x = torch.randn(17, 4, generator=torch.Generator().manual_seed(0))
        return tensor_loader(x, (x[:, 0] > 0).long(), batch_size=16, train=split == "train")


class Normalized(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, norm: type = nn.BatchNorm1d) -> None:
        super().__init__(nn.Linear(in_channels, 8), norm(8), nn.Linear(8, out_channels))


def test_a_run_whose_last_batch_is_one_example_goes_on(tmp_path: Path) -> None:
    objective = Classification(Normalized)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(objective, datamodule=Seventeen())
    assert trainer.global_step == 6
    assert objective.network[1].num_batches_tracked == 3
    assert objective.network[1].training


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d, (1, 3)), (nn.BatchNorm1d, (1, 3, 1)),
                        (nn.BatchNorm2d, (1, 3, 1, 1)), (nn.BatchNorm3d, (1, 3, 1, 1, 1))]
)  # fmt: skip
def test_single_values_use_the_running_statistics(norm: type, shape: tuple, copied: bool) -> None:
    layer, plain = norm(3), norm(3)
    normalize_single_values(layer)
    layer = deepcopy(layer) if copied else layer  # as averages of weights do
    many = torch.randn(5, *shape[1:])
    torch.testing.assert_close(layer(many), plain(many))
    torch.testing.assert_close(layer.state_dict(), plain.state_dict())
    one = torch.randn(shape)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        deepcopy(plain)(one)
    torch.testing.assert_close(layer(one), plain.eval()(one))
    torch.testing.assert_close(layer.state_dict(), plain.state_dict())
    assert layer.training


def test_one_image_or_text_has_statistics_of_its_own() -> None:
    for norm, shape in ((nn.BatchNorm1d, (1, 3, 4)), (nn.BatchNorm2d, (1, 3, 2, 2))):
        layer, plain, one = norm(3), norm(3), torch.randn(shape)
        normalize_single_values(layer)
        torch.testing.assert_close(layer(one), plain(one))
        torch.testing.assert_close(layer.state_dict(), plain.state_dict())


def test_evaluation_of_one_example_stays_evaluation() -> None:
    layer = nn.BatchNorm1d(3).eval()
    normalize_single_values(layer)
    layer(torch.randn(1, 3))
    assert not layer.training


def test_an_error_inside_leaves_training_on() -> None:
    layer = nn.BatchNorm1d(3)
    normalize_single_values(layer)
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, 4, 1))
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, 4))
    assert layer.training
    assert layer(torch.randn(1, 3)).shape == (1, 3)


def test_norms_without_running_statistics_are_left_alone() -> None:
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    normalize_single_values(layer)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(1, 3))
