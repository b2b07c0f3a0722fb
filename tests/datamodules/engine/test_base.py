import pytest
import torch

from trellis.datamodules.graph.tu_dataset import TUDataset
from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.mnist import MNIST
from trellis.datamodules.vector.digits import Digits
from trellis.datamodules.vector.synthetic_points import SyntheticPoints


def test_batches_stay_where_they_are_made_or_go_to_the_accelerator() -> None:
    data, batch = SyntheticPoints(), (torch.zeros(2), [torch.ones(3)])
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    x, (y,) = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert x.device.type == y.device.type == "meta"


@pytest.mark.parametrize("kind", [Digits, ImageFolder, MNIST, SyntheticPoints, TUDataset])
def test_no_batch_is_empty(kind: type) -> None:
    """Said before anything is read or downloaded."""
    given = {"path": "."} if kind is ImageFolder else {}
    with pytest.raises(ValueError, match="batch_size=0: give at least 1"):
        kind(batch_size=0, **given)
