"""The classifier by which samples are evaluated: accuracy, its cache, damaged files."""

import os
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.callbacks import image_classifier as module
from trellis.lightning_modules.callbacks.image_classifier import (
    cache_folder,
    check_classifiable,
    image_classifier,
    split_images,
)
from trellis.spec import TensorSpec

STEPS = 60


def digits(**options) -> Digits:
    data = Digits(**options)
    data.setup()
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


class Stripes(DataModule):
    """Stripes across (0) or along (1) images of 6x6 pixels, or vectors of 36."""

    def __init__(self, flatten: bool = False, values: str = "unit", batch_size: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.batch_size = batch_size
        across = torch.arange(36).view(6, 6) // 6 % 2 * 1.0
        self.y = torch.arange(60) % 2
        noise = 0.3 * torch.rand(60, 6, 6, generator=torch.Generator().manual_seed(0))
        x = torch.where((self.y == 0)[:, None, None], across, across.T) * 0.7 + noise
        if values == "logit":
            x = (0.05 + 0.9 * x).logit()
        self.x = x.flatten(1) if flatten else x[:, None]
        shape = {"in_channels": 36} if flatten else {"in_channels": 1, "size": (6, 6)}
        alpha = 0.05 if values == "logit" else 0.0
        self.spec = TensorSpec(out_channels=2, values=values, alpha=alpha, **shape)

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=self.batch_size, train=split == "train")


def test_it_learns_its_images(folder: Path) -> None:
    data = digits()
    classifier = image_classifier(data, folder, STEPS)
    chosen = data.splits["val"]
    logits = classifier.network(data.x[chosen].view(-1, 1, 8, 8))
    right = (logits.argmax(-1) == data.y[chosen]).double().mean()
    assert classifier.accuracy == float(right) > 0.9
    counts = torch.bincount(data.y[data.splits["train"]]) / 1297
    torch.testing.assert_close(classifier.shares, counts)


def test_features_are_what_the_last_layer_sees(folder: Path) -> None:
    data = digits()
    classifier = image_classifier(data, folder, STEPS)
    x = data.x[:700]  # more than are seen at once
    features, labels = classifier(x)
    assert features.shape == (700, 128)
    logits = classifier.network.classifier[-1](features)
    torch.testing.assert_close(logits, classifier.network(x.view(-1, 1, 8, 8)))
    assert torch.equal(labels, logits.argmax(-1))
    assert not features.requires_grad
    assert not classifier.network.training


def test_trained_or_read_it_leaves_the_run_its_random_numbers(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    for _ in ("trained", "read"):
        image_classifier(Stripes(), tmp_path, 2)
        assert torch.equal(torch.get_rng_state(), before)


def test_the_second_time_nothing_is_trained(folder: Path, monkeypatch) -> None:
    first = image_classifier(digits(), folder, STEPS)
    monkeypatch.setattr(module, "_train", None)
    second = image_classifier(digits(flatten=True, batch_size=7), folder, STEPS)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.accuracy == first.accuracy
    assert torch.equal(second.shares, first.shares)
    assert not second.network.training


def test_it_is_the_same_whatever_the_run(tmp_path: Path) -> None:
    files = []
    for seed in (1, 2):
        L.seed_everything(seed, verbose=False)
        before = torch.get_rng_state()
        with torch.inference_mode(seed == 2):
            image_classifier(Stripes(), tmp_path / str(seed), 20)
        assert torch.equal(torch.get_rng_state(), before)
        [path] = (tmp_path / str(seed)).iterdir()
        files.append((path.name, torch.load(path, weights_only=True)))
    (name, one), (other, two) = files
    assert name == other
    for key, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][key])


def test_its_file_is_named_after_all_that_it_depends_on(tmp_path: Path, monkeypatch) -> None:
    def names(data: DataModule, steps: int = 2) -> str:
        image_classifier(data, tmp_path, steps)
        return str(sorted(path.name for path in tmp_path.iterdir()))

    first = names(Stripes())
    assert names(Stripes(batch_size=3)) == first
    seen = {first}
    other_pixel, other_label, other_kind = Stripes(), Stripes(), Stripes(values="binary")
    other_pixel.x[7, 0, 3, 3] += 0.001
    other_label.y[3] = 0
    for data in (other_pixel, other_label, other_kind, Stripes(flatten=True)):
        seen.add(names(data))
    seen.add(names(Stripes(), steps=3))
    code = tmp_path.parent / "cnn.py"
    code.write_text("# another network")
    monkeypatch.setattr(module.cnn, "__file__", str(code))
    seen.add(names(Stripes()))
    assert len(seen) == 7


def cut(content: bytes) -> bytes:
    return content[:-100]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage) -> None:
    image_classifier(Stripes(), tmp_path, 5)
    [path] = tmp_path.iterdir()
    whole = torch.load(path, weights_only=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"smallcnn-\w+.ckpt cannot be used, another"):
        image_classifier(Stripes(), tmp_path, 5)
    again = torch.load(path, weights_only=True)
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][key])
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "temporary files left"


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("key", ["state_dict", "other"])
def test_a_forged_file_is_never_run(tmp_path: Path, key: str) -> None:
    mark, folder = tmp_path / "evil-was-here", tmp_path / "classifiers"
    image_classifier(Stripes(), folder, 2)
    [path] = folder.iterdir()
    torch.save({key: Evil(mark)}, path)
    with pytest.warns(UserWarning, match="cannot be used"):
        image_classifier(Stripes(), folder, 2)
    assert not mark.exists()


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1]])
def test_a_file_of_another_kind_is_replaced(tmp_path: Path, content) -> None:
    image_classifier(Stripes(), tmp_path, 2)
    [path] = tmp_path.iterdir()
    torch.save(content, path)
    with pytest.warns(UserWarning, match="cannot be used"):
        image_classifier(Stripes(), tmp_path, 2)


def test_a_folder_that_takes_no_files_costs_the_training_alone(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.warns(UserWarning, match="cannot be saved for the next run"):
        classifier = image_classifier(Stripes(), blocked / "below", 30)
    assert classifier.accuracy > 0.9


@pytest.mark.parametrize(("values", "flatten"), [("unit", True), ("logit", False), ("real", True)])
def test_every_kind_of_values_is_seen(tmp_path: Path, values: str, flatten: bool) -> None:
    data = Stripes(flatten, values)
    classifier = image_classifier(data, tmp_path, 25)
    assert classifier.accuracy > 0.95
    assert classifier(data.x)[0].shape == (60, 128)


def test_files_lie_beside_the_raw_data(monkeypatch, tmp_path: Path) -> None:
    data = Stripes()
    monkeypatch.setenv("TRELLIS_DATA", str(tmp_path))
    assert cache_folder(data) == tmp_path / "classifiers"
    monkeypatch.delenv("TRELLIS_DATA")
    assert cache_folder(data) == Path.home() / ".cache/trellis/classifiers"
    data.hparams["data_dir"] = "/elsewhere"
    assert cache_folder(data) == Path("/elsewhere/classifiers")


def test_images_of_a_split_are_drawn_once() -> None:
    data = digits()
    x = split_images(data, "val", 50)
    assert x.shape == (50, 64)
    assert torch.equal(x, split_images(data, "val", 50))
    assert len(split_images(data, "val", 999)) == 200
    val = {tuple(row) for row in data.x[data.splits["val"]].tolist()}
    assert {tuple(row) for row in x.tolist()} <= val
    assert len(torch.bincount(data.y[data.splits["val"]])) == 10


class Odd(Stripes):
    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec = spec


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (KarateClub(), "Eye needs a trellis data module of images; KarateClub is none"),
        (nn.Identity(), "Identity is none"),
        (
            Odd(TensorSpec(10, 2)),
            r"Eye, Odd: examples of shape \[10\] are not images: .*such as 784",
        ),
        (
            Odd(TensorSpec(1, 2, (3, 3))),
            "at least 4x4 pixels in at least 2 classes; Odd has 3x3 in 2",
        ),
        (Odd(TensorSpec(1, 1, (6, 6))), "Odd has 6x6 in 1"),
        (Odd(TensorSpec(1, 2, (6, 6), targets="real")), "needs class labels; Odd has real-valued"),
    ],
)
def test_what_cannot_be_classified_is_refused(data, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_classifiable("Eye", data)
