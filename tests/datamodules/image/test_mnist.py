import urllib.error
from pathlib import Path

import pytest
import torch
from image_files import idx, write, write_idx_files

from trellis.datamodules.image.idx import read_idx
from trellis.datamodules.image.mnist import FILES, MNIST
from trellis.spec import TensorSpec


@pytest.fixture
def look_alike(tmp_path: Path) -> Path:
    return write_idx_files(tmp_path)


def ready(folder: Path | str, **options) -> MNIST:
    data = MNIST(data_dir=str(folder), **options)
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def numbers(data: MNIST, split: str) -> list[int]:
    return [n for x, _ in data.loader(split) for n in x.flatten(1)[:, 0].mul(255).round().tolist()]


@pytest.mark.parametrize("flatten", [False, True])
def test_batches_are_the_pixels_of_the_file(look_alike: Path, flatten: bool) -> None:
    data = ready(look_alike, batch_size=4, flatten=flatten, num_val=0, pixels="unit")
    raw = read_idx(data.raw / "train-images-idx3-ubyte.gz", 3)
    seen = 0
    for x, y in data.train_dataloader():
        assert x.shape == ((4, 784) if flatten else (4, 1, 28, 28))
        assert x.dtype == torch.float32
        chosen = x.flatten(1)[:, 0].mul(255).round().long()
        torch.testing.assert_close(x.view(-1, 28, 28), raw[chosen] / 255)
        assert torch.equal(y, chosen % 10)
        seen += len(y)
    assert seen == 40
    size = () if flatten else (28, 28)
    classes = tuple("0123456789")
    assert data.spec == TensorSpec(784 if flatten else 1, 10, size, classes, values="unit")


def test_normalised_pixels(look_alike: Path) -> None:
    plain = next(iter(ready(look_alike, num_val=0, pixels="unit").test_dataloader()))[0]
    scaled = next(iter(ready(look_alike, num_val=0).test_dataloader()))[0]
    torch.testing.assert_close(scaled, (plain - 0.1307) / 0.3081)


BINARY = {"static": True, "dynamic": True, "dequantized": False, "logit": False}


def by_number(data: MNIST, split: str, epoch: int = 0) -> torch.Tensor:
    """Values of a split's images in the order of the file, whatever the order of the batches."""
    loader = data.loader(split)  # type: ignore[arg-type]
    loader.set_epoch(epoch)
    order = loader.batches()
    images = torch.cat([x.flatten(1) for x, _ in loader])
    return images[torch.cat(list(order)).argsort()]


@pytest.mark.parametrize("kind", BINARY)
def test_the_spec_says_what_the_pixels_are(look_alike: Path, kind: str) -> None:
    data = ready(look_alike, pixels=kind, num_val=8, alpha=0.01)
    assert data.spec.values == ("binary" if BINARY[kind] else kind)
    assert data.spec.alpha == (0.01 if kind == "logit" else 0.0)
    assert data.spec.shape == (1, 28, 28)
    assert ready(look_alike, num_val=8).spec.values == "real"


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_values_stand_for_the_bytes_of_the_file(look_alike: Path, kind: str, split: str) -> None:
    data = ready(look_alike, pixels=kind, num_val=8, batch_size=5, alpha=0.01)
    k, values = data.splits[split][0].double(), by_number(data, split).double()
    if BINARY[kind]:
        assert ((values == 0) | (values == 1)).all()
        assert values[k == 255].min() == 1
        assert values[k == 0].max() == 0
        gap = values - k / 255
        assert gap.mean().abs() < 4 * 0.41 / len(gap.flatten()) ** 0.5
    else:
        x = (values.sigmoid() - 0.01) / 0.98 if kind == "logit" else values
        assert (x * 256 >= k - 1e-3).all()
        assert (x * 256 < k + 1 + 1e-3).all()


@pytest.mark.parametrize("kind", BINARY)
def test_an_epoch_draws_anew_unless_the_bits_are_static(look_alike: Path, kind: str) -> None:
    data, again = (ready(look_alike, pixels=kind, num_val=8, batch_size=5) for _ in range(2))
    first, second = by_number(data, "train"), by_number(data, "train", epoch=1)
    assert torch.equal(first, second) == (kind == "static")
    assert torch.equal(first, by_number(again, "train"))
    assert torch.equal(second, by_number(again, "train", epoch=1))
    for split in ("val", "test"):
        assert torch.equal(by_number(data, split), by_number(data, split, epoch=1))


@pytest.mark.parametrize("kind", BINARY)
def test_values_are_the_same_after_a_resume(look_alike: Path, kind: str) -> None:
    def batches(skip: int) -> list[torch.Tensor]:
        loader = ready(look_alike, pixels=kind, num_val=8, batch_size=5).train_dataloader()
        loader.load_state_dict({"batches": skip})
        loader.set_epoch(3)
        return [x for x, _ in loader]

    assert torch.equal(torch.cat(batches(0)[4:]), torch.cat(batches(4)))


@pytest.mark.parametrize("kind", BINARY)
def test_evaluation_does_not_depend_on_the_batch_size(look_alike: Path, kind: str) -> None:
    small, large = (
        ready(look_alike, pixels=kind, num_val=8, batch_size=size, flatten=size == 3)
        for size in (3, 64)
    )
    for split in ("val", "test"):
        assert torch.equal(by_number(small, split), by_number(large, split))


@pytest.mark.parametrize("kind", ["dynamic", "dequantized", "logit"])
def test_an_epoch_draws_anew_where_its_batches_are_the_same(look_alike: Path, kind: str) -> None:
    """A batch of one image: nothing but the epoch tells one draw from the next."""
    data = ready(look_alike, pixels=kind, num_val=8)
    pixels, labels = data.splits["train"]
    data.splits["train"] = pixels[:1].fill_(127), labels[:1]
    draws = torch.cat([by_number(data, "train", epoch) for epoch in (0, 1, 2, 1)])
    assert len(draws.unique(dim=0)) == 3
    assert torch.equal(draws[1], draws[3])


def test_splits_and_batches_draw_their_own(look_alike: Path) -> None:
    """The same byte becomes other values in another split, batch and row."""
    data = ready(look_alike, pixels="dequantized", num_val=8, batch_size=5)
    for split in ("train", "val", "test"):
        data.splits[split][0].zero_()
    rows = torch.cat([by_number(data, split) for split in ("train", "val", "test")])
    assert len(rows.unique(dim=0)) == 50


def test_unknown_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pixels='bytes': choose from unit, static, dynamic"):
        MNIST(str(tmp_path), pixels="bytes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="alpha=0.5: give more than 0 and less than 0.5"):
        MNIST(str(tmp_path), pixels="logit", alpha=0.5)


def test_validation_comes_from_the_training_images(look_alike: Path) -> None:
    data = ready(look_alike, num_val=8, pixels="unit", batch_size=3)
    train, val, test = (numbers(data, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (32, 8, 10)
    assert sorted(train + val) == list(range(40))
    assert val != sorted(val), "a fixed slice would depend on the order of the file"
    assert val == numbers(ready(look_alike, num_val=8, pixels="unit"), "val")


def test_no_validation_images_means_the_test_images(look_alike: Path) -> None:
    data = ready(look_alike, num_val=0, pixels="unit")
    assert numbers(data, "val") == numbers(data, "test") == list(range(10))
    assert sorted(numbers(data, "train")) == list(range(40))


@pytest.mark.parametrize(
    ("num_val", "message"),
    [(-1, "num_val=-1: .* at least 0"), (40, "num_val=40: give less than the 40")],
)
def test_validation_leaves_something_to_train_on(
    look_alike: Path, num_val: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(look_alike, num_val=num_val)


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, idx(torch.zeros(40)), "starts with 00000801 instead of 00000803"),
        (IMAGES, b"", "starts with nothing instead of 00000803"),
        (IMAGES, b"\0\0\x08\x03\0\0", "starts with 00000803"),
        (IMAGES, idx(torch.zeros(40, 28, 28))[:-1], "31359 bytes instead of 40x28x28"),
        (IMAGES, idx(torch.zeros(40, 28, 28)) + b"\0", "31361 bytes instead of 40x28x28"),
        (IMAGES, idx(torch.zeros(40, 14, 14)), "14x14 pixels instead of 28x28"),
        (LABELS, idx(torch.zeros(40, 1, 1)), "starts with 00000803 instead of 00000801"),
        (LABELS, idx(torch.zeros(39)), "39 labels for the 40 images"),
    ],
)
def test_damaged_files_are_named(
    look_alike: Path, name: str, content: bytes, message: str
) -> None:
    write(look_alike / "MNIST" / "raw", name, content)
    with pytest.raises(OSError, match=message) as caught:
        ready(look_alike)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_no_digit_is_refused(look_alike: Path) -> None:
    labels = torch.zeros(40)
    labels[7] = 10
    write(look_alike / "MNIST" / "raw", LABELS, idx(labels))
    with pytest.raises(ValueError, match=r"label 10 of example 7 is not in 0\.\.9"):
        ready(look_alike)


def test_without_files_or_network_the_first_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(FileNotFoundError, match=f"{IMAGES} is not in .*MNIST/raw"):
        MNIST(data_dir=str(tmp_path)).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_downloads_are_checked() -> None:
    assert all(c.startswith("sha256:") and len(c) == 7 + 64 for c in FILES.values())


@pytest.mark.data
def test_the_real_digits(data_dir: str) -> None:
    data = ready(data_dir)
    sizes = {split: len(y) for split, (_, y) in data.splits.items()}
    assert sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    x = torch.cat([data.splits["train"][0], data.splits["val"][0]]) / 255
    assert x.mean() == pytest.approx(0.1307, abs=1e-4)
    assert x.std() == pytest.approx(0.3081, abs=1e-4)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (64, 1, 28, 28)
    assert set(labels.tolist()) == set(range(10))
