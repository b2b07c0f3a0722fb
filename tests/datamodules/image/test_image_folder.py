"""Folders of small files: what is read, how it is split, and what is refused by name."""

import csv
import io
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.pixels import PixelValues
from trellis.lightning_modules import cli
from trellis.nn import Mixup, RandomColour, RandomCrop, RandomFlip
from trellis.spec import TensorSpec


def picture(number: int, height: int = 6, width: int = 5, colours: int = 3) -> np.ndarray:
    """Random pixels, the first of which is the picture's number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, colours), "uint8")
    pixels[0, 0] = number
    return pixels if colours > 1 else pixels[..., 0]


def write(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 dogs, 8 cats (half of them deeper) and things that are no images of a class."""
    for number in range(20):
        name = "dog" if number < 12 else "cat" if number % 2 else "cat/deeper/still"
        write(tmp_path / name / f"{number:02}.png", picture(number))
    (tmp_path / "cat" / "notes.txt").write_text("cats")
    (tmp_path / "cat" / "._hidden.png").write_text("of a Mac")
    write(tmp_path / ".thumbnails" / "a.png", picture(99))
    (tmp_path / "readme.md").touch()
    return tmp_path


def ready(folder: Path, **options) -> ImageFolder:
    data = ImageFolder(str(folder), **options)
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def everything(data: ImageFolder, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*data.loader(split), strict=True)
    return torch.cat(x), torch.cat(y)


def test_sub_folders_are_classes_and_every_image_is_in_one_split(folder: Path) -> None:
    data = ready(folder, batch_size=3)
    assert data.spec == TensorSpec(3, 2, (6, 5), ("cat", "dog"), values="unit")
    seen = []
    for split, number in (("train", 16), ("val", 2), ("test", 2)):
        x, y = everything(data, split)
        assert x.shape == (number, 3, 6, 5)
        assert x.dtype == torch.float32
        numbers = (x[:, 0, 0, 0] * 255).round().long()
        for image, label, n in zip(x, y, numbers.tolist(), strict=True):
            expected = torch.as_tensor(picture(n)).permute(2, 0, 1) / 255
            torch.testing.assert_close(image, expected)
            assert data.spec.classes[label] == ("dog" if n < 12 else "cat")
        seen += numbers.tolist()
    assert sorted(seen) == list(range(20))


def test_splits_are_those_of_the_seed(folder: Path) -> None:
    def val(**options) -> list[float]:
        return everything(ready(folder, val_share=0.4, **options), "val")[0][:, 0, 0, 0].tolist()

    assert val() == val()
    assert val() != val(seed=1)
    assert len(val()) == 8


def test_images_without_sub_folders_are_one_class(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.png", picture(number))
    (tmp_path / "empty").mkdir()
    data = ready(tmp_path)
    assert data.spec == TensorSpec(3, 1, (6, 5), (), values="unit")
    assert [len(everything(data, split)[1]) for split in ("train", "val", "test")] == [3, 1, 1]
    assert not everything(data, "train")[1].any()


@pytest.mark.parametrize("flatten", [False, True])
def test_grey_images_have_one_channel(folder: Path, flatten: bool) -> None:
    data = ready(folder, grey=True, flatten=flatten)
    x, _ = everything(data, "test")
    assert x.shape == ((2, 30) if flatten else (2, 1, 6, 5))
    assert data.spec.shape == tuple(x.shape[1:])
    candidates = [grey(picture(number)).flatten() / 255 for number in range(20)]
    assert sum(torch.allclose(x[0].flatten(), c, atol=1e-6) for c in candidates) == 1


def grey(pixels: np.ndarray) -> torch.Tensor:
    """The luma of ITU-R 601, rounded."""
    luma = torch.as_tensor(pixels).double() @ torch.tensor([0.299, 0.587, 0.114]).double()
    return luma.round().float()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_files_of_every_colour_become_three_channels(tmp_path: Path, mode: str) -> None:
    even = np.full((4, 4, 3), 255, "uint8")
    for number in range(3):
        ending = "jpg" if mode == "CMYK" else "png"
        Image.fromarray(even).convert(mode).save(tmp_path / f"{number}.{ending}")
    x, _ = everything(ready(tmp_path), "train")
    assert x.shape == (1, 3, 4, 4)
    torch.testing.assert_close(x, torch.ones(1, 3, 4, 4), atol=0.01, rtol=0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize("background", [255, 0, 128])
def test_what_is_transparent_shows_the_background(
    tmp_path: Path, mode: str, background: int
) -> None:
    """A shape of which only the transparency tells: without it all pixels are alike."""
    shape = np.zeros((4, 4, 4), "uint8")
    shape[..., :3] = 64
    shape[1:3, 1:3, 3] = 255
    for number in range(3):
        path = tmp_path / f"{number}.png"
        if mode in ("P", "L"):  # one colour is transparent
            index = np.where(shape[..., 3] > 0, 64, 7).astype("uint8")
            image = Image.fromarray(index)
            if mode == "P":
                image.putpalette([level for level in range(256) for _ in range(3)])
            image.save(path, transparency=7)
        else:
            Image.fromarray(shape).convert(mode).save(path)
    expected = torch.full((4, 4), background / 255)
    expected[1:3, 1:3] = 64 / 255
    for grey in (False, True):
        options = {} if background == 255 else {"background": background}
        x, _ = everything(ready(tmp_path, grey=grey, **options), "train")
        torch.testing.assert_close(x[0], expected.expand(x.size(1), 4, 4), atol=1e-3, rtol=0)


def test_the_middle_is_scaled_to_the_size(tmp_path: Path) -> None:
    """Of a wide image with dark sides the bright square in its middle is left."""
    wide = np.zeros((10, 30, 3), "uint8")
    wide[:, 10:20] = 200
    tall = wide.transpose(1, 0, 2).copy()
    for number, pixels in enumerate((wide, tall, wide[:, 10:20], tall)):
        write(tmp_path / f"{number}.png", pixels)
    data = ready(tmp_path, size=4)
    assert data.spec.size == (4, 4)
    for split in ("train", "val", "test"):
        x, _ = everything(data, split)
        torch.testing.assert_close(x, torch.full_like(x, 200 / 255), atol=0.01, rtol=0)
    assert ready(tmp_path, size=(3, 7)).spec.size == (3, 7)
    assert everything(ready(tmp_path, size=(3, 7)), "val")[0].shape == (1, 3, 3, 7)


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_is_as_large_as_the_shape_allows(tmp_path: Path, upright: bool) -> None:
    """Twice as wide as high of a square: all columns, the inner half of the rows."""
    square = np.full((12, 12, 3), 100, "uint8")
    square[:, :3] = square[:, 9:] = 200
    square[:3] = square[9:] = 0
    for number in range(3):
        write(tmp_path / f"{number}.png", square.swapaxes(0, 1).copy() if upright else square)
    x, _ = everything(ready(tmp_path, size=(6, 3) if upright else (3, 6)), "train")
    x = x[0].mT if upright else x[0]
    assert x.shape == (3, 3, 6)
    expected = torch.tensor([200, 150, 100, 100, 150, 200]).expand(3, 3, 6) / 255
    torch.testing.assert_close(x, expected, atol=0.05, rtol=0)


def test_a_camera_held_upright(tmp_path: Path) -> None:
    """The orientation that cameras write beside the pixels is followed."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    for number in range(3):
        write(tmp_path / f"{number}.png", picture(number, 4, 9), exif=exif)
    data = ready(tmp_path)
    x, _ = everything(data, "train")
    number = int(x[0, 0, 0, -1] * 255 + 0.5)
    expected = torch.as_tensor(np.rot90(picture(number, 4, 9), -1).copy()).permute(2, 0, 1)
    torch.testing.assert_close(x[0], expected / 255)


def test_values_of_evaluation_are_drawn_once_and_of_training_each_epoch(folder: Path) -> None:
    for pixels, values in (("dynamic", "binary"), ("dequantized", "dequantized")):
        data = ready(folder, pixels=pixels, batch_size=16, seed=2)
        assert data.spec.values == values
        first, second = (everything(data, "val")[0] for _ in range(2))
        assert torch.equal(first, second)
        loader = data.loader("train")
        loader.shuffle = False
        [(a, _)] = loader
        [(again, _)] = loader
        loader.set_epoch(1)
        [(b, _)] = loader
        assert torch.equal(a, again)
        assert not torch.equal(a, b)


def test_static_bits_stay_and_are_about_as_bright(folder: Path) -> None:
    data = ready(folder, pixels="static", batch_size=16)
    for _ in range(2):
        loader = data.loader("train")
        loader.shuffle = False
        [(x, _)] = loader
        assert set(x.unique().tolist()) == {0.0, 1.0}
        expected = data.splits["train"][0].float().mean() / 255
        assert float(x.mean()) == pytest.approx(float(expected), abs=0.05)
    loader.set_epoch(3)
    assert torch.equal(next(iter(loader))[0], x)


def test_logits_are_those_of_pixel_values(folder: Path) -> None:
    data = ready(folder, pixels="logit", alpha=0.05, seed=3)
    assert (data.spec.values, data.spec.alpha) == ("logit", 0.05)
    expected = PixelValues("logit", 0.05, 3)(data.splits["val"][0], 1, 0).view(-1, 3, 6, 5)
    assert torch.equal(everything(data, "val")[0], expected)


def test_training_images_are_changed_and_others_are_not(folder: Path) -> None:
    steps = [partial(RandomCrop, padding=2), RandomFlip, RandomColour, Mixup]
    for grey in (False, True):
        plain = ready(folder, batch_size=4, grey=grey)
        data = ready(folder, batch_size=4, grey=grey, augmentations=steps)
        for split in ("val", "test"):
            assert torch.equal(everything(data, split)[0], everything(plain, split)[0])
        (x, y), (old, labels) = (next(iter(each.loader("train"))) for each in (data, plain))
        assert x.shape == old.shape
        assert not torch.allclose(x, old)
        assert y.shape == (len(labels), 2)
    flat = next(
        iter(ready(folder, batch_size=4, flatten=True, augmentations=steps).loader("train"))
    )
    assert flat[0].shape == (4, 90)


@pytest.mark.long
def test_a_classifier_learns_from_mixed_sizes_and_predicts_by_name(tmp_path: Path) -> None:
    """Bright and dark photographs of many sizes; new ones in folders of any depth, in order."""
    draw = np.random.default_rng(0)
    for number in range(40):
        height, width = draw.integers(8, 30, 2)
        level = (40, 200)[number % 2]
        pixels = draw.integers(level - 30, level + 30, (height, width, 3), "uint8")
        write(tmp_path / "photos" / ("dark", "bright")[number % 2] / f"{number}.png", pixels)
        if number < 6:
            write(tmp_path / "new" / ("b", "a", "c")[number % 3] / f"x{number}.png", pixels)
    data = ("--data=ImageFolder", f"--data.path={tmp_path / 'photos'}", "--data.size=8")
    change = "[{class_path: RandomFlip}, {class_path: RandomCrop, init_args: {padding: 1}}]"
    model = ("--model=Classification", "--model.network=SmallCNN", "--model.network.channels=4",
             "--model.optimizer=Adam", "--model.optimizer.lr=0.01")  # fmt: skip
    runs = tmp_path / "runs"
    quiet = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
             f"--trainer.default_root_dir={runs}", "--trainer.run_name=photos")  # fmt: skip
    cli.main(["fit", *model, *data, f"--data.augmentations={change}", "--data.batch_size=8",
              "--trainer.max_epochs=8", *quiet])  # fmt: skip
    checkpoint = runs / "photos" / "0" / "checkpoints" / "last.ckpt"
    (tmp_path / "photos" / "dark").rename(tmp_path / "elsewhere")
    found = predicted(checkpoint, str(tmp_path / "new"), *quiet)
    assert [row["id"] for row in found] == [
        f"{n}" for n in ("a/x1.png", "a/x4.png", "b/x0.png", "b/x3.png", "c/x2.png", "c/x5.png")
    ]
    bright = [float(row["bright"]) > 0.5 for row in found]
    assert bright == [int(row["id"][3]) % 2 == 1 for row in found]
    one = predicted(checkpoint, str(tmp_path / "new" / "c" / "x5.png"), *quiet)
    assert [row["id"] for row in one] == ["x5.png"]
    assert float(one[0]["bright"]) == pytest.approx(float(found[-1]["bright"]), abs=1e-5)


def predicted(checkpoint: Path, given: str, *options: str) -> list[dict[str, str]]:
    cli.main(["predict", str(checkpoint), "--input", given, *options])
    newest = max(
        checkpoint.parents[2].rglob("predictions.csv"), key=lambda p: p.stat().st_mtime_ns
    )
    return list(csv.DictReader(newest.open(newline="")))


def test_new_images_must_fit_what_was_learned(folder: Path, tmp_path: Path, monkeypatch) -> None:
    spec = ready(folder).spec
    new = write(tmp_path / "new" / "a.png", picture(3, 7, 5))
    data = ImageFolder(str(folder))
    with pytest.raises(
        ValueError, match=r"a\.png has 7x5 .*learned from \[3, 6, 5\]: give data.si"
    ):
        data.inputs(str(new), spec)
    loader, names = ImageFolder(str(folder), size=(6, 5)).inputs(str(new.parent), spec)
    assert (next(iter(loader))[0].shape, names) == ((1, 3, 6, 5), ["a.png"])
    with pytest.raises(FileNotFoundError, match="input=nowhere"):
        data.inputs("nowhere", spec)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the folder holds no images"):
        data.inputs(str(tmp_path / "empty"), spec)


def test_an_image_comes_from_a_pipe(folder: Path, tmp_path: Path, monkeypatch) -> None:
    data, spec = ImageFolder(str(folder)), ready(folder).spec
    whole = write(tmp_path / "pipe.png", picture(5)).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(whole)))
    loader, names = data.inputs("-", spec)
    expected = torch.as_tensor(picture(5)).permute(2, 0, 1) / 255
    torch.testing.assert_close(next(iter(loader))[0][0], expected)
    assert names == ["-"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no image")))
    with pytest.raises(ValueError, match="- cannot be read as an image"):
        data.inputs("-", spec)


def test_images_that_cannot_be_read_are_skipped_on_request(folder: Path) -> None:
    (folder / "cat" / "21.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 21 images are skipped: .*cat/21\.png cannot be"):
        data = ready(folder, unreadable="skip")
    plain = ready(folder_without(folder, "cat/21.png"))
    for split in ("train", "val", "test"):
        for ours, theirs in zip(everything(data, split), everything(plain, split), strict=True):
            assert torch.equal(ours, theirs)


def folder_without(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


# --- refusals ----------------------------------------------------------------------------------


def test_different_sizes_name_two_files_and_the_fix(folder: Path) -> None:
    write(folder / "dog" / "99.png", picture(99, 7, 5))
    with pytest.raises(ValueError, match=r"cat/13\.png has 6x5 \(h.*dog/99\.png has 7x5.*size="):
        ready(folder)
    assert ready(folder, size=5).spec.size == (5, 5)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_an_unreadable_file_is_named(folder: Path, content) -> None:
    path = folder / "cat" / "21.png"
    whole = write(folder / "elsewhere" / "a.png", picture(1)).read_bytes()
    path.write_bytes(whole[:60] if content == "cut" else content)
    with pytest.raises(ValueError, match=r"cat/21\.png cannot be read as an image \(.+\): repair"):
        ready(folder)


def test_deep_pixels_are_refused_instead_of_cut(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.png", np.full((4, 4), 40_000, "uint16"))
    with pytest.raises(ValueError, match=r"0\.png .*its pixels are of kind I;16, not bytes"):
        ready(tmp_path)


def test_layouts_that_are_unclear_are_refused(folder: Path) -> None:
    loose = write(folder / "loose.png", picture(1))
    with pytest.raises(ValueError, match=r"holds loose.png beside folders of images: move it"):
        ready(folder)
    loose.unlink()
    (folder / "bird").mkdir()
    with pytest.raises(ValueError, match="bird holds no images: remove it, or add some"):
        ready(folder)


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("test", "train", "x")])
def test_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names * 3):
        write(tmp_path / name / "cat" / f"{number}.png", picture(number))
    with pytest.raises(ValueError, match="which are splits and no classes: give path="):
        ready(tmp_path)


def test_a_class_that_only_tests_is_named(folder: Path) -> None:
    write(folder / "bird" / "99.png", picture(99))
    found = set()
    for seed in range(30):
        try:
            ready(folder, seed=seed)
        except ValueError as error:
            found.add(str(error).partition(": ")[2])
    message = "no image of 'bird' is in the training split, of 17 images: give more of them,"
    assert found == {f"{message} smaller shares or another seed"}


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 0 images: give at least 3"):
        ready(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        ready(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size=0: give at least 1"),
        ({"size": (4, -1)}, "size=-1: give at least 1"),
        ({"val_share": 0.5, "test_share": 0.5}, "val_share=0.5, test_share=0.5: give shares"),
        ({"val_share": -0.1}, "val_share=-0.1"),
        ({"pixels": "normalized"}, "pixels='normalized': choose from unit"),
        ({"pixels": "logit", "alpha": 0.7}, "alpha=0.7"),
        ({"unreadable": "ignore"}, "unreadable='ignore': choose from error"),
        ({"pixels": "static", "augmentations": [RandomFlip]}, "pixels='static': augmentations"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options, match) -> None:
    with pytest.raises(ValueError, match=match):
        ImageFolder(str(tmp_path), **options)


def test_without_pillow_it_says_what_to_install(folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        ready(folder)
