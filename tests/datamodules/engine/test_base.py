from pathlib import Path

import pytest
import torch

from trellis.datamodules.engine import loader
from trellis.datamodules.engine.base import tensor_loader
from trellis.datamodules.graph.tu_dataset import TUDataset
from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.mnist import MNIST
from trellis.datamodules.sequence import CopyReverse, DateFormats, TinyShakespeare
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


def test_the_size_of_a_batch_can_be_set(tmp_path: Path) -> None:
    """As ``BatchSizeFinder`` does; it sets ``hparams`` only where there is no attribute."""
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 40)
    options = {"context": 4, "batch_size": 7}
    kinds = [CopyReverse(batch_size=7, num_train=40), DateFormats(batch_size=7, num_train=40)]
    for data in (*kinds, TinyShakespeare(path=str(text), **options)):
        data.setup("fit")
        for size in (7, 3):
            data.batch_size = size
            batch = next(iter(data.train_dataloader()))
            first = batch if isinstance(batch, torch.Tensor) else batch[0]
            assert len(first) == size, type(data).__name__


def test_overfitting_sees_the_same_batches_again(tmp_path):
    """``overfit_batches`` is for memorising a few batches: they may not change."""
    import lightning as L

    from trellis.datamodules.vector import SyntheticPoints

    seen: list[torch.Tensor] = []

    class Module(L.LightningModule):
        def training_step(self, batch, batch_idx):
            seen.append(batch[0].clone())

        def configure_optimizers(self):
            return None

    def batches(**options) -> list[torch.Tensor]:
        seen.clear()
        trainer = L.Trainer(
            max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu", default_root_dir=tmp_path, **options,
        )  # fmt: skip
        trainer.fit(Module(), datamodule=SyntheticPoints(num_examples=100, batch_size=8))
        return list(seen)

    a, b, c, d = batches(overfit_batches=2)
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    a, b, c, d = batches(limit_train_batches=2)
    assert not torch.equal(a, c), "without it each epoch has another order"


@pytest.mark.parametrize("train", [True, False])
def test_all_processes_have_equally_many_batches_and_say_which_are_repeats(
    train: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a batch would hang the others; a repeated one must not count twice."""
    x, once = torch.arange(10), []
    for rank in range(2):
        monkeypatch.setattr(loader, "rank_and_world", lambda rank=rank: (rank, 2))
        own = tensor_loader(x, x, batch_size=2, train=train)
        batches = list(own)
        assert len(batches) == 3
        once += [part for i, (part, _) in enumerate(batches) if not own.repeats(2 * i + rank)]
    assert sorted(torch.cat(once).tolist()) == list(range(10))
