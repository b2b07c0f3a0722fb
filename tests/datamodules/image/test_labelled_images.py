"""Data sets of images in their raw layouts, and what augmentation does with their batches."""

import io
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from image_files import write_idx_files
from PIL import Image
from sequence_cases import check_exact_resume
from torch import Tensor

from trellis.datamodules.image import CIFAR10, MNIST, FashionMNIST
from trellis.functional import mix_up
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector import Classification
from trellis.networks.image import SmallCNN
from trellis.nn import Cutout, Mixup, RandomColour, RandomCrop, RandomFlip, RandomRotation

STEPS = (RandomCrop, RandomFlip, partial(RandomRotation, degrees=15.0), RandomColour, Cutout)
MIXUP = partial(Mixup, alpha=0.4)


def write_cifar(folder: Path, records: np.ndarray, leave_out: str = "") -> Path:
    """The authors' archive, with ``records [60, 3073]``, ten in each file."""
    raw = folder / "CIFAR10" / "raw"
    raw.mkdir(parents=True)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    with tarfile.open(raw / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, part in zip(names, np.split(records, 6), strict=True):
            if name != leave_out:
                entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                entry.size = part.nbytes
                tar.addfile(entry, io.BytesIO(part.tobytes()))
    return folder


@pytest.fixture
def records() -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 256, (60, 3073), "uint8")
    drawn[:, 0] = np.arange(60) % 10
    return drawn


def ready(data):
    data.prepare_data()
    data.setup()
    return data


def test_cifar_is_read_record_by_record(tmp_path: Path, records: np.ndarray) -> None:
    folder = write_cifar(tmp_path, records)
    data = ready(CIFAR10(str(folder), batch_size=7, num_val=0, pixels="unit"))
    assert data.spec.shape == (3, 32, 32)
    x, y = (torch.cat(each) for each in zip(*data.loader("test"), strict=True))
    expected = records[50:, 1:].reshape(10, 3, 32, 32) / np.float32(255)
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)
    assert y.tolist() == list(range(10))
    assert len(data.splits["train"][0]) == 50


def test_colours_are_normalised_each_by_its_own_moments(
    tmp_path: Path, records: np.ndarray
) -> None:
    folder = write_cifar(tmp_path, records)
    x, _ = next(iter(ready(CIFAR10(str(folder), num_val=0)).loader("test")))
    pixels = records[50:, 1:].reshape(10, 3, 32, 32) / 255
    mean = np.array([0.4914, 0.4822, 0.4465])[:, None, None]
    std = np.array([0.2470, 0.2435, 0.2616])[:, None, None]
    np.testing.assert_allclose(x.numpy(), (pixels - mean) / std, atol=1e-5)
    same = CIFAR10(str(folder), num_val=0, augmentations=[partial(RandomFlip, chance=0.0)])
    same = ready(same).loader("train")
    plain = ready(CIFAR10(str(folder), num_val=0)).loader("train")
    torch.testing.assert_close(next(iter(same)), next(iter(plain)))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda r: {"leave_out": "data_batch_3.bin"}, "holds no data_batch_3.bin"),
        (lambda r: r[:, 0].fill(11) or {}, "label 11 of example 0"),
    ],
)
def test_a_damaged_archive_is_named(
    tmp_path: Path, records: np.ndarray, damage, match: str
) -> None:
    folder = write_cifar(tmp_path, records, **damage(records))
    with pytest.raises((OSError, ValueError), match=match):
        ready(CIFAR10(str(folder), num_val=0))


def test_a_short_archive_is_named(tmp_path: Path, records: np.ndarray) -> None:
    folder = write_cifar(tmp_path, records[:, :-1])
    with pytest.raises(OSError, match="30720 bytes, no multiple of 3073"):
        ready(CIFAR10(str(folder), num_val=0))
    path = folder / "CIFAR10" / "raw" / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(OSError, match=r"cifar-10-binary\.tar\.gz is damaged"):
        ready(CIFAR10(str(folder), num_val=0))


def test_fashion_has_the_format_of_mnist(tmp_path: Path) -> None:
    for name in ("MNIST", "FashionMNIST"):
        write_idx_files(tmp_path, name)
    options = {"num_val": 0, "pixels": "unit", "batch_size": 40}
    clothes = ready(FashionMNIST(str(tmp_path), **options))
    digits = ready(MNIST(str(tmp_path), **options))
    (x, y), (same, labels) = (next(iter(each.loader("train"))) for each in (clothes, digits))
    assert torch.equal(x, same)
    assert torch.equal(y, labels)
    assert clothes.spec.classes[9] == "Ankle boot"
    one, other = (ready(kind(str(tmp_path), num_val=0)) for kind in (FashionMNIST, MNIST))
    (x, _), (digit, _) = (next(iter(each.loader("test"))) for each in (one, other))
    torch.testing.assert_close(x * 0.3530 + 0.2860, digit * 0.3081 + 0.1307)


def changed(folder: Path, **options) -> FashionMNIST:
    given = {"augmentations": (*STEPS, MIXUP), "num_val": 8, "batch_size": 5, **options}
    return ready(FashionMNIST(str(folder), **given))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_idx_files(tmp_path, "FashionMNIST")


def test_only_training_images_are_changed(folder: Path) -> None:
    plain, data = changed(folder, augmentations=()), changed(folder)
    for split in ("val", "test"):
        for old, new in zip(plain.loader(split), data.loader(split), strict=True):
            torch.testing.assert_close(new, old)
    old, new = next(iter(plain.loader("train"))), next(iter(data.loader("train")))
    assert new[0].shape == old[0].shape
    assert not torch.allclose(new[0], old[0])
    assert new[1].shape == (5, 10)


def test_an_epoch_changes_anew_and_a_resumed_one_alike(folder: Path) -> None:
    check_exact_resume(changed(folder).loader("train"), changed(folder).loader("train"))
    loader, again = changed(folder).loader("train"), changed(folder).loader("train")
    first = [x for x, _ in loader]
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, again, strict=True))
    loader.set_epoch(1)
    assert not any(torch.equal(a, b) for a, (b, _) in zip(first, loader, strict=True))


def by_image(data: FashionMNIST) -> Tensor:
    loader = data.loader("train")
    order = torch.cat(list(loader.batches()))
    return torch.cat([x for x, _ in loader])[order.argsort()]


def test_changes_belong_to_the_image_whatever_its_batch(folder: Path) -> None:
    small, large = (
        by_image(changed(folder, augmentations=STEPS, batch_size=size)) for size in (3, 32)
    )
    torch.testing.assert_close(small, large)


def test_flat_images_are_changed_as_images(folder: Path) -> None:
    images, vectors = (by_image(changed(folder, flatten=flat)) for flat in (False, True))
    assert vectors.shape == (32, 784)
    torch.testing.assert_close(images.flatten(1), vectors)


def test_mixup_mixes_labels_as_it_mixes_images(folder: Path) -> None:
    """The weight that the images show is the one that the labels have."""
    data = changed(folder, augmentations=[MIXUP], pixels="unit", batch_size=32)
    plain = changed(folder, augmentations=(), pixels="unit", batch_size=32)
    (x, soft), (old, y) = next(iter(data.loader("train"))), next(iter(plain.loader("train")))
    step = (old - old.roll(1, 0)).flatten(1)
    weight = ((x - old.roll(1, 0)).flatten(1) * step).sum(1) / step.square().sum(1)
    rows = torch.arange(32)
    same = y == y.roll(1)
    torch.testing.assert_close(soft[rows, y], torch.where(same, 1.0, weight))


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(folder: Path, tmp_path: Path) -> None:
    adam = partial(torch.optim.Adam, lr=1e-3)
    objective = Classification(partial(SmallCNN, channels=2), adam)
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **options)
    trainer.fit(objective, datamodule=changed(folder))
    logits = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    y, w = torch.tensor([3, 5]), torch.tensor([0.25, 0.5])
    soft = mix_up(torch.eye(10)[y], w)
    own = F.cross_entropy(logits, y, reduction="none")
    other = F.cross_entropy(logits, y.roll(1), reduction="none")
    expected = (w * own + (1 - w) * other).mean()
    torch.testing.assert_close(objective.loss(logits, soft), expected)
    objective.eval()
    with pytest.raises(ValueError, match=r"labels \[2, 10\] of torch.float32 do not fit"):
        objective.loss(logits, soft)


def test_what_cannot_be_augmented_is_refused(folder: Path) -> None:
    with pytest.raises(
        ValueError,
        match="pixels='logit': .* are 'normalized' or 'unit'",
    ):
        FashionMNIST(str(folder), pixels="logit", augmentations=[RandomFlip])


def test_new_files_are_read_as_the_test_images_are(folder: Path, tmp_path: Path) -> None:
    """The pixels of the test split, written as files and read back, in colour, twice as large."""
    data = changed(folder)
    pixels, _ = data.splits["test"]
    for number, image in enumerate(pixels[:4].view(-1, 28, 28).numpy()):
        large = Image.fromarray(image).convert("RGB").resize((56, 56), Image.Resampling.NEAREST)
        large.save(tmp_path / f"{number}.png")
    fresh = FashionMNIST(str(tmp_path / "nowhere"), batch_size=3)
    loader, names = fresh.inputs(str(tmp_path), data.spec)
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    x = torch.cat([x for x, _ in loader])
    expected = torch.cat([x for x, _ in data.loader("test")])[:4]
    assert (x - expected).abs().mean() < 0.25 * expected.abs().mean()
    assert x.shape == (4, 1, 28, 28)
