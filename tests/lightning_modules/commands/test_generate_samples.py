"""``trellis generate`` for models of images and points: what it writes, and what it refuses."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from text_checkpoints import failing, language_model_of, save

from trellis import load
from trellis.analysis.images import to_pixels
from trellis.lightning_modules import cli
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.gan import GAN
from trellis.lightning_modules.generative.sampling import draw_samples
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.generative.flow_autoregressive import MAF
from trellis.networks.generative.gan import MLPDiscriminator, MLPGenerator
from trellis.sequence.tokenizer import CharTokenizer
from trellis.spec import TensorSpec

IMAGES = TensorSpec(1, 3, (6, 5), ("cat", "dog", "7"), values="unit")
POINTS = TensorSpec(2, 2)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def gan_of(spec: TensorSpec, conditional: bool = False) -> str:
    torch.manual_seed(0)
    objective = GAN(
        partial(MLPGenerator, hidden_channels=(8,), output="identity"),
        partial(MLPDiscriminator, hidden_channels=(8,)),
        spec=spec,
        conditional=conditional,
    )
    objective.configure_model()
    for parameter in objective.generator.parameters():
        parameter.data.mul_(3)
    return save(objective, Path("gan.ckpt"))


def written(capsys: pytest.CaptureFixture[str], *words: str) -> Path:
    cli.main(["generate", *words])
    return Path(capsys.readouterr().out.strip())


def test_a_grid_of_64_images_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    path = gan_of(IMAGES)
    assert written(capsys, path) == Path("samples.png")
    x = to_pixels(draw_samples(load(path), 64, seed=0), IMAGES)
    shown = imread("samples.png")[..., :3]
    zoom = shown.shape[0] // (8 * 7 + 1)
    assert shown.shape == (zoom * (8 * 7 + 1), zoom * (8 * 6 + 1), 3)
    assert max(shown.shape) >= 500
    for place in (0, 7, 8, 63):
        row, column = divmod(place, 8)
        top, left = 1 + 7 * row, 1 + 6 * column
        middle = slice(zoom // 2, None, zoom)
        image = shown[middle, middle][top : top + 6, left : left + 5, 0]
        np.testing.assert_allclose(image, x[place, 0], atol=1 / 255)


def test_nothing_is_ever_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    path = gan_of(IMAGES)
    names = [written(capsys, path, "--num", "2").name for _ in range(3)]
    assert names == ["samples.png", "samples_2.png", "samples_3.png"]
    content = Path("samples.png").read_bytes()
    text = failing(capsys, "generate", path, "--output", "samples.png")
    assert "--output samples.png already exists: give another name" in text
    assert Path("samples.png").read_bytes() == content


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_numbers_are_those_of_the_model(capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    path = gan_of(TensorSpec(10, 2))  # of which there is no picture
    found = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        file = written(capsys, path, "--num", "5", "--seed", seed, "--output", name + suffix)
        read = torch.load(file, weights_only=True) if suffix == ".pt" else np.load(file)
        found.append(torch.as_tensor(read))
    torch.testing.assert_close(found[0], draw_samples(load(path), 5, seed=1))
    assert found[0].shape == (5, 10)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_points_become_dots(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from trellis.analysis import points

    figures, draw = [], points.scatter_picture
    monkeypatch.setattr(
        points, "scatter_picture", lambda *args: figures.append(draw(*args)) or figures[-1]
    )
    path = gan_of(POINTS)
    assert written(capsys, path, "--num", "30").stat().st_size > 5_000
    dots = figures[0].axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(dots, draw_samples(load(path), 30, seed=0), rtol=1e-5)
    assert written(capsys, path, "--output", "p.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("label", "expected"), [(None, [0, 1, 2, 0]), ("dog", [1] * 4), ("2", [2] * 4), ("7", [2] * 4)]
)
def test_labels_by_name_and_number(
    capsys: pytest.CaptureFixture[str], label: str | None, expected: list[int]
) -> None:
    path = gan_of(IMAGES, conditional=True)
    words = [] if label is None else ["--label", label]
    written(capsys, path, "--num", "4", "--output", "x.pt", *words)
    labels = torch.tensor(expected)
    x = draw_samples(load(path), 4, seed=0, labels=labels)
    torch.testing.assert_close(torch.load("x.pt", weights_only=True), x)
    other = draw_samples(load(path), 4, seed=0, labels=(labels + 1) % 3)
    assert not torch.allclose(x, other)


def posterior() -> str:
    torch.manual_seed(0)
    flow = partial(MAF, hidden_channels=(8,))
    objective = DensityEstimation(flow, spec=TensorSpec(2, 3, targets="real"), conditional=True)
    objective.configure_model()
    return save(objective, Path("flow.ckpt"))


def test_real_targets_are_given_as_a_context(capsys: pytest.CaptureFixture[str]) -> None:
    path, context = posterior(), ["--context", "0.5", "-1", "2e-1"]
    written(capsys, path, "--num", "4", "--output", "x.pt", *context)
    y = torch.tensor([[0.5, -1.0, 0.2]] * 4)
    x = draw_samples(load(path), 4, seed=0, labels=y)
    torch.testing.assert_close(torch.load("x.pt", weights_only=True), x)
    assert not torch.allclose(x, draw_samples(load(path), 4, seed=0, labels=-y))
    assert written(capsys, path, *context).name == "samples.png"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [],
            "--context is missing: this DensityEstimation is conditional on real targets, give 3",
        ),
        (["--context", "1", "2"], "--context has 2 numbers: this DensityEst"),
        (["--label", "1"], "--label 1: this DensityEstimation was trained on real targets: give"),
    ],
)
def test_a_context_that_does_not_fit_is_named(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in failing(capsys, "generate", posterior(), *words)


def test_in_turn_each_column_is_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    path = gan_of(IMAGES, conditional=True)
    assert imread(written(capsys, path, "--num", "12")).shape[0] % (4 * 7 + 1) == 0


def test_samples_that_are_no_numbers_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, num_samples: int) -> torch.Tensor:
        x = torch.zeros(num_samples, *self.spec.shape)
        x[1, 0, 2, 2], x[3, 0] = torch.nan, torch.inf
        return x

    monkeypatch.setattr(GAN, "sample", broken)
    cli.main(["generate", gan_of(IMAGES), "--num", "6"])
    assert "2 of 6 samples are not finite" in capsys.readouterr().err


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words", "message"),
    [
        (IMAGES, ["--prompt", "to be"], "--prompt is not an option of the GAN in gan.ckpt"),
        (IMAGES, ["--top_k", "3"], "--top_k is not an option of the GAN"),
        (IMAGES, ["--num", "0"], "num=0: give at least 1"),
        (IMAGES, ["--label", "dog"], "--label dog: this GAN was trained with cond"),
        (IMAGES, ["--context", "1"], "--context: this GAN is not conditional on real targets"),
        (IMAGES, ["--output", "a.gif"], "--output a.gif: unknown suffix, give one of"),
        (IMAGES, ["--output", "no/a.png"], "--output no/a.png: there is no folder no"),
        (TensorSpec(10, 2), [], "for a tensor, give --output samples.pt or .npy"),
        (TensorSpec(2, 2, (8, 8)), [], "images of 2 channels cannot be shown"),
    ],
)
def test_impossible_requests_are_named(
    capsys: pytest.CaptureFixture[str], spec: TensorSpec, words: list[str], message: str
) -> None:
    assert message in failing(capsys, "generate", gan_of(spec), *words)
    assert [path.name for path in Path().iterdir()] == ["gan.ckpt"]


@pytest.mark.parametrize("label", ["horse", "3", "-1"])
def test_unknown_labels_are_named(capsys: pytest.CaptureFixture[str], label: str) -> None:
    path = gan_of(IMAGES, conditional=True)
    text = failing(capsys, "generate", path, f"--label={label}")
    assert f"--label {label}: choose from cat, dog, 7" in text


def test_an_objective_that_generates_nothing_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    objective = Classification(spec=POINTS)
    objective.configure_model()
    text = failing(capsys, "generate", save(objective, Path("c.ckpt")))
    assert "c.ckpt holds Classification, which cannot generate: give a CausalLM, or" in text


def test_a_wrong_file_is_found_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = language_model_of(CharTokenizer(["abc\n"]), tmp_path)
    assert "--output is not an option of the CausalLM" in failing(
        capsys, "generate", path, "--output", "a.png"
    )
    assert "unknown suffix" in failing(capsys, "generate", "nowhere.ckpt", "--output", "a.doc")


def test_missing_matplotlib_is_named_and_numbers_need_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gan_of(IMAGES)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "torch-trellis[viz]" in failing(capsys, "generate", path)
    assert written(capsys, path, "--output", "a.pt").is_file()
